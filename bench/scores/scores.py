"""Ranked rows to scores: endurance, survival, lift, the robust score, and what defenses are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...leaderboard.record.record import Measure, RowResult, Scores
from ...leaderboard.record.rows import RankedRow, weighted
from ..asking.clean import CleanAnswers
from ..machine.seeds import numpy_generator
from .intervals import (
    Resamples,
    RowTally,
    Tally,
    averages,
    bootstrapped,
    clean_accuracy,
    proportion,
    resamples,
    unmeasured,
)
from .rows import Lost


@dataclass(frozen=True)
class Control:
    """What a row's control took of the row's kind of tasks."""

    title: str
    lost: Lost | str
    """Why it was not measured, where it was not."""
    budget: int
    """Forward passes granted to it."""


@dataclass(frozen=True)
class Row:
    """One ranked row of one victim."""

    ranked: RankedRow
    fool: bool
    lost: Lost | str
    """When its tasks were lost, or why it was not measured."""
    control: Control | None = None

    @property
    def name(self) -> str:
        """Its key in the record."""
        return self.ranked.name


@dataclass(frozen=True)
class Scoring:
    """The ranked rows of one victim, and how its intervals are made."""

    rows: Sequence[Row]
    clean: CleanAnswers
    count: int
    """Resamples."""
    seed_name: str
    """They are drawn from the stream of this name: the same for every victim of a battery."""

    def tally(self, names: Sequence[str] | None = None) -> Tally:
        """What was measured, as arrays; of these rows alone, where they are named."""
        right = self.clean.right.cpu().numpy()
        rows = {row.name: row for row in self.rows if names is None or row.name in names}
        return Tally(right, {n: _tally(r.ranked, r.lost) for n, r in rows.items() if isinstance(r.lost, Lost)})

    def draws(self, tally: Tally) -> Resamples:
        """The tally's tasks, resampled."""
        return resamples(tally, self.count, numpy_generator(self.seed_name, "bootstrap"))

    def scores(self) -> Scores:
        """The numbers that a table shows first."""
        tally = self.tally()
        draws, n = self.draws(tally), len(tally.right)
        missing = [row.ranked.title for row in self.rows if row.name not in tally.rows]
        if missing or not self.rows:
            reason = f"not measured: {', '.join(missing)}" if missing else "this battery ranks no attack"
            robust = survival = worst = unmeasured(reason)
        else:
            held, stood = (averages(tally, draws, what) for what in ("held", "stood"))
            lasting, standing = (np.stack([of[row.name] for row in self.rows]) for of in (held, stood))
            robust, survival = bootstrapped(100 * lasting.mean(0)), bootstrapped(100 * standing.mean(0))
            worst = bootstrapped(standing.min(0))
        return Scores(
            clean_accuracy=proportion(int(tally.right.sum()), n),
            clean_rejection=proportion(int((~self.clean.accepted).sum()), n),
            robust_score=robust,
            survival_score=survival,
            worst_case=worst,
            survives_all_perturb=self._survives_all(tally),
        )

    def _survives_all(self, tally: Tally) -> Measure:
        perturb = [row.name for row in self.rows if not row.fool]
        if not perturb:
            return unmeasured("this battery ranks no attack on natural images")
        if any(name not in tally.rows for name in perturb):
            return unmeasured("not every attack on natural images was measured")
        m = min(len(tally.rows[name].stood) for name in perturb)
        every = np.logical_and.reduce([tally.rows[name].stood[:m] for name in perturb])
        return proportion(int(every.sum()), m)

    def results(self) -> dict[str, RowResult]:
        """Each ranked row, with its intervals and its tasks."""
        tally = self.tally()
        draws = self.draws(tally)
        return {row.name: _result(row, tally, draws) for row in self.rows}


def _tally(row: RankedRow, lost: Lost) -> RowTally:
    held, stood = row.held(lost.lost) * lost.counts, row.stood(lost.lost) & lost.counts
    if not lost.fool:
        return RowTally(False, held, stood, held, stood)
    return RowTally(True, held, stood, row.held(lost.lost_99), row.stood(lost.lost_99))


def _result(row: Row, tally: Tally, draws: Resamples) -> RowResult:
    lost = row.lost
    if isinstance(lost, str):
        return RowResult(endurance=unmeasured(lost), survival=unmeasured(lost))
    only = Tally(tally.right, {row.name: tally.rows[row.name]})
    endurance, survival = (bootstrapped(averages(only, draws, what)[row.name]) for what in ("held", "stood"))
    if not lost.fool:
        return RowResult(
            endurance=endurance,
            survival=survival,
            tasks=lost.tasks,
            counts=lost.counts.tolist(),
            lost=_column(lost.lost),
            by=_names(lost.by),
        )
    lift, words = (None, None) if row.control is None else _lift(row.ranked, lost, row.control, only, draws)
    return RowResult(
        endurance=endurance,
        survival=survival,
        endurance_99=bootstrapped(averages(only, draws, "held_99")[row.name]),
        survival_99=bootstrapped(averages(only, draws, "stood_99")[row.name]),
        lift=lift,
        words=words,
        tasks=lost.tasks,
        lost=_column(lost.lost),
        lost_99=_column(lost.lost_99),
        by=_names(lost.by),
    )


def _lift(row: RankedRow, lost: Lost, control: Control, only: Tally, draws: Resamples) -> tuple[Measure, str | None]:
    """Endurance less the control's, task by task, within the smaller of the two budgets; and what to say of it. Where
    the control has fewer runs, they are gone round."""
    if isinstance(control.lost, str):
        return unmeasured(f"its control was not measured: {control.lost}"), None
    theirs = dict(zip(control.lost.tasks, control.lost.lost.tolist(), strict=True))
    runs = 1 + max(run for run, _ in theirs)
    if any((run % runs, target) not in theirs for run, target in lost.tasks):
        return unmeasured("its control has other classes"), None
    beside = np.array([theirs[run % runs, target] for run, target in lost.tasks])
    same = row.model_copy(update={"budget": min(row.budget, control.budget)})
    mine, others = (same.held(np.where(when > same.budget, np.nan, when)) for when in (lost.lost, beside))
    clean = clean_accuracy(only, draws)
    gap = weighted(mine, draws.cells[row.name], clean) - weighted(others, draws.cells[row.name], clean)
    lift = bootstrapped(gap)
    if lift.high is not None and lift.high < 0:
        return lift, None
    return lift, (
        f"It fools no sooner than its control ({control.title}): the row tells how easily images that nothing "
        "optimised fool the victim, not what the attack adds."
    )


def _column(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 9) for value in values]


def _names(by: np.ndarray) -> list[str | None]:
    return [str(name) or None for name in by]


def difference_of(mine: Scoring, bare: Scoring) -> dict[str, Measure]:
    """This victim minus the bare model, on the same tasks and resamples: what the defenses are worth. Of each row its
    endurance."""
    names = [row.name for row in mine.rows]
    measured = {row.name for row in bare.rows if isinstance(row.lost, Lost)}
    both = [row.name for row in mine.rows if isinstance(row.lost, Lost) and row.name in measured]
    one, two = mine.tally(both), bare.tally(both)
    draws = mine.draws(one)
    out = {"clean_accuracy": bootstrapped(clean_accuracy(one, draws) - clean_accuracy(two, draws))}
    gaps: dict[str, dict[str, np.ndarray]] = {}
    for what in ("held", "stood"):
        here, there = averages(one, draws, what), averages(two, draws, what)
        gaps[what] = {name: here[name] - there[name] for name in both}
    for key, what in (("robust_score", "held"), ("survival_score", "stood")):
        whole = names and len(both) == len(names)
        gap = 100 * np.stack([gaps[what][name] for name in both]).mean(0) if whole else None
        out[key] = unmeasured("not every ranked row was measured on both") if gap is None else bootstrapped(gap)
    return out | {name: bootstrapped(gap) for name, gap in gaps["held"].items()}
