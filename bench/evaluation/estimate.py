"""What a run will cost, from a short calibration of every attack on this machine and this victim."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from rich.table import Table

from ...attacks.entry import Entry
from ...leaderboard.record.words import duration
from ..battery.battery import Battery
from ..battery.entries import entries
from ..battery.ground import Execution
from ..machine.device import describe
from ..machine.memory import sparing
from ..running.before import Before
from ..running.prepared import Prepared, prepare
from ..running.progress import planned
from ..running.shards import Shard, ShardResult, cut, join, longest_first
from ..running.surrogate import granted
from ..victim.assemble import Subject
from .calibrate import Pace, paces


@dataclass(frozen=True)
class Cost:
    """One attack or control, all its settings together."""

    title: str
    images: int
    """Images asked for at most: attacks that stop at success ask for fewer."""
    expected: int
    """Images that it will probably ask for, going by how fast the first tasks were done with."""
    seconds: float
    """For the expected images, when all workers are busy."""


@dataclass(frozen=True)
class Estimate:
    """What `--dry-run` tells."""

    costs: list[Cost]
    attacking: float
    """Seconds for all of them: more than their sum where a worker is left alone with the last shards."""
    overhead: float
    """Seconds for what is no attack: loading, certifying and questioning the victim."""
    device: str
    backend: str
    workers: int
    victims: int
    """2 where a bare model is run beside a defended one."""

    @property
    def seconds(self) -> float:
        """For everything."""
        return self.overhead + self.attacking


def estimate(
    subject: Subject,
    battery: Battery,
    execution: Execution = Execution(),  # noqa: B008 - frozen
) -> Estimate:
    """Load the subject, try the first shards of each entry for a moment, and scale up. Writes nothing."""
    started = time.perf_counter()
    titles = battery.titles
    costs: dict[str, Cost] = {}
    tried = attacking = 0.0
    with execution.on(battery) as ground:
        workers = execution.workers_on(ground.device)
        whole = subject.assemble(ground)
        victims = [whole] if whole.bare is None else [whole, whole.bare]
        for assembled in victims:
            victim = sparing(assembled.victim, ground.memory)
            prepared = prepare(victim, ground)
            before_trials = time.perf_counter()
            each: dict[Shard, float] = {}
            tried_on = Tried(prepared, workers)
            for entry in first_needed(entries(battery)):
                if prepared.needless(entry) is not None:
                    continue
                if entry.finite is not None and prepared.victim.logits is None:
                    entry = replace(entry, budget=granted(entry, 0))
                title = titles[entry.group]
                images = planned(entry, len(ground.data.labels), title).images
                expected, seconds = tried_on.cost(entry, images)
                shards = cut(entry)
                each |= dict.fromkeys(shards, seconds)
                before = costs.get(entry.group, Cost(title, 0, 0, 0.0))
                costs[entry.group] = Cost(
                    before.title,
                    before.images + images,
                    before.expected + expected,
                    before.seconds + seconds * len(shards) / workers,
                )
            attacking += makespan(each, workers)
            tried += time.perf_counter() - before_trials
    overhead = time.perf_counter() - started - tried
    device = describe(ground.device)
    in_order = [costs[name] for name in dict.fromkeys(entry.group for entry in entries(battery)) if name in costs]
    return Estimate(in_order, attacking, overhead, device, whole.backend, workers, len(victims))


def first_needed(plan: Sequence[Entry]) -> list[Entry]:
    """Each entry behind those that it needs, else in the plan's order."""
    left, done = list(plan), list[Entry]()
    names = {entry.name for entry in plan}
    while left:
        known = {entry.name for entry in done}
        now = [e for e in left if all(name in known or name not in names for name in e.needs)]
        done += now or left
        left = [entry for entry in left if entry not in now] if now else []
    return done


@dataclass
class Tried:
    """The first shards of each entry on a victim, each tried after those of the entries that it needs."""

    prepared: Prepared
    workers: int
    plan: dict[str, Entry] = field(default_factory=dict)
    results: dict[str, ShardResult] = field(default_factory=dict)

    def cost(self, entry: Entry, images: int) -> tuple[int, float]:
        """Images of one entry, at most `images`, and seconds of each of its shards."""
        if entry.box == "white" and self.prepared.victim.logits is None and entry.finite is None:
            return 0, 0.0  # a few queries of the panel's images
        shards = cut(entry)
        together = paces(self.prepared, shards[: self.workers], Before(self.plan, self.results))
        self.plan[entry.name] = entry
        # Shards of the same images have the same places: the first ones tell what those of another entry leave.
        results = list(takewhile(lambda result: result is not None, (pace.result for pace in together)))
        if results:
            self.results[entry.name] = join([result for result in results if result is not None])
        share = len(together) / len(shards)
        asked = [_whole(pace, entry, images / len(shards)) for pace in together]
        each = [p.seconds if p.finished else n * p.per_image for p, n in zip(together, asked, strict=True)]
        return round(sum(asked) / share), sum(each) / len(each)


def makespan(each: Mapping[Shard, float], workers: int) -> float:
    """Seconds until the last of a victim's shards is done: as in a run, whichever worker is free takes the next one."""
    free = [0.0] * workers
    for shard in longest_first(each):
        heapq.heapreplace(free, free[0] + each[shard])
    return max(free)


def _whole(pace: Pace, entry: Entry, granted: float) -> float:
    """How many images a shard will ask for in all, when it was stopped after some.

    Where tasks leave as they succeed, ever fewer images are asked for at a time. They fall about as a power of the
    number of rounds (success comes ever more slowly): each doubling is taken to shrink them as the last one seen did.
    """
    counts = pace.counts
    if pace.finished:
        return pace.asked
    seen, rounds = len(counts), granted / counts[0]
    if not entry.leaving or rounds <= seen:
        return granted
    power = min(math.log2(counts[-1] / counts[(seen - 1) // 2]), 0.0)
    left = sum((t / seen) ** power for t in range(seen + 1, math.ceil(rounds) + 1))
    return pace.asked + counts[-1] * left


def table(cost: Estimate, subject: Subject, battery: Battery) -> Table:
    """The plan as people read it."""
    spec = battery.spec
    title = f"{subject.name} on {spec.name} ({battery.tier}), {cost.device}, {cost.backend}, {cost.workers} workers"
    out = Table(
        title=title, title_justify="left", box=None, padding=(0, 1), title_style="bold", header_style="underline"
    )
    out.add_column("attack")
    out.add_column("images, at most", justify="right")
    out.add_column("expected", justify="right")
    out.add_column("time", justify="right")
    for row in cost.costs:
        out.add_row(row.title, f"{row.images:,}", f"{row.expected:,}", duration(row.seconds))
    out.add_row("Loading and questions", "", "", duration(cost.overhead))
    out.add_section()
    both = "victim and bare model together" if cost.victims == 2 else "all"
    images, expected = sum(row.images for row in cost.costs), sum(row.expected for row in cost.costs)
    out.add_row(both, f"{images:,}", f"{expected:,}", duration(cost.seconds), style="bold")
    out.caption = "Measured on the first tasks of each attack. Nothing was written."
    out.caption_justify = "left"
    return out
