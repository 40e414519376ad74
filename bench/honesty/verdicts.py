"""Final images judged again by a victim that was never searched: where the two verdicts differ, its verdict counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...attacks.entry import Entry
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..machine.seeds import generator
from ..running.judge import Verdicts, judge_fool, judge_perturb
from ..running.prepared import Prepared
from ..running.run import EntryFailure
from ..running.shards import Shard, ShardResult, cut
from .questions import Question

Results = Mapping[str, ShardResult | EntryFailure]


@dataclass(frozen=True)
class Finals:
    """The judged images of one shard."""

    shard: Shard
    rows: np.ndarray
    """`(n,)`: which rows of the entry's result they are."""
    question: Question
    """As the judge of the shard asked."""


def finals(prepared: Prepared, plan: Sequence[Entry], results: Results) -> list[Finals]:
    """All images that were judged, shard by shard."""
    found = []
    for entry in plan:
        result = results[entry.name]
        if isinstance(result, EntryFailure):
            continue
        for shard, rows in _rows(entry):
            rows = rows[result.attacked[rows]]
            if len(rows):
                stream = (prepared.spec.name, entry.name, shard.index, "judge")
                question = Question(result.images[rows], stream, prepared.ground.asking, prepared.draws)
                found.append(Finals(shard, rows, question))
    return found


def _rows(entry: Entry) -> Iterator[tuple[Shard, np.ndarray]]:
    each = len(entry.targets) if entry.task == "fool" else 1
    for shard in cut(entry):
        yield shard, np.arange(shard.start * each, shard.stop * each)


def judged_anew(
    prepared: Prepared, asked: Sequence[Finals], answers: Sequence[np.ndarray], results: Results
) -> tuple[dict[str, ShardResult | EntryFailure], dict[str, tuple[int, int, int]]]:
    """The results with the fresh victim's verdicts where those differ, and of each entry where any does, how many
    images were judged, were fooled before and are now."""
    changed: dict[str, ShardResult | EntryFailure] = dict(results)
    for finals, given in zip(asked, answers, strict=True):
        name = finals.shard.entry.name
        result = changed[name]
        assert isinstance(result, ShardResult)
        changed[name] = _corrected(result, finals.rows, _judged(prepared, finals, given))
    told = {}
    for name, result in changed.items():
        before = results[name]
        if isinstance(result, ShardResult) and isinstance(before, ShardResult) and result is not before:
            told[name] = int(before.attacked.sum()), int(before.fooled.sum()), int(result.fooled.sum())
    return changed, told


def _judged(prepared: Prepared, finals: Finals, answers: np.ndarray) -> Verdicts:
    entry, question, clean = finals.shard.entry, finals.question, prepared.clean
    device = prepared.victim.device
    victim = _saying(prepared.victim, answers)
    images = from_bytes(torch.from_numpy(question.images).to(device))
    draws, how, rng = question.draws, question.how, generator(*question.stream, device=device)
    rows = torch.from_numpy(finals.rows).to(device)
    if entry.task == "fool":
        targets = torch.tensor(entry.targets, dtype=torch.int64, device=device)[rows % len(entry.targets)]
        tau = 2.0 if clean.tau is None else clean.tau
        flat = prepared.spec.judge.flat_confidence
        return judge_fool(victim, images, targets, tau=tau, flat=flat, draws=draws, how=how, rng=rng)
    assert entry.limit is not None
    originals, labels = clean.images[rows], clean.reading.label[rows]
    aims = clean.aims(entry, rows)
    return judge_perturb(victim, images, originals, labels, aims, limit=entry.limit, draws=draws, how=how, rng=rng)


def _saying(victim: Classifier, answers: np.ndarray) -> Classifier:
    """A victim that says these `(draws, n, K)` answers, in the order in which the judge asks for them."""
    left = torch.from_numpy(answers.reshape(-1, answers.shape[-1])).to(victim.device)
    at = 0

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        nonlocal at
        at += len(images)
        return left[at - len(images) : at]

    return replace(victim, probabilities=probabilities)


def _corrected(result: ShardResult, rows: np.ndarray, fresh: Verdicts) -> ShardResult:
    """A row keeps its verdict where the fresh victim confirms it; a refused image stays refused."""
    kept = result.refused[rows] == ""
    fooled = fresh.fooled.numpy()
    differs = kept & (fooled != result.fooled[rows])
    flat = kept & fresh.fooled_flat.numpy() & ~result.fooled_flat[rows]
    if not (differs | flat).any():
        return result
    new = {name: getattr(result, name).copy() for name in ("fooled", "fooled_flat", "label", "confidence", "share")}
    for name, values in new.items():
        values[rows[differs]] = getattr(fresh, name).numpy()[differs]
    new["fooled_flat"][rows[flat]] = True
    return replace(result, **new)
