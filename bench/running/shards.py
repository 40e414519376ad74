"""The shard: the one unit of work, caching, resuming and distribution; and the folder where finished ones lie."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...attacks.entry import Entry
from ..machine.folder import arrays


@dataclass(frozen=True)
class Shard:
    """Tasks `start` to `stop` of an entry (runs for Fool, evaluation images for Perturb)."""

    entry: Entry
    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Which shard, for a file's name."""
        return f"{self.entry.name}-{self.index:04d}"

    def digest(self, determined_by: Mapping[str, Any]) -> str:
        """sha256 over everything that determines the result: this shard, and what the caller names."""
        what = {"entry": self.entry.name, "index": self.index, "start": self.start, "stop": self.stop, **determined_by}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def cut(entry: Entry) -> tuple[Shard, ...]:
    """Cut an entry at the size that its battery fixes."""
    starts = range(0, entry.tasks, entry.shard)
    return tuple(Shard(entry, i, start, min(start + entry.shard, entry.tasks)) for i, start in enumerate(starts))


def longest_first(shards: Iterable[Shard]) -> list[Shard]:
    """In the order in which workers take them, so that none is left alone with the last long one."""
    return sorted(shards, key=lambda shard: -shard.entry.budget * (shard.stop - shard.start))


@dataclass(frozen=True)
class ShardResult:
    """A finished shard: one row a task (Fool: run by run, target by target; Perturb: image by image)."""

    images: np.ndarray
    """`(t, c, h, w)` uint8: the judged final images; for tasks that were not attacked, zeros or the clean image."""
    attacked: np.ndarray
    """`(t,)` bool: False where there was nothing to attack (Perturb: the clean image is rejected,
    or already what it was to become)."""
    fooled: np.ndarray
    fooled_flat: np.ndarray
    label: np.ndarray
    """`(t,)` int64; -1: rejected."""
    confidence: np.ndarray
    share: np.ndarray
    size: np.ndarray
    first: np.ndarray
    """`(t,)` int64: queries and gradients spent when first seen fooled; -1 where never seen."""
    first_flat: np.ndarray
    """The same at the flat confidence; for Perturb equal to `first`."""
    spent: np.ndarray
    """`(t,)` int64: queries and gradients spent by the task, or by the run that it shares."""
    refused: np.ndarray
    """`(t,)` str."""
    counts: np.ndarray
    """`(3,)` int64: queries, set-up queries, gradients of the whole shard."""
    seconds: np.ndarray
    """`()` float64: wall time."""
    sampled: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    """`(s, c, h, w)` uint8: some of the images that were asked about, s unlike the number of tasks."""
    sampled_answers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """`(s, K)` float32: the probabilities that came back."""
    batch: np.ndarray = field(default_factory=lambda: np.array(sys.maxsize))
    """`()` int64: how many images were asked about at once, at most, when it was finished: the battery's batch, or
    fewer where memory or the user allowed no more. Without a bound in files from before it was kept."""

    @property
    def cost(self) -> np.ndarray:
        """`(t,)` int64: what had been spent on each task when it was first fooled; all that was spent on it where only
        the judge saw it fooled, or nobody did."""
        return np.where(self.first >= 0, self.first, self.spent)

    @property
    def cost_flat(self) -> np.ndarray:
        """The same at the flat confidence."""
        return np.where(self.first_flat >= 0, self.first_flat, self.spent)

    def save(self, path: Path) -> None:
        """Write it whole or not at all. Raises EnvironmentFault where that is not possible."""
        arrays(path, **{f.name: getattr(self, f.name) for f in fields(self)})


def load_shard(path: Path) -> ShardResult | None:
    """A finished shard, or None where there is none or it cannot be read (it is then worked on again)."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            return ShardResult(**{f.name: data[f.name] for f in fields(ShardResult) if f.name in data})
    except Exception:  # a damaged file makes numpy and zipfile raise almost anything
        return None


def shards_beside(folder: Path) -> dict[str, Path]:
    """Finished shards of the other runs in the folder that holds this one, by their files' names, which say all that
    determines them."""
    files = folder.parent.glob("*/shards/*.npz")
    return {file.name: file for file in files if file.parent.parent.name != folder.name}


def join(results: list[ShardResult]) -> ShardResult:
    """The shards of one entry, in order, as one."""
    rows = [f.name for f in fields(ShardResult) if f.name not in ("counts", "seconds", "batch")]
    return ShardResult(
        **{name: np.concatenate([getattr(r, name) for r in results]) for name in rows},
        counts=np.sum([r.counts for r in results], axis=0),
        seconds=np.array(sum(float(r.seconds) for r in results)),
        batch=np.min([r.batch for r in results]),
    )


def best_setting(parts: Sequence[ShardResult]) -> np.ndarray:
    """`(t,)` int64: which of these settings of one attack counts for each task: one that fooled, and among those (or
    among none) the most confident one, of equals the first."""
    return np.stack([p.fooled * 2.0 + p.confidence for p in parts]).argmax(0)


def best_of(parts: Sequence[ShardResult], late: Sequence[bool] = ()) -> ShardResult:
    """Task by task the `best_setting`.

    The settings run side by side: a task is first fooled when the first of them gets there; what is spent adds up.
    Those that are `late` begin from what other attacks found: when they got there counts only where no other did.
    """
    best, tardy = best_setting(parts), list(late) or [False] * len(parts)
    rows = np.arange(len(best))

    def pick(name: str) -> np.ndarray:
        return np.stack([getattr(p, name) for p in parts])[best, rows]

    never = np.iinfo(np.int64).max

    def earliest(costs: list[np.ndarray]) -> np.ndarray:
        own, then = ([c for c, t in zip(costs, tardy, strict=True) if t is of] for of in (False, True))
        found = np.stack(own).min(0) if own else np.full(len(best), never)
        return np.where(found == never, np.stack(then).min(0), found) if then else found

    first = earliest([np.where(p.fooled, p.cost, never) for p in parts])
    flat = earliest([np.where(p.fooled_flat, p.cost_flat, never) for p in parts])
    names = ("images", "attacked", "fooled", "label", "confidence", "share", "size", "refused")
    return ShardResult(
        **{name: pick(name) for name in names},
        fooled_flat=np.logical_or.reduce([p.fooled_flat for p in parts]),
        first=np.where(first == never, -1, first),
        first_flat=np.where(flat == never, -1, flat),
        spent=np.sum([p.spent for p in parts], axis=0),
        counts=np.sum([p.counts for p in parts], axis=0),
        seconds=np.array(sum(float(p.seconds) for p in parts)),
        batch=np.min([p.batch for p in parts]),
    )
