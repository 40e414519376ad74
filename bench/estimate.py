"""What a run will cost, from a short calibration of every attack on this machine and this victim."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.table import Table

from ..leaderboard.record import TITLES
from ..leaderboard.words import duration
from .arena import Arena
from .assemble import Subject
from .battery import Battery
from .device import DeviceName, choose, default_workers, describe, repeatable
from .drive import Stopped
from .entries import Entry, entries
from .examine import blinded, examine
from .progress import planned
from .shards import cut
from .work import work

SECONDS = 0.25
"""How long each entry is tried."""


@dataclass(frozen=True)
class Cost:
    """One attack or control, all its settings together."""

    title: str
    images: int
    """Images asked for at most: attacks that stop at success ask for fewer."""
    seconds: float
    """At most, with all workers."""


@dataclass(frozen=True)
class Estimate:
    """What `--dry-run` tells."""

    costs: list[Cost]
    device: str
    workers: int
    victims: int
    """2 where a bare model is run beside a defended one."""

    @property
    def seconds(self) -> float:
        """For everything, at most."""
        return sum(cost.seconds for cost in self.costs)


def estimate(
    subject: Subject, battery: Battery, *, device: DeviceName = "auto", workers: int | None = None
) -> Estimate:
    """Load the subject, try each entry's first shard for a moment, and scale up. Writes nothing."""
    target = choose(device)
    workers = workers or default_workers(target)
    costs: dict[str, Cost] = {}
    with repeatable(target):
        data = battery.load()
        whole = subject.assemble(battery, data, target)
        victims = [whole] if whole.bare is None else [whole, whole.bare]
        for assembled in victims:
            clean = examine(assembled.victim, battery, data)
            arena = Arena(battery, data, blinded(assembled.victim, clean), clean, None)
            for entry in entries(battery):
                images = planned(entry, len(data.labels)).images
                seconds = _seconds(arena, entry, images) / workers
                before = costs.get(entry.group, Cost(TITLES.get(entry.group, entry.group), 0, 0.0))
                costs[entry.group] = Cost(before.title, before.images + images, before.seconds + seconds)
    return Estimate(list(costs.values()), describe(target), workers, len(victims))


def _seconds(arena: Arena, entry: Entry, images: int) -> float:
    if entry.box == "white" and arena.victim.logits is None:
        return 0.0  # a few queries of the panel's images
    started, asked, first = time.perf_counter(), 0, (0.0, 0)

    def tick(count: int, fooled: int) -> None:
        nonlocal asked, first
        asked += count
        if first == (0.0, 0):  # the first batch pays for what happens once
            first = (time.perf_counter(), asked)

    def stop() -> bool:
        # A set-up may take longer than that; without a single answer there would be nothing to scale up.
        return asked > 0 and time.perf_counter() - max(started, first[0]) > SECONDS

    try:
        result = work(arena, cut(entry)[0], stop=stop, tick=tick)
        return float(result.seconds) * len(cut(entry))
    except Stopped:
        now = time.perf_counter()
    since, before = first if asked > first[1] else (started, 0)
    return images * (now - since) / max(asked - before, 1)


def table(cost: Estimate, subject: Subject, battery: Battery) -> Table:
    """The plan as people read it."""
    spec = battery.spec
    title = f"{subject.name} on {spec.name} ({battery.tier}), {cost.device}, {cost.workers} workers"
    out = Table(
        title=title, title_justify="left", box=None, padding=(0, 1), title_style="bold", header_style="underline"
    )
    out.add_column("attack")
    out.add_column("images, at most", justify="right")
    out.add_column("time, at most", justify="right")
    for row in cost.costs:
        out.add_row(row.title, f"{row.images:,}", duration(row.seconds))
    out.add_section()
    both = "victim and bare model together" if cost.victims == 2 else "all"
    out.add_row(both, f"{sum(row.images for row in cost.costs):,}", duration(cost.seconds), style="bold")
    out.caption = "Attacks that stop at success cost less. Nothing was written."
    out.caption_justify = "left"
    return out
