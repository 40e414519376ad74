"""How well scores tell records of one battery apart, read off their rows, and how they agree with another order."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import Any

import numpy as np
from foolbench.leaderboard.board.rank import SharedResamples, apart
from foolbench.leaderboard.record.describe import name_of
from foolbench.leaderboard.record.doubts import doubted
from foolbench.leaderboard.record.record import Measure, Record
from scipy.stats import kendalltau

SCORES = ("survival", "endurance at τ", "endurance at 0.99", "mean of both")
"""The scores that are compared, the second being the robust score."""
CEILING, FLOOR = 0.98, 0.02
"""A row is at its ceiling from this share of clean accuracy on, and at its floor up to this endurance."""

MOST = 0.5
"""A row that stands at its ceiling or floor for a larger share of the submissions is pointed out."""


@dataclass(frozen=True)
class Scored:
    """One record's scores, 0 to 100, by the names of SCORES."""

    name: str
    own: Mapping[str, float]
    drawn: Mapping[str, np.ndarray]
    """`(resamples,)` each, in the same resamples for all records."""


def newest(records: Sequence[Record]) -> list[Record]:
    """Of each submission the record that started last, by name."""
    found: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: r.provenance.started):
        found[name_of(record)] = record
    return [record for _, record in sorted(found.items())]


def whole(record: Record) -> bool:
    """Whether every ranked row was measured, so that there is a score."""
    return record.scores.robust_score.value is not None


def scored(records: Sequence[Record]) -> list[Scored]:
    """All scores of whole records of one battery. Raises ValueError where they faced other tasks."""
    seed = int.from_bytes(sha256(f"tiers:{records[0].battery.digest}".encode()).digest()[:8], "big")
    resamples = SharedResamples(records[0], np.random.default_rng(seed))
    found = []
    for record in records:
        own, drawn = {}, {}
        for name, by in zip(SCORES, ("survival", "endurance", "endurance_99"), strict=False):
            own[name], drawn[name] = resamples.score(record, by), resamples.scores(record, by)
        own[SCORES[3]] = (own[SCORES[1]] + own[SCORES[2]]) / 2
        drawn[SCORES[3]] = (drawn[SCORES[1]] + drawn[SCORES[2]]) / 2
        found.append(Scored(name_of(record), own, drawn))
    return found


def separated(given: Sequence[Scored], score: str) -> tuple[int, int]:
    """How many pairs a score tells apart, by the interval of their difference, and how many pairs there are."""
    pairs = [apart(one.drawn[score], other.drawn[score]) for one, other in combinations(given, 2)]
    return sum(pairs), len(pairs)


def agreement(given: Sequence[Scored], score: str, outside: Mapping[str, float]) -> dict[str, Any]:
    """Kendall's τ-b of a score with an outside figure, over the submissions that have both; null for fewer than two,
    and where either is the same for all."""
    both = [(s.own[score], outside[s.name]) for s in given if s.name in outside]
    result: Any = kendalltau(*zip(*both, strict=True)) if len(both) > 1 else None
    tau = float("nan") if result is None else float(result.statistic)
    return {"tau": None if np.isnan(tau) else tau, "n": len(both)}


def row_of(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """A ranked row over all records: least, middle and most of each of its numbers, and the shares at the ends."""
    results = [record.rows[name] for record in records]
    clean = [record.scores.clean_accuracy.value or 0.0 for record in records]
    found: dict[str, Any] = {"row": name, "title": next(r.title for r in records[0].battery.ranked if r.name == name)}
    for key in ("endurance", "survival", "endurance_99", "survival_99"):
        values = [getattr(result, key) for result in results]
        found[key] = _spread([_value(v) for v in values], clean) if all(v is not None for v in values) else None
    return found


def _value(measure: Measure) -> float:
    assert measure.value is not None  # of a whole record
    return measure.value


def _spread(values: Sequence[float], clean: Sequence[float]) -> dict[str, float]:
    # An ulp of a mean is no distance from the ceiling; a victim that is never right is at the floor alone.
    ceiling = sum(v >= CEILING * c - 1e-9 and v > FLOOR for v, c in zip(values, clean, strict=True))
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "ceiling": ceiling / len(values),
        "floor": sum(v <= FLOOR + 1e-9 for v in values) / len(values),
    }


def stuck(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that stand at an end of their endurance for more than half of the records, so that they say little."""
    return [
        {"row": row["title"], "of": key, "end": end, "share": row[key][end]}
        for row in rows
        for key in ("endurance", "endurance_99")
        for end in ("ceiling", "floor")
        if row[key] is not None and row[key][end] > MOST
    ]


def table_of(records: Sequence[Record], outside: Mapping[str, float] | None = None) -> dict[str, Any]:
    """All that discrimination.py tells, as JSON. `outside`: figures by the submissions' names, of another measure.

    Raises ValueError for records of several batteries or of other tasks, and for fewer than two whole ones.
    """
    batteries = sorted({(r.battery.name, r.battery.tier, r.battery.digest[:8]) for r in records})
    if len(batteries) > 1:
        told = ", ".join(" ".join(battery) for battery in batteries)
        raise ValueError(f"expected records of one battery, got {told}: name a folder with runs of one of them")
    used = [record for record in newest(records) if whole(record)]
    if len(used) < 2:
        raise ValueError(f"expected at least 2 submissions with a robust score, got {len(used)}: evaluate more")
    given = scored(used)
    counts = {score: separated(given, score) for score in SCORES}
    rows = [row_of(row.name, used) for row in used[0].battery.ranked]
    return {
        "battery": used[0].battery.name,
        "tier": used[0].battery.tier,
        "digest": used[0].battery.digest,
        "submissions": [_told(record, one, outside) for record, one in zip(used, given, strict=True)],
        "left_out": [
            {"name": name_of(r), "reason": r.scores.robust_score.reason} for r in newest(records) if not whole(r)
        ],
        "pairs": {s: {"separated": k, "pairs": n, "share": k / n} for s, (k, n) in counts.items()},
        "rows": rows,
        "stuck": stuck(rows),
        "agreement": None if outside is None else {score: agreement(given, score, outside) for score in SCORES},
        "not_ordered": None if outside is None else [s.name for s in given if s.name not in outside],
    }


def _told(record: Record, one: Scored, outside: Mapping[str, float] | None) -> dict[str, Any]:
    return {
        "name": one.name,
        "clean_accuracy": record.scores.clean_accuracy.value,
        "tau": record.tau,
        "scores": dict(one.own),
        "doubt": doubted(record.flags),
        "outside": None if outside is None else outside.get(one.name),
        "seconds": record.provenance.seconds,
    }
