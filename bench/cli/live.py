"""Progress that people see: a live table on a terminal, one line an attack when piped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...leaderboard.record.words import duration
from ..running.drive import Tick
from ..running.progress import PlannedEntry, Progress, Silent
from ..running.shards import ShardResult

ESTIMATING, ESTIMATES = 0.05, "estimating"
"""Share of the work below which the time left is not told, and what is said instead."""
EVERY = 30.0
"""Seconds between two plain lines of an attack that is at work."""


def _left(time: str) -> str:
    return time if time == ESTIMATES else f"{time} left"


@dataclass
class _Group:
    """One attack (or control) with all its settings."""

    title: str
    headline: str
    planned: int = 0
    tasks: int = 0
    shards: int = 0
    done: float = 0.0
    """Images asked for, or saved by stopping early, of those planned."""
    found: float = 0.0
    """Those of them that an earlier run had done."""
    busy: float = 0.0
    """Seconds that finished shards took, all workers together."""
    running: dict[tuple[str, int], float] = field(default_factory=dict)
    """Shards at work, and when each began."""
    asked: int = 0
    finished: int = 0
    fooled: dict[tuple[str, int], int] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    told: float = 0.0

    @property
    def success(self) -> str:
        headline = sum(n for (entry, _), n in self.fooled.items() if entry == self.headline)
        return f"{headline}/{self.tasks}"

    def rate(self, now: float) -> str:
        if self.started is None or self.asked == 0:
            return ""
        return f"{self.asked / max((self.ended or now) - self.started, 1e-9):,.0f}/s"

    def spent(self, now: float) -> float:
        """Seconds spent so far, all workers together."""
        return self.busy + sum(now - began for began in self.running.values())

    @property
    def remaining(self) -> float:
        return max(self.planned - self.done, 0.0)


class _Counting:
    """What the live and the plain form share: the counts. Methods of Progress, under one lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.phase = ""
        self.groups: dict[str, _Group] = {}
        self.entries: dict[str, PlannedEntry] = {}
        self.began = 0.0

    def begin(self, phase: str, plan: list[PlannedEntry]) -> None:
        """See Progress."""
        with self.lock:
            self.phase, self.began = phase, time.monotonic()
            self.groups, self.entries = {}, {entry.name: entry for entry in plan}
            for entry in plan:
                title = entry.attack
                group = self.groups.setdefault(entry.group, _Group(title, entry.name, tasks=entry.tasks))
                group.planned += entry.images
                group.shards += entry.shards

    def shard(self, entry: str, index: int) -> Tick:
        """See Progress."""
        with self.lock:
            group, now = self.groups[self.entries[entry].group], time.monotonic()
            group.started = group.started or now
            group.running[entry, index] = now

        def tick(asked: int, fooled: int) -> None:
            with self.lock:
                group.asked += asked
                group.done += asked
                group.fooled[entry, index] = fooled
                self.ticked(group)

        return tick

    def finished(self, entry: str, index: int, result: ShardResult) -> None:
        """See Progress."""
        with self.lock:
            planned = self.entries[entry]
            group = self.groups[planned.group]
            spent, now = int(result.counts.sum()), time.monotonic()
            group.started = group.started or now
            group.done += max(planned.images / planned.shards - spent, 0)
            if (entry, index) in group.running:
                group.busy += now - group.running.pop((entry, index))
            else:  # it was found finished
                group.done += spent
                group.found += planned.images / planned.shards
            group.fooled[entry, index] = int(result.fooled.sum())
            group.finished += 1
            if group.finished == group.shards:
                group.done, group.ended = float(group.planned), now
            self.ticked(group, done=group.finished == group.shards)

    def left(self) -> str:
        """Time left in the phase: what each attack still has to do, at the pace that it kept in this run."""
        now, groups = time.monotonic(), self.groups.values()
        done, spent = sum(g.done - g.found for g in groups), sum(g.spent(now) for g in groups)
        if done <= 0 or spent <= 0 or done < ESTIMATING * (done + sum(g.remaining for g in groups)):
            return ESTIMATES
        to_come = 0.0
        for group in groups:
            own, took = group.done - group.found, group.spent(now)
            to_come += group.remaining * (took / own if own > 0 and took > 0 else spent / done)
        side_by_side = spent / max(now - self.began, 1e-9)
        return duration(to_come / side_by_side)

    def ticked(self, group: _Group, *, done: bool = False) -> None:
        """Called under the lock after each change."""

    @property
    def share(self) -> float:
        """How much of the phase is done."""
        planned = sum(group.planned for group in self.groups.values())
        return sum(min(group.done, group.planned) for group in self.groups.values()) / planned if planned else 0.0

    def so_far(self) -> str:
        """What to say after "Stopped": how much of the phase is done, and which of its attacks are finished."""
        if not self.groups:
            return ""
        done = [group.title.partition(" (")[0] for group in self.groups.values() if group.finished == group.shards]
        saved = f"; saved: {' · '.join(done)}" if done else ""
        return f" at {int(100 * self.share)}% ({self.phase}{saved})"


class LiveProgress(_Counting):
    """A table that redraws itself on a terminal, on stderr."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console
        self.live: Live | None = None

    def begin(self, phase: str, plan: list[PlannedEntry]) -> None:
        """See Progress."""
        super().begin(phase, plan)
        self.live = Live(get_renderable=self._table, console=self.console, refresh_per_second=4, transient=False)
        self.live.start()

    def end(self) -> None:
        """See Progress."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, text: str) -> None:
        """See Progress."""
        self.console.print(Text(text, "dim"), soft_wrap=True)

    def _table(self) -> Table:
        with self.lock:
            now = time.monotonic()
            running = self.live is not None and any(g.finished < g.shards for g in self.groups.values())
            left = _left(self.left()) if running else duration(now - self.began)
            title = Text(f"{self.phase} · {left}", "bold")
            table = Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 1))
            table.add_column("attack", no_wrap=True)
            width = max(6, min(24, self.console.width - 70))  # the bar gives way to the numbers
            table.add_column("", width=width)
            for name in ("fooled", "images", "rate"):
                table.add_column(name, justify="right", no_wrap=True)
            for group in self.groups.values():
                bar = ProgressBar(
                    total=max(group.planned, 1),
                    completed=min(group.done, group.planned),
                    width=width,
                    complete_style="cyan",
                    finished_style="green",
                )
                style = "" if group.started else "dim"
                table.add_row(group.title, bar, group.success, f"{group.asked:,}", group.rate(now), style=style)
            return table


class PlainProgress(_Counting):
    """One line when an attack ends, and one every 30 seconds while it works, on stderr."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self.stream, self.clock = stream, clock

    def begin(self, phase: str, plan: list[PlannedEntry]) -> None:
        """See Progress."""
        super().begin(phase, plan)
        self.say(f"{phase}: {len(self.groups)} attacks and controls, at most {sum(e.images for e in plan):,} images")

    def ticked(self, group: _Group, *, done: bool = False) -> None:
        """See _Counting."""
        now = self.clock()
        group.told = group.told or now
        if done:
            work = f"{group.asked:,} images, {group.rate(now)}" if group.asked else "from disk"
            self.say(f"{self.phase}: {group.title}: fooled {group.success}, {work}")
        elif now - group.told >= EVERY:
            group.told = now
            share = group.done / max(group.planned, 1)
            so_far = f"{share:.0%}, fooled {group.success}, {group.rate(now)}"
            self.say(f"{self.phase}: {group.title}: {so_far}, {_left(self.left())}")

    def end(self) -> None:
        """See Progress."""

    def say(self, text: str) -> None:
        """See Progress."""
        print(text, file=self.stream, flush=True)


def progress_of(kind: str, console: Console) -> Progress:
    """The display of a kind: rich, plain, none, or auto, which is rich on a terminal that can redraw."""
    if kind == "auto":
        kind = "rich" if console.is_terminal and not console.is_dumb_terminal else "plain"
    if kind == "rich":
        return LiveProgress(console)
    return PlainProgress(console.file) if kind == "plain" else Silent()
