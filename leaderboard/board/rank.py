"""Who stands where: one board per battery, ordered by robust score, cut into tiers that the data can tell apart.

**Tiers.** The best entry anchors tier 1. Going down the order, an entry joins the tier while the 95% interval of its
difference to the anchor includes 0; the first that does not anchors the next tier. The interval is a paired bootstrap
(percentile) over the tasks that both entries faced: evaluation images are resampled once for the clean accuracy and
for every Perturb row, since what happens to one image under several attacks is related; the (run, target) cells of
each Fool row are resampled for that row. All entries of a board share the resamples. No correction for multiple
comparisons is applied, so with many entries some neighbours fall into different tiers by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np

from ...bench.errors import Unexpected
from ..record.battery import BatteryRef
from ..record.bootstrap import interval, mean, weights
from ..record.describe import name_of
from ..record.record import Record
from ..record.rows import RankedRow, column, weighted
from ..record.unranked import unranked
from ..record.words import slug

RESAMPLES = 2000
By = Literal["endurance", "survival", "endurance_99", "survival_99"]
"""What a score is the mean of over the ranked rows; `_99`: the Fool rows' at a flat confidence of 0.99 instead of τ."""


@dataclass(frozen=True)
class Standing:
    """One record's place on its board."""

    record: Record
    rank: int | None
    """1 is best; equal scores share a rank. None: unranked."""
    tier: int | None
    """None: unranked, or the only ranked entry (a tier needs two)."""
    reason: str | None
    """Unranked: why."""


@dataclass(frozen=True)
class Board:
    """All records of one battery (name, tier and digest), the ranked ones first. Batteries never mix."""

    battery: BatteryRef
    standings: tuple[Standing, ...]

    @property
    def ranked(self) -> tuple[Standing, ...]:
        """Those with a rank, best first."""
        return tuple(s for s in self.standings if s.rank is not None)

    @property
    def slug(self) -> str:
        """The board's part of an address; another digest of the same name is another board."""
        smoke = "-smoke" if self.battery.tier == "smoke" else ""
        return f"{slug(self.battery.name)}{smoke}-{slug(self.battery.digest)[:8]}"


class SharedResamples:
    """Bootstrap resamples of one battery's tasks, the same for every record that is asked about.

    Takes the tasks from `record`; another record must have faced the same ones.
    """

    def __init__(self, record: Record, rng: np.random.Generator, resamples: int = RESAMPLES):
        self._of = record
        self._tasks = _tasks(record)
        images = {task[0] for row in self._rows(record, "perturb") for task in self._tasks[row.name]}
        self._place = {image: i for i, image in enumerate(sorted(images))}
        self._images = weights(len(self._place), rng, resamples)
        self._cells = {
            row.name: weights(len(self._tasks[row.name]), rng, resamples) for row in self._rows(record, "fool")
        }

    @staticmethod
    def _rows(record: Record, task: str) -> list[RankedRow]:
        battery = record.battery
        return [row for row in battery.ranked if row.name in record.rows and battery.task_of(row) == task]

    def scores(self, record: Record, by: By = "endurance") -> np.ndarray:
        """`(resamples,)` scores, 0 to 100; by endurance they are robust scores.

        Raises ValueError for a record on other tasks.
        """
        return self._mean_of_rows(record, by, self._images, self._cells)

    def score(self, record: Record, by: By = "endurance") -> float:
        """The same of the tasks as they are, each once. Raises ValueError for a record on other tasks."""
        cells = {name: np.ones((1, drawn.shape[1])) for name, drawn in self._cells.items()}
        return float(self._mean_of_rows(record, by, np.ones((1, len(self._place))), cells)[0])

    def _mean_of_rows(self, record: Record, by: By, images: np.ndarray, cells: Mapping[str, np.ndarray]) -> np.ndarray:
        for name, tasks in _tasks(record).items():
            if self._tasks.get(name) != tasks:
                raise _misfit(record, self._of, f"hold the same tasks of {name}")
        right = np.zeros(len(self._place))
        for row in self._rows(record, "perturb"):
            result = record.rows[row.name]
            right[[self._place[image] for image, _ in result.tasks]] = result.counts
        clean = mean(images, right)
        lasting = []
        for row in record.battery.ranked:
            result = record.rows[row.name]
            fool, flat = row.name in cells, by.endswith("_99")
            lost = column(result.lost_99 if fool and flat else result.lost)
            left = row.held(lost) if by.startswith("endurance") else row.stood(lost).astype(float)
            if fool:
                lasting.append(weighted(left, cells[row.name], clean))
            else:
                places = [self._place[image] for image, _ in result.tasks]
                lasting.append(weighted(left * np.array(result.counts, dtype=float), images[:, places], None))
        return 100 * np.mean(lasting, axis=0)


def apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two records differ: `(resamples,)` scores of each in the same resamples, and the 95% interval of their
    difference leaves out 0."""
    low, high = interval(one - other)
    return not low <= 0 <= high


def _tasks(record: Record) -> dict[str, list[tuple[int, int]]]:
    """What each ranked row is about: images and their classes, or runs and targets. Two records pair on these."""
    return {row.name: record.rows[row.name].tasks for row in record.battery.ranked if row.name in record.rows}


def tiers(ranked: Sequence[Record], rng: np.random.Generator) -> list[int | None]:
    """The tier of each record, best first. A single record has none."""
    if len(ranked) < 2:
        return [None] * len(ranked)
    resamples = SharedResamples(ranked[0], rng)
    out: list[int | None] = [1]
    tier, anchor = 1, resamples.scores(ranked[0])
    for record in ranked[1:]:
        scores = resamples.scores(record)
        if apart(anchor, scores):
            tier, anchor = tier + 1, scores
        out.append(tier)
    return out


def _ranking(battery: BatteryRef) -> list[tuple[object, ...]]:
    """The ranked rows in their order: all that moves a number."""
    return [
        (row.name, battery.task_of(row), row.entries, row.first, row.budget, row.curve, row.epsilon)
        for row in battery.ranked
    ]


def _order(record: Record) -> tuple[bool, float, str, str]:
    value = record.scores.robust_score.value
    return value is None, -(value or 0.0), name_of(record), record.digest


def board(records: Sequence[Record]) -> Board:
    """Rank records of one battery. The bootstrap's stream derives from the battery's digest: a rebuild repeats it.

    What is ranked stands in every record alike; titles and sentences are the newest record's. Raises ValueError for
    records that rank different attacks, or the same ones by different tasks.
    """
    newest = _newest(records)
    battery = newest.battery
    for record in records:
        if _ranking(record.battery) != _ranking(battery):
            raise _misfit(record, newest, "rank the same attacks")
    reasons = {id(r): unranked(r) for r in records}
    ranked = sorted((r for r in records if reasons[id(r)] is None), key=_order)
    seed = int.from_bytes(sha256(f"tiers:{battery.digest}".encode()).digest()[:8], "big")
    standings: list[Standing] = []
    for place, (record, tier) in enumerate(zip(ranked, tiers(ranked, np.random.default_rng(seed)), strict=True), 1):
        above = standings[-1] if standings else None
        same = above is not None and above.record.scores.robust_score.value == record.scores.robust_score.value
        standings.append(Standing(record, above.rank if above and same else place, tier, None))
    for record in sorted((r for r in records if reasons[id(r)] is not None), key=_order):
        standings.append(Standing(record, None, None, reasons[id(record)]))
    return Board(battery, tuple(standings))


def misfits(records: Iterable[Record]) -> list[tuple[Record, Unexpected]]:
    """Records for which `boards` would raise, each with the reason: they rank other attacks than the newest record of
    their battery, or are ranked and hold other tasks than the newest ranked one."""
    found: list[tuple[Record, Unexpected]] = []
    for group in _by_battery(records):
        newest = _newest(group)
        others = [r for r in group if _ranking(r.battery) != _ranking(newest.battery)]
        found += [(record, _misfit(record, newest, "rank the same attacks")) for record in others]
        if ranked := [r for r in group if r not in others and unranked(r) is None]:
            found += _on_other_tasks(ranked)
    return found


def _on_other_tasks(ranked: Sequence[Record]) -> Iterator[tuple[Record, Unexpected]]:
    newest = _newest(ranked)
    for record in ranked:
        mine, theirs = _tasks(record), _tasks(newest)
        if (name := next((n for n in theirs if mine.get(n) != theirs[n]), None)) is not None:
            yield record, _misfit(record, newest, f"hold the same tasks of {name}")


def _misfit(record: Record, than: Record, do: str) -> Unexpected:
    expected = f"all records of {than.battery.name} to {do}"
    got = f"others in {record.digest[:8]} than in {than.digest[:8]}"
    return Unexpected(expected, got, "evaluate both with the same foolbench")


def _newest(records: Sequence[Record]) -> Record:
    return max(records, key=lambda r: (r.provenance.started, r.digest))


def _by_battery(records: Iterable[Record]) -> list[list[Record]]:
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.battery.name, record.battery.tier, record.battery.digest), []).append(record)
    return [group for _, group in sorted(groups.items())]


def boards(records: Iterable[Record]) -> list[Board]:
    """One board per battery name, tier and digest; shipped and standard ones first, then by size and name."""
    made = [board(group) for group in _by_battery(records)]
    return sorted(made, key=lambda b: (not b.battery.shipped, b.battery.tier == "smoke", -len(b.standings), b.slug))
