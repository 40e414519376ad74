"""Two-way transfer: the panel's images on a victim, the victim's images on the panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...attacks.entry import Entry
from ...leaderboard.record.record import TransferCell
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.answers import checked_answers
from ..asking.clean import CleanAnswers
from ..asking.reading import reading_of
from ..battery.ground import Asking
from ..battery.panel import Member, SourceImages, Sources
from ..machine.seeds import generator
from ..running.run import EntryFailure, Results
from ..running.shards import ShardResult
from .attack_results import headline
from .intervals import proportion, unmeasured


@dataclass(frozen=True)
class Side:
    """A source or a victim of transfer, on the clean evaluation images."""

    name: str
    label: np.ndarray
    """`(n,)`; -1: rejected."""
    tau: float | None


def side_of(name: str, clean: CleanAnswers) -> Side:
    """The submission's own victim as a side."""
    return Side(name, clean.reading.label.cpu().numpy(), clean.tau)


def transfer(
    entries: Sequence[Entry],
    results: Results,
    clean: CleanAnswers,
    victim: Classifier,
    sources: Sources,
    load: Callable[[str], Classifier],
    how: Asking,
) -> list[TransferCell]:
    """Every panel model's images on the victim, then the victim's images on every panel model (`load`ed by name)."""
    truth = clean.truth.cpu().numpy()
    own = side_of("submission", clean)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    cells = []
    for member in sources.members:
        there = Side(member.name, member.label, member.tau)
        for group, members in groups.items():
            made = _made_on(member, members, sources)
            cells.append(_cell(group, members[0], there, own, made, victim, truth, how))
    for member in sources.members:
        there = Side(member.name, member.label, member.tau)
        model = load(member.name)
        for group, members in groups.items():
            outcome = headline(members, results)
            made = None if isinstance(outcome, EntryFailure) else _as_source(outcome)
            cells.append(_cell(group, members[0], own, there, made, model, truth, how))
    return cells


def _made_on(member: Member, entries: Sequence[Entry], sources: Sources) -> SourceImages | None:
    found = [sources.images.get((member.name, e.name)) for e in (entries if entries[0].best_of else entries[:1])]
    there = [f for f in found if f is not None]
    if not there:
        return None
    if len(there) == 1:
        return there[0]
    rank = np.stack([s.fooled * 2.0 + s.confidence for s in there]).argmax(0)
    rows = np.arange(len(rank))
    names = ("images", "attacked", "fooled", "label", "confidence")
    return SourceImages(member.name, *(np.stack([getattr(s, name) for s in there])[rank, rows] for name in names))


def _as_source(outcome: ShardResult) -> SourceImages:
    return SourceImages(
        "submission", outcome.images, outcome.attacked, outcome.fooled, outcome.label, outcome.confidence
    )


def _cell(
    group: str,
    entry: Entry,
    source: Side,
    victim: Side,
    made: SourceImages | None,
    model: Classifier,
    truth: np.ndarray,
    how: Asking,
) -> TransferCell:
    def cell(any_label, same_label) -> TransferCell:
        return TransferCell(
            source=source.name, victim=victim.name, attack=group, any_label=any_label, same_label=same_label
        )

    if made is None:
        nothing = unmeasured("the source has no images of this attack of its own")
        return cell(nothing, nothing)
    rows = entry.tasks * len(entry.targets) if entry.task == "fool" else entry.tasks
    chosen = made.attacked[:rows] & made.fooled[:rows]
    if entry.task == "perturb":
        chosen = chosen & (source.label[:rows] == truth[:rows]) & (victim.label[:rows] == truth[:rows])
    at = chosen.nonzero()[0]
    if len(at) == 0:
        nothing = proportion(
            0,
            0,
            "no task on which the source was fooled and both are right on the clean image"
            if entry.task == "perturb"
            else "no task on which the source was fooled",
        )
        return cell(nothing, nothing)
    images = from_bytes(torch.from_numpy(made.images[at]).to(model.device))
    reading = reading_of(checked_answers(model, images, generator("transfer", device=model.device), how))
    label, confidence = reading.label.cpu().numpy(), reading.confidence.cpu().numpy()
    if entry.task == "perturb":
        fooled = (label >= 0) & (label != truth[at])
        same = fooled & (label == made.label[at])
    else:
        if victim.tau is None:
            nothing = unmeasured("the victim gets no clean image right, so there is no τ")
            return cell(nothing, nothing)
        targets = np.tile(np.array(entry.targets), entry.tasks)[at]
        fooled = (label >= 0) & (confidence >= victim.tau)
        same = fooled & (label == targets)
    return cell(proportion(int(fooled.sum()), len(at)), proportion(int(same.sum()), len(at)))
