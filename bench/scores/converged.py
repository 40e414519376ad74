"""Whether an attack was still gaining when its budget ended. A pure function of its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt

from pydantic import JsonValue

from ...leaderboard.record.record import AttackResult, Flag
from .intervals import Z

LAST_TENTH = 0.9
LAST_HALF = 0.5
CLIMBS = 0.2
"""An attack climbs where doubling its budget, if it goes as the last doubling did, finds this share more, at least."""


def not_converged(attacks: Mapping[str, AttackResult], titles: Mapping[str, str]) -> Iterator[Flag]:
    """A flag for each attack that was still gaining.

    Either the last tenth of its budget gained more than half the width of its ratio's interval. Or, since that interval
    is wide beside what was found where little of much was, the last half found at least a fifth of all that it found,
    beyond what chance explains in a count.
    """
    for name, attack in attacks.items():
        if attack.mode == "surrogate" or attack.budget < 10:
            continue
        told = _last_tenth(attack) or _last_half(attack)
        if told is not None:
            said, evidence = told
            sentence = (
                f"{titles[name]} was still gaining when its budget ended: {said}. The true fooling ratio is higher; "
                "read it as a lower bound."
            )
            yield Flag(code="not_converged", attack=name, sentence=sentence, evidence=evidence)


def _last_tenth(attack: AttackResult) -> tuple[str, dict[str, JsonValue]] | None:
    ratio = attack.fooling_ratio
    if ratio.value is None or ratio.low is None or ratio.high is None or not ratio.n:
        return None
    late = _gained(attack, LAST_TENTH)
    gain, half_width = late / ratio.n, (ratio.high - ratio.low) / 2
    if gain <= half_width:
        return None
    said = f"the last tenth of the queries fooled {late} more tasks of {ratio.n}"
    return said, {"gain": gain, "half_width": half_width}


def _last_half(attack: AttackResult) -> tuple[str, dict[str, JsonValue]] | None:
    """On a logarithmic axis, on which searches are compared, the last half is the last doubling of the budget: what it
    found, another doubling is likely to find again, as far as tasks are left."""
    ratio = attack.fooling_ratio
    if not ratio.k or not ratio.n:
        return None
    late = _gained(attack, LAST_HALF)
    least = min(_at_least(late), ratio.n - ratio.k)
    if least <= CLIMBS * ratio.k:
        return None
    said = f"of the {ratio.k} tasks of {ratio.n} that it fooled, {late} fell in the last half of the queries"
    return said, {"late": late, "at_least": least, "fooled": ratio.k}


def _gained(attack: AttackResult, after: float) -> int:
    """How many tasks were first fooled after this share of the budget."""
    return sum(1 for row in attack.tasks if row.counts and row.fooled and (row.queries or 0) > after * attack.budget)


def _at_least(count: int) -> float:
    """The lower end of a count's 95% Poisson interval (Byar's approximation: Breslow & Day 1987, section 2.3)."""
    return 0.0 if not count else count * max(0.0, 1 - 1 / (9 * count) - Z / (3 * sqrt(count))) ** 3
