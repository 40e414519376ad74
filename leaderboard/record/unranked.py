"""Why a result has no place in the ranking. Its one definition: a run says it of itself, and a board asks again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .battery import BatteryRef
from .doubts import doubted
from .record import AttackResult, Flag, Record, Scores
from .words import printable


def unranked_reason(
    battery: BatteryRef,
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
        attack, title = attacks.get(row.entry), printable(row.title, 60)
        if attack is None:
            return f"{title}: no result"
        ratio, stopped = attack.fooling_ratio, any(t.counts and t.fooled is None for t in attack.tasks)
        # A ratio over no image at all is null too, and yet measured: the victim got none right.
        if ratio.value is None and ratio.n != 0 and (stopped or not attack.tasks):
            return f"{title}: {ratio.reason or 'not measured'}"
        if stopped:
            return f"{title}: not run on every task"
    if scores.robust_score.value is None:
        return scores.robust_score.reason or "no robust score"
    return doubted(flags) or said


def unranked(record: Record) -> str | None:
    """`unranked_reason` of a record, and what it says of itself where no number speaks against it."""
    said = None if record.rankable else record.unranked_reason or "its record says that it is not rankable"
    return unranked_reason(record.battery, record.attacks, record.scores, record.flags, said)
