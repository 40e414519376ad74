"""What synthetic records say of their ranked rows: made of their attacks, task by task. records.py makes whole records
of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from foolbench.leaderboard.record.record import AttackResult, Measure, RowResult, Scores
from foolbench.leaderboard.record.rows import RankedRow, column
from record_attacks import BUDGET, FOOL, TITLES, wilson

FIRST = {"fgsm": 1}
"""Passes that an attack makes blindly; 10 where absent."""
CONTROLLED = {"evolution": "noise", "cppn": "random_cppn"}


def ranked_row(name: str, title: str | None = None) -> RankedRow:
    """A row of one attack, over queries."""
    title = TITLES[name] if title is None else title
    first, control = FIRST.get(name, 10), CONTROLLED.get(name)
    return RankedRow(name=name, title=title, entries=[name], first=first, budget=BUDGET[name], control=control)


def rows_of(
    names: Sequence[str], attacks: Mapping[str, AttackResult], controls: Mapping[str, AttackResult], clean: Measure
) -> dict[str, RowResult]:
    """Each ranked attack that the record has, as a row of its own."""
    return {n: _result(ranked_row(n), attacks[n], controls, clean.value or 0.0) for n in names if n in attacks}


def _result(row: RankedRow, attack: AttackResult, controls: Mapping[str, AttackResult], clean: float) -> RowResult:
    if attack.fooling_ratio.value is None:
        none = Measure(value=None, reason=attack.fooling_ratio.reason)
        return RowResult(endurance=none, survival=none)
    fool = row.name in FOOL
    tasks = [(t.run or 0, t.target or 0) if fool else (t.image or 0, t.truth or 0) for t in attack.tasks]
    lost = [float(t.queries) if t.counts and t.fooled and t.queries else None for t in attack.tasks]
    endurance, survival = measured(row, lost, [t.counts for t in attack.tasks], clean if fool else None)
    shared = {
        "endurance": endurance,
        "survival": survival,
        "tasks": tasks,
        "lost": lost,
        "by": [None if when is None else row.name for when in lost],
    }
    if not fool:
        return RowResult(**shared, counts=[t.counts for t in attack.tasks])
    lift = words = None
    if row.control is not None:
        beside = [float(t.queries) if t.fooled and t.queries else None for t in controls[row.control].tasks]
        lift = _lift(row, lost, beside, clean)
        words = None if lift.high is not None and lift.high < 0 else "It fools no sooner than its control."
    return RowResult(**shared, endurance_99=endurance, survival_99=survival, lost_99=lost, lift=lift, words=words)


def measured(
    row: RankedRow, lost: Sequence[float | None], counts: Sequence[bool], clean: float | None
) -> tuple[Measure, Measure]:
    """Endurance and survival of a row; `clean`: a Fool row's clean accuracy."""
    when, right = column(lost), np.array(counts, dtype=float)
    held, stood = ((of(when) * right).mean() * (1.0 if clean is None else clean) for of in (row.held, row.stood))
    return _around(float(held), 0.04), _around(float(stood), 0.06)


def _lift(row: RankedRow, lost: Sequence[float | None], beside: Sequence[float | None], clean: float) -> Measure:
    mine, theirs = (float(row.held(column(one)).mean()) for one in (lost, beside))
    return Measure(
        value=clean * (mine - theirs), low=clean * (mine - theirs) - 0.05, high=clean * (mine - theirs) + 0.05
    )


def _around(value: float, half: float) -> Measure:
    return Measure(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


def scores_of(
    names: Sequence[str], rows: Mapping[str, RowResult], clean: Measure, rejection: Measure, rng: np.random.Generator
) -> Scores:
    """Means over the rows; null where one was not measured."""
    held = [rows[n].endurance.value if n in rows else None for n in names]
    stood = [rows[n].survival.value if n in rows else None for n in names]
    none = Measure(value=None, reason="not all ranked attacks were measured")
    robust = survival = worst = survives = none
    if None not in held and held:
        robust, survival = (_score(100 * float(np.mean([x for x in of if x is not None]))) for of in (held, stood))
        worst = _around(min(x for x in stood if x is not None), 0.05)
        survives = wilson(int(rng.integers(5, 30)), 60)
    return Scores(
        clean_accuracy=clean,
        clean_rejection=rejection,
        robust_score=robust,
        survival_score=survival,
        worst_case=worst,
        survives_all_perturb=survives,
    )


def _score(value: float) -> Measure:
    return Measure(value=value, low=max(0.0, value - 2.8), high=min(100.0, value + 2.7))
