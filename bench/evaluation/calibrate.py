"""How fast attacks go on this machine: the first shards of an entry, side by side as in a run, for a moment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..running.before import Before
from ..running.drive import Stopped
from ..running.prepared import Prepared
from ..running.shards import Shard, ShardResult
from ..running.work import work

SECONDS = 0.5
"""How long each entry is tried."""
SECONDS_OPEN = 3.0
"""The same where tasks leave as they succeed: it must be seen how fast they do."""


@dataclass
class Pace:
    """One shard on trial."""

    result: ShardResult | None = None
    """What it came to, where it finished."""
    seconds: float = 0.0
    """What the shard took in all, where it finished."""
    counts: list[int] = field(default_factory=list)
    """Images of each query so far."""
    times: list[float] = field(default_factory=list)
    """When each was answered."""

    @property
    def finished(self) -> bool:
        """Whether it was worked on to its end."""
        return self.result is not None

    @property
    def asked(self) -> int:
        """Images so far."""
        return sum(self.counts)

    @property
    def per_image(self) -> float:
        """Seconds an image. The first query pays for what happens once, and is left out where there are more."""
        if len(self.counts) > 1:
            return (self.times[-1] - self.times[0]) / max(sum(self.counts[1:]), 1)
        return self.seconds / max(self.asked, 1)


def paces(prepared: Prepared, shards: Sequence[Shard], before: Before) -> list[Pace]:
    """Try shards side by side, after what was tried before. Raises what an attack raises, and ModelFailure."""
    with ThreadPoolExecutor(len(shards)) as pool:
        return list(pool.map(lambda shard: _pace(prepared, shard, before), shards))


def _pace(prepared: Prepared, shard: Shard, before: Before) -> Pace:
    pace, started = Pace(), time.perf_counter()
    most = SECONDS_OPEN if shard.entry.leaving else SECONDS

    def tick(count: int, fooled: int) -> None:
        pace.counts.append(count)
        pace.times.append(time.perf_counter())

    def stop() -> bool:
        # A set-up may take longer than that; without two answers there would be nothing to scale up.
        return len(pace.counts) > 1 and time.perf_counter() - pace.times[0] > most

    try:
        result = work(prepared, shard, before, stop=stop, tick=tick)
    except Stopped:
        pace.seconds = time.perf_counter() - started
        return pace
    pace.result, pace.seconds = result, float(result.seconds)
    return pace
