"""What the entries before one came to on the same victim: which tasks they leave, carry on, and lend images to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...attacks.entry import Entry
from ...models.levels import from_bytes
from ..battery.panel import Sources
from .shards import Shard, ShardResult


@dataclass(frozen=True)
class Carried:
    """Images of a block that an entry of smaller limit fooled already."""

    found: Tensor
    """`(t,)` bool, on the CPU."""
    images: Tensor
    """`(t, c, h, w)` uint8, on the CPU; zeros where none was found."""
    cost: Tensor
    """`(t,)` int64: what had been spent when it was found."""


@dataclass(frozen=True)
class Before:
    """Results of entries that were worked on first. One that failed, or that the battery lacks, is not among them."""

    plan: Mapping[str, Entry] = field(default_factory=dict)
    results: Mapping[str, ShardResult] = field(default_factory=dict)

    def left(self, shard: Shard) -> Tensor:
        """`(t,)` bool: the shard's images that no entry in `after` fooled within its limit."""
        left = np.ones(shard.stop - shard.start, dtype=bool)
        for name in shard.entry.after:
            left &= ~self._fooled(name, shard)
        return torch.from_numpy(left)

    def carried(self, shard: Shard, shape: tuple[int, int, int]) -> Carried:
        """What the entries in `carries` fooled of the shard's images; of several the one with the smallest limit."""
        t = shard.stop - shard.start
        found, images = np.zeros(t, dtype=bool), np.zeros((t, *shape), dtype=np.uint8)
        cost = np.zeros(t, dtype=np.int64)
        for name in sorted(shard.entry.carries, key=self._limit):
            new = self._fooled(name, shard) & ~found
            if new.any():
                result = self.results[name]
                images[new] = result.images[shard.start : shard.stop][new]
                cost[new] = result.cost[shard.start : shard.stop][new]
            found |= new
        return Carried(torch.from_numpy(found), torch.from_numpy(images), torch.from_numpy(cost))

    def _limit(self, name: str) -> float:
        limit = self.plan[name].limit if name in self.plan else None
        return limit.value if limit is not None else float("inf")

    def _fooled(self, name: str, shard: Shard) -> np.ndarray:
        """`(t,)` bool: which of a Perturb shard's images the entry `name` fooled within the shard's own limit."""
        fooled, limit = np.zeros(shard.stop - shard.start, dtype=bool), shard.entry.limit
        other = self.plan[name].limit if name in self.results else None
        if limit is None or other is None or other.kind != limit.kind or other.value > limit.value + 1e-9:
            return fooled
        mine = self.results[name].fooled[shard.start : shard.stop]
        fooled[: len(mine)] = mine
        return fooled

    def lent(self, shard: Shard, sources: Sources | None, shape: tuple[int, int, int]) -> Tensor | None:
        """`(m, t, c, h, w)` uint8 on the CPU: for each task of the shard (Fool: run by run, target by target) the
        images that it may borrow, of this victim's entries in `after` (Fool) and of the panel's in `borrows`. Where
        another entry has fewer runs, its runs are gone round. None unless the entry borrows.
        """
        entry = shard.entry
        if not entry.borrows and not (entry.task == "fool" and entry.after):
            return None
        tasks = (shard.stop - shard.start) * (len(entry.targets) if entry.task == "fool" else 1)
        lent = [np.zeros((0, tasks, *shape), dtype=np.uint8)]
        if entry.task == "fool":
            lent += [
                self.results[name].images[rows][None]
                for name in entry.after
                if name in self.results
                and (rows := self._rows(shard, self.plan[name])) is not None
                and rows.max() < len(self.results[name].images)
            ]
        for name in entry.borrows:
            rows = self._rows(shard, self.plan.get(name, entry))
            if rows is not None and sources is not None:
                made = [source.images for source in sources.of_entry(name)]
                lent += [images[rows][None] for images in made if rows.max() < len(images)]
        return torch.from_numpy(np.concatenate(lent))

    @staticmethod
    def _rows(shard: Shard, other: Entry) -> np.ndarray | None:
        """`(t,)`: the rows of another entry that belong to the shard's tasks; None where it lacks one of them."""
        entry = shard.entry
        if entry.task == "perturb":
            rows = np.arange(shard.start, shard.stop)
            return rows if shard.stop <= other.tasks else None
        if not set(entry.targets) <= set(other.targets):
            return None
        at = np.array([other.targets.index(target) for target in entry.targets])
        runs = np.arange(shard.start, shard.stop) % other.tasks
        return (runs[:, None] * len(other.targets) + at).reshape(-1)


def borrowed(lent: Tensor | None, device: torch.device, *tasks: int) -> Tensor | None:
    """Lent images as a task's `borrowed`, `(m, *tasks, c, h, w)` float32."""
    if lent is None:
        return None
    return from_bytes(lent.to(device)).unflatten(1, tasks)
