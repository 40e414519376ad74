"""The whole of what a victim built anew is for: it judges, and is asked what the searched one was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...attacks.entry import Entry
from ...leaderboard.record.known import Known, Recognition
from ...leaderboard.record.seen import Fresh, Informative
from ..running.prepared import Prepared
from ..running.run import EntryFailure
from ..running.shards import ShardResult
from .anew import Anew
from .informative import informative, unlike
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
    unknown, beginnings = Unknown(prepared, digest), Beginnings(prepared, plan, digest)
    first, then = repeated.first(), repeated.then()
    last = [unlike(prepared), unknown.question(), beginnings.question()]
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
    tells = informative(prepared, images, said)
    known, recognition = unknown.known(answers[c + 1]), beginnings.recognition(answers[c + 2])
    return Another(corrected, fresh, known, recognition, tells)
