"""Outcomes to scores: every definition of the benchmark's numbers stands here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...attacks.entry import Entry
from ...leaderboard.record.record import AttackResult, Measure, Scores, TaskRow, Variant
from ..asking.clean import CleanAnswers
from ..machine.seeds import numpy_generator
from ..running.run import EntryFailure
from ..running.shards import ShardResult, best_of, best_setting
from ..running.surrogate import granted, stands_in
from .intervals import Tally, bootstrapped, clean_accuracy, proportion, resamples, survivals, unmeasured
from .missed import missed

Results = Mapping[str, ShardResult | EntryFailure]


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
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return {group: _attack_result(members, results, clean, mode) for group, members in groups.items()}


def headline(members: Sequence[Entry], results: Results) -> ShardResult | EntryFailure:
    """A group's own outcome: that of its first entry, or task by task the best of all where that is the rule."""
    if not members[0].best_of:
        return results[members[0].name]
    parts = _settings(members, results)
    return parts if isinstance(parts, EntryFailure) else best_of(parts)


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
        nothing = unmeasured(f"{outcome.code}: {outcome.reason}")
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
        "fooling_ratio": proportion(int(won.sum()), n, "the victim gets no clean image right"),
        "fooling_ratio_99": None,
        "robust_accuracy": None,
        "label_change": None,
    }
    if entry.task == "fool":
        measured["fooling_ratio_99"] = proportion(int(outcome.fooled_flat.sum()), n)
        if clean.tau is None:
            measured["fooling_ratio"] = unmeasured("the victim gets no clean image right, so there is no τ")
    else:
        measured["robust_accuracy"] = proportion(int((counts & ~outcome.fooled).sum()), len(counts))
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


def _counts(entry: Entry, outcome: ShardResult, clean: CleanAnswers) -> np.ndarray:
    """Which tasks are in the fooling ratio's denominator."""
    if entry.task == "fool":
        return np.ones(len(outcome.fooled), dtype=bool)
    right = clean.right.cpu().numpy()[: len(outcome.fooled)]
    if entry.least_likely:
        return right & (clean.least_likely.cpu().numpy()[: len(right)] != clean.truth.cpu().numpy()[: len(right)])
    return right


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
    least = clean.least_likely.tolist() if entry.least_likely else None
    rows = []
    for i in range(len(outcome.fooled)):
        fool = entry.task == "fool"
        attacked = bool(outcome.attacked[i])
        rows.append(
            TaskRow(
                run=i // len(entry.targets) if fool else None,
                target=entry.targets[i % len(entry.targets)] if fool else least[i] if least else None,
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


def tally_of(attacks: Mapping[str, AttackResult], ranked: Iterable[str], clean: CleanAnswers) -> Tally:
    """What was measured of the ranked attacks, as arrays."""
    alive, fooled = {}, {}
    for name in ranked:
        attack = attacks[name]
        # A victim that gets no clean image right has been measured (its survival is 0), though no ratio is defined.
        if not attack.tasks:
            continue
        if attack.task == "perturb":
            alive[name] = np.array([row.counts and not row.fooled for row in attack.tasks], dtype=bool)
        else:
            fooled[name] = np.array([bool(row.fooled) for row in attack.tasks], dtype=bool)
    return Tally(clean.right.cpu().numpy(), alive, fooled)


def scores_of(
    attacks: Mapping[str, AttackResult], ranked: Mapping[str, str], clean: CleanAnswers, count: int, seed_name: str
) -> Scores:
    """The numbers that a table shows first. `ranked`: the ranked attacks with their titles, in their order; the
    bootstrap draws `count` resamples from the stream of `seed_name`."""
    tally = tally_of(attacks, ranked, clean)
    n = len(tally.right)
    draws = resamples(tally, count, numpy_generator(seed_name, "bootstrap"))
    survival = survivals(tally, draws)
    missing = [title for name, title in ranked.items() if name not in survival]
    if missing or not ranked:
        reason = f"not measured: {', '.join(missing)}" if missing else "this battery ranks no attack"
        robust = worst = unmeasured(reason)
    else:
        stack = np.stack([survival[name] for name in ranked])
        robust, worst = bootstrapped(100 * stack.mean(0)), bootstrapped(stack.min(0))
    perturb = [name for name in ranked if attacks[name].task == "perturb"]
    if not perturb:
        survives = unmeasured("this battery ranks no attack on natural images")
    elif all(name in tally.alive for name in perturb):
        m = min(len(tally.alive[name]) for name in perturb)
        every = np.logical_and.reduce([tally.alive[name][:m] for name in perturb])
        survives = proportion(int(every.sum()), m)
    else:
        survives = unmeasured("not every attack on natural images was measured")
    return Scores(
        clean_accuracy=proportion(int(tally.right.sum()), n),
        clean_rejection=proportion(int((~clean.accepted).sum()), n),
        robust_score=robust,
        worst_case=worst,
        survives_all_perturb=survives,
    )


def difference_of(
    attacks: Mapping[str, AttackResult],
    clean: CleanAnswers,
    bare: Mapping[str, AttackResult],
    bare_clean: CleanAnswers,
    ranked: Sequence[str],
    count: int,
    seed_name: str,
) -> dict[str, Measure]:
    """This victim minus the bare model, on the same tasks and resamples: what the defenses are worth."""
    mine, theirs = tally_of(attacks, ranked, clean), tally_of(bare, ranked, bare_clean)
    shared_alive = {name for name in mine.alive if name in theirs.alive}
    shared_fooled = {name for name in mine.fooled if name in theirs.fooled}

    def keep(tally: Tally) -> Tally:
        alive = {k: v for k, v in tally.alive.items() if k in shared_alive}
        return replace(tally, alive=alive, fooled={k: v for k, v in tally.fooled.items() if k in shared_fooled})

    mine, theirs = keep(mine), keep(theirs)
    draws = resamples(mine, count, numpy_generator(seed_name, "bootstrap"))
    with_defense, without = survivals(mine, draws), survivals(theirs, draws)
    out = {"clean_accuracy": bootstrapped(clean_accuracy(mine, draws) - clean_accuracy(theirs, draws))}
    gaps = {name: with_defense[name] - without[name] for name in ranked if name in with_defense}
    if gaps and len(gaps) == len(ranked):
        out["robust_score"] = bootstrapped(100 * np.stack(list(gaps.values())).mean(0))
    else:
        out["robust_score"] = unmeasured("not every ranked attack was measured on both")
    return out | {name: bootstrapped(gap) for name, gap in gaps.items()}
