"""From attacks to ranked rows: task by task, when the first of a row's attacks got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...attacks.entry import Entry
from ...attacks.levels import Levels
from ...leaderboard.record.rows import RankedRow
from ..asking.clean import CleanAnswers
from ..battery.rows import PASSES, counted
from ..running.run import Results
from ..running.shards import ShardResult


@dataclass(frozen=True)
class Lost:
    """When each task of a row was lost, `(t,)` each; NaN where it never was."""

    fool: bool
    tasks: list[tuple[int, int]]
    """Perturb: (image, class). Fool: (run, class aimed at)."""
    counts: np.ndarray
    """bool. Perturb: accepted and right before. Fool: all true."""
    lost: np.ndarray
    """float64: forward passes, or for rows over ε the smallest ε of the grid."""
    lost_99: np.ndarray
    """Fool: the same at the flat confidence."""
    by: np.ndarray
    """str: the setting that took it; empty where none did."""


def lost_of(
    row: RankedRow,
    groups: Mapping[str, Sequence[Entry]],
    results: Results,
    clean: CleanAnswers,
    levels: Levels,
    *,
    gradient: bool,
) -> Lost | str:
    """When the tasks of a row were lost; why it was not measured, where one of its attacks was not.

    `groups`: each attack's entries, the headline first. `gradient`: whether white-box entries used the victim's own, so
    that each of their looks counts as several forward passes. An attack that this victim made needless counts nothing.
    """
    taken: list[tuple[Entry, ShardResult]] = []
    for name in row.entries:
        members = groups[name] if row.curve else counted(groups[name])
        for entry in members:
            result = results[entry.name]
            if isinstance(result, ShardResult):
                taken.append((entry, result))
            elif not result.needless:
                return f"{result.code}: {result.reason}"
    if not taken:
        return "none of its attacks was run"
    if row.curve:
        return _over_epsilon(row, taken, clean, levels)
    plan = {entry.name: entry for members in groups.values() for entry in members}
    lent = {entry.name: _lent(entry, plan, results) for entry, _ in taken}
    return _over_queries(taken, lent, clean, gradient)


def _lent(entry: Entry, plan: Mapping[str, Entry], results: Results) -> np.ndarray | int:
    """`(t,)`: what had been spent on a Fool entry's tasks by those whose images it borrows, since it comes after all
    that they do; 0 for others."""
    if entry.task != "fool":
        return 0
    spent = np.zeros((entry.tasks, len(entry.targets)), dtype=np.int64)
    for name in entry.after:
        lender, result = plan.get(name), results.get(name)
        if lender is None or not isinstance(result, ShardResult):
            continue
        rows = result.spent.reshape(lender.tasks, len(lender.targets))
        for k, target in enumerate(entry.targets):
            if target in lender.targets:
                place = lender.targets.index(target)
                spent[:, k] += rows[np.arange(entry.tasks) % lender.tasks, place]
    return spent.reshape(-1)


def _over_queries(
    taken: Sequence[tuple[Entry, ShardResult]],
    lent: Mapping[str, np.ndarray | int],
    clean: CleanAnswers,
    gradient: bool,
) -> Lost:
    first = taken[0][0]
    if first.task == "fool":
        tasks = [(run, target) for run in range(first.tasks) for target in first.targets]
        made = _Making.of(True, tasks, np.ones(len(tasks), dtype=bool))
    else:
        made = _Making.of(False, *_images(clean, taken))
    for entry, result in taken:
        looks = PASSES if entry.box == "white" and gradient else 1
        before = lent[entry.name]
        cost = np.where(result.fooled, result.cost * looks + before, np.nan)
        flat = np.where(result.fooled_flat, result.cost_flat * looks + before, np.nan)
        made.take(entry, cost, flat)
    return made.done()


def _over_epsilon(
    row: RankedRow, taken: Sequence[tuple[Entry, ShardResult]], clean: CleanAnswers, levels: Levels
) -> Lost:
    """An image that the judge found fooled is lost at the smallest ε of the grid that its change keeps to."""
    made, grid = _Making.of(False, *_images(clean, taken)), np.array([*row.curve, np.nan])
    for entry, result in taken:
        size = np.where(result.fooled, result.size, np.inf)
        at = grid[np.searchsorted(grid[:-1] + levels.slack + 1e-9, size)]
        made.take(entry, at, at)
    return made.done()


def _images(
    clean: CleanAnswers, taken: Sequence[tuple[Entry, ShardResult]]
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """The images that any of these attacks was to change, and which of them the victim had right before."""
    most = max(len(result.fooled) for _, result in taken)
    truth = clean.truth.cpu().tolist()[:most]
    return list(enumerate(truth)), clean.right.cpu().numpy()[:most]


@dataclass
class _Making:
    """A row while its attacks are gone through."""

    fool: bool
    tasks: list[tuple[int, int]]
    counts: np.ndarray
    lost: np.ndarray
    lost_99: np.ndarray
    by: np.ndarray

    @classmethod
    def of(cls, fool: bool, tasks: list[tuple[int, int]], counts: np.ndarray) -> _Making:
        """Nothing lost yet."""
        never = np.full(len(tasks), np.nan)
        return cls(fool, tasks, counts, never, never.copy(), np.full(len(tasks), "", dtype=object))

    def take(self, entry: Entry, lost: np.ndarray, lost_99: np.ndarray) -> None:
        """Count what an entry took of its own tasks; those that the row does not have are left out, and a row's class
        or image that the entry does not have is not its. An entry with fewer runs is gone round."""
        theirs = {task: i for i, task in enumerate(self._tasks(entry, len(lost)))}
        for i, (one, two) in enumerate(self.tasks):
            at = theirs.get((one % entry.tasks, two) if self.fool else one)
            if at is None or not self.counts[i]:
                continue
            if lost[at] < self.lost[i] or (np.isnan(self.lost[i]) and not np.isnan(lost[at])):
                self.lost[i], self.by[i] = lost[at], entry.name
            self.lost_99[i] = np.fmin(self.lost_99[i], lost_99[at])

    def _tasks(self, entry: Entry, count: int) -> Sequence[tuple[int, int] | int]:
        if not self.fool:
            return range(count)
        return [(run, target) for run in range(entry.tasks) for target in entry.targets]

    def done(self) -> Lost:
        """What it came to."""
        return Lost(self.fool, self.tasks, self.counts, self.lost, self.lost_99, self.by)
