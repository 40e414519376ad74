"""The whole of what a victim built anew is for: it judges, and is asked what the searched one was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...attacks.entry import Entry
from ...leaderboard.record.known import Known, Recognition
from ...leaderboard.record.seen import Fresh, Informative
from ..asking.informative import informative
from ..asking.out_of_distribution import out_of_distribution
from ..machine.seeds import generator
from ..running.prepared import Prepared
from ..running.run import EntryFailure
from ..running.shards import ShardResult
from .anew import Anew
from .memorised import Unknown
from .questions import Question
from .recognition import Beginnings
from .stateful import Repeated
from .verdicts import Results, finals, judged_anew

AskedAnew = Callable[[Sequence[Question]], Anew]
"""Builds the victim anew and asks it; see anew.py."""


@dataclass(frozen=True)
class Another:
    """What it answered, and what follows from that."""

    results: dict[str, ShardResult | EntryFailure]
    """With its verdicts, which count."""
    fresh: Fresh
    known: Known
    recognition: Recognition | None
    informative: Informative | None


def judged_by_another(
    prepared: Prepared, plan: Sequence[Entry], results: Results, anew: AskedAnew, digest: str
) -> Another:
    """Ask a victim built anew about the searches' own queries, then about every final image, then about some images in
    other company, images that it cannot know, and images of nothing. `digest`: the victim's, which fixes what of these
    nobody may know beforehand. Raises FoolbenchError.
    """
    repeated, judged = Repeated(prepared, plan, results), finals(prepared, plan, results)
    ran = [entry for entry in plan if prepared.needless(entry) is None]
    unknown, beginnings = Unknown(prepared, digest), Beginnings(prepared, ran, digest)
    first, then = repeated.first(), repeated.then()
    last = [_unlike(prepared), unknown.question(), beginnings.question()]
    questions = [*first, *(found.question for found in judged), *then, *last]
    asked = anew(questions)
    answers, a, b, c = asked.answers, len(first), len(first) + len(judged), len(questions) - len(last)
    corrected, changed = judged_anew(prepared, judged, answers[a:b], results)
    fresh = Fresh(
        process=asked.process,
        why=asked.why,
        failed=asked.failed,
        searched=repeated.searched(answers[:a]),
        company=repeated.company(answers[b:c]),
        verdicts=changed,
    )
    told = [*zip(first, answers[:a], strict=True), *((questions[i], answers[i]) for i in (c - 1, c))]
    images, said = (np.concatenate(parts) for parts in zip(*((q.images, x[0]) for q, x in told), strict=True))
    tells = _informative(prepared, images, said)
    known, recognition = unknown.known(answers[c + 1]), beginnings.recognition(answers[c + 2])
    return Another(corrected, fresh, known, recognition, tells)


def _unlike(prepared: Prepared) -> Question:
    """Images of many kinds, whose answers an honest victim tells apart."""
    name = prepared.spec.name
    rng = generator(name, "informative", "images", device=prepared.victim.device)
    made = out_of_distribution(prepared.clean.images, rng)
    images = prepared.ground.levels.to_bytes(made).cpu().numpy()
    return Question(images, (name, "informative", "victim"), prepared.ground.asking)


def _informative(prepared: Prepared, images: np.ndarray, answers: np.ndarray) -> Informative | None:
    """None of a victim where chance decides, since a search is shown the mean of several draws."""
    if prepared.clean.randomised:
        return None
    return informative(prepared.victim, prepared.spec.name, prepared.spec.batch, images, answers)
