"""Why a result has no place in the ranking. Its one definition: a run says it of itself, and a board asks again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .battery import BatteryRef
from .doubts import doubted
from .record import AttackResult, Flag, Record, RowResult, Scores
from .words import printable


def unranked_reason(
    battery: BatteryRef,
    rows: Mapping[str, RowResult],
    attacks: Mapping[str, AttackResult],
    scores: Scores,
    flags: Iterable[Flag],
    said: str | None = None,
) -> str | None:
    """A clause that says why these results have no place in the ranking; None where they have one.

    A doubt among `flags` speaks against it. `said` is what else does, which no number shows; it comes last.
    """
    if battery.tier == "smoke":
        return "the smoke tier is never ranked"
    if not battery.shipped:
        return "a battery of the user's own has a board of its own"
    if not battery.ranked:
        return "its battery ranks no attack"
    for row in battery.ranked:
        result, title = rows.get(row.name), printable(row.title, 60)
        if result is None or any(name not in attacks for name in row.entries):
            return f"{title}: no result"
        if result.endurance.value is None:
            return f"{title}: {result.endurance.reason or 'not measured'}"
        # An attack that left alone what others took was run on the rest; one that was stopped was not.
        if any(t.counts and t.fooled is None for name in row.entries for t in attacks[name].tasks):
            return f"{title}: not run on every task"
    if scores.robust_score.value is None:
        return scores.robust_score.reason or "no robust score"
    return doubted(flags) or said


def unranked(record: Record) -> str | None:
    """`unranked_reason` of a record, and what it says of itself where no number speaks against it."""
    said = None if record.rankable else record.unranked_reason or "its record says that it is not rankable"
    return unranked_reason(record.battery, record.rows, record.attacks, record.scores, record.flags, said)
