"""Outcomes to the results of attacks: their ratios, medians, curves and task rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...attacks.entry import Entry
from ...leaderboard.record.record import AttackResult, TaskRow, Variant
from ..asking.clean import CleanAnswers
from ..running.run import EntryFailure, Results
from ..running.shards import ShardResult, best_of, best_setting
from ..running.surrogate import granted, stands_in
from .intervals import proportion, unmeasured
from .missed import missed


@dataclass(frozen=True)
class Mode:
    """How the white-box attacks got their gradients."""

    gradient: bool
    reason: str | None
    """Where there is no gradient: why."""
    sources: int
    """Panel models whose images can stand in where there is no gradient; each costs a task one query."""

    def reason_for(self, entry: Entry) -> str:
        """Why an entry had no gradient, and what stood in."""
        return f"{self.reason}; {stands_in(entry, self.sources)}"

    def granted(self, entry: Entry) -> int:
        """Queries and gradients granted to each task of an entry."""
        return entry.budget if self.gradient or entry.box == "black" else granted(entry, self.sources)


def attack_results(
    entries: Sequence[Entry], results: Results, clean: CleanAnswers, mode: Mode
) -> dict[str, AttackResult]:
    """One AttackResult per group of entries, in the entries' order."""
    return {group: _attack_result(members, results, clean, mode) for group, members in grouped(entries).items()}


def grouped(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Each attack's entries, the headline first, in the entries' order."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return groups


def headline(members: Sequence[Entry], results: Results) -> ShardResult | EntryFailure:
    """A group's own outcome: that of its first entry, or task by task the best of all where that is the rule."""
    if not members[0].best_of:
        return results[members[0].name]
    parts = _settings(members, results)
    return parts if isinstance(parts, EntryFailure) else best_of(parts, [bool(entry.after) for entry in members])


def _settings(members: Sequence[Entry], results: Results) -> list[ShardResult] | EntryFailure:
    """The results of all a group's settings; where one has none, why."""
    parts: list[ShardResult] = []
    for entry in members:
        result = results[entry.name]
        if isinstance(result, EntryFailure):
            return result
        parts.append(result)
    return parts


def _which(members: Sequence[Entry], results: Results) -> list[str] | None:
    """Task by task the title of the setting that counts; None where one setting is the rule, or one has no result."""
    parts = _settings(members, results) if members[0].best_of else None
    return [members[i].title for i in best_setting(parts)] if isinstance(parts, list) else None


def _attack_result(members: Sequence[Entry], results: Results, clean: CleanAnswers, mode: Mode) -> AttackResult:
    first = members[0]
    white = first.box == "white"
    outcome = headline(members, results)
    title = f"best of {len(members)} settings" if first.best_of else first.title
    own = _variant(first, outcome, clean, title=title, budget=mode.granted(first))
    others = members if first.best_of else members[1:]
    rows = [] if isinstance(outcome, EntryFailure) else _rows(first, outcome, clean, _which(members, results))
    kind = "black_box" if not white else "gradient" if mode.gradient else "surrogate"
    return AttackResult(
        **own.model_dump(exclude={"curve"}),
        curve=own.curve,
        task=first.task,
        mode=kind,
        mode_reason=mode.reason_for(first) if kind == "surrogate" else None,
        needless=isinstance(outcome, EntryFailure) and outcome.needless,
        tasks=rows,
        missed=missed(members, results, lambda entry, outcome: _counts(entry, outcome, clean)),
        variants={e.name: _variant(e, results[e.name], clean, title=e.title, budget=mode.granted(e)) for e in others},
    )


def _variant(
    entry: Entry, outcome: ShardResult | EntryFailure, clean: CleanAnswers, *, title: str, budget: int
) -> Variant:
    common: dict[str, Any] = {
        "title": title,
        "parameters": _plain(entry.parameters),
        "budget": budget,
        "limit": str(entry.limit) if entry.limit else None,
    }
    if isinstance(outcome, EntryFailure):
        nothing = unmeasured(outcome.reason if outcome.needless else f"{outcome.code}: {outcome.reason}")
        perturb = entry.task == "perturb"
        return Variant(
            **common,
            fooling_ratio=nothing,
            fooling_ratio_99=None if perturb else nothing,
            robust_accuracy=nothing if perturb else None,
            label_change=nothing if perturb else None,
        )
    counts = _counts(entry, outcome, clean)
    won = outcome.fooled & counts
    cost = outcome.cost[won]
    n = int(counts.sum())
    measured: dict[str, Any] = {
        "fooling_ratio": proportion(int(won.sum()), n, _nothing(outcome, clean)),
        "fooling_ratio_99": None,
        "robust_accuracy": None,
        "label_change": None,
    }
    if entry.task == "fool":
        measured["fooling_ratio_99"] = proportion(int(outcome.fooled_flat.sum()), n)
        if clean.tau is None:
            measured["fooling_ratio"] = unmeasured("the victim gets no clean image right, so there is no τ")
    else:
        spared = clean.accepted.cpu().numpy()[: len(counts)] & ~outcome.attacked
        measured["robust_accuracy"] = proportion(int((counts & ~outcome.fooled).sum()), int((~spared).sum()))
        # The label is the first draw's: a randomised victim may reject then, and be fooled on most draws.
        turned_away = counts & outcome.attacked & ~outcome.fooled & (outcome.label < 0)
        measured["rejected"] = proportion(int(turned_away.sum()), n)
        measured["label_change"] = proportion(int((outcome.attacked & outcome.fooled).sum()), len(counts))
    return Variant(
        **common,
        **measured,
        median_confidence=_median(outcome.confidence[won]),
        queries=_median(cost),
        median_size=_median(outcome.size[won]),
        total_queries=int(outcome.counts[0]),
        setup_queries=int(outcome.counts[1]),
        gradients=int(outcome.counts[2]),
        seconds=round(float(outcome.seconds), 3),
        curve=_curve(cost),
    )


def _nothing(outcome: ShardResult, clean: CleanAnswers) -> str:
    """Why a fooling ratio has no tasks."""
    if bool(clean.right[: len(outcome.fooled)].any()):
        return "not run: the attacks before it left no image"
    return "the victim gets no clean image right"


def _counts(entry: Entry, outcome: ShardResult, clean: CleanAnswers) -> np.ndarray:
    """Which tasks are in the fooling ratio's denominator."""
    if entry.task == "fool":
        return np.ones(len(outcome.fooled), dtype=bool)
    right = clean.right.cpu().numpy()[: len(outcome.fooled)] & outcome.attacked
    aims = clean.aims(entry)
    return right if aims is None else right & (aims != clean.truth).cpu().numpy()[: len(right)]


def _curve(cost: np.ndarray) -> list[tuple[int, int]]:
    at, counts = np.unique(cost, return_counts=True)
    return [(int(q), int(k)) for q, k in zip(at, counts.cumsum(), strict=True)]


def _median(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(np.median(values)) if len(values) else None


def _plain(parameters: Mapping[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}


def _rows(entry: Entry, outcome: ShardResult, clean: CleanAnswers, which: list[str] | None) -> list[TaskRow]:
    counts, cost = _counts(entry, outcome, clean), outcome.cost
    truth, before = clean.truth.tolist(), clean.reading.label.tolist()
    aims = None if entry.task == "fool" or (aimed := clean.aims(entry)) is None else aimed.tolist()
    rows = []
    for i in range(len(outcome.fooled)):
        fool = entry.task == "fool"
        attacked = bool(outcome.attacked[i])
        rows.append(
            TaskRow(
                run=i // len(entry.targets) if fool else None,
                target=entry.targets[i % len(entry.targets)] if fool else aims[i] if aims else None,
                image=None if fool else i,
                truth=None if fool else truth[i],
                before=None if fool or before[i] < 0 else before[i],
                counts=bool(counts[i]),
                fooled=bool(outcome.fooled[i]) if attacked else None,
                label=int(outcome.label[i]) if outcome.label[i] >= 0 else None,
                confidence=_finite(outcome.confidence[i]),
                share=float(outcome.share[i]) if clean.randomised and attacked else None,
                queries=int(cost[i]) if outcome.fooled[i] else None,
                spent=int(outcome.spent[i]),
                size=_finite(outcome.size[i]),
                variant=which[i] if which is not None and attacked else None,
                refused=str(outcome.refused[i]) or None,
            )
        )
    return rows


def _finite(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
