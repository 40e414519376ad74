"""The floor: what an answer costs a network by itself, and the clock and the names that go with a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

IN_A_ROW = {"cpu": 1, "cuda": 8}
"""Calls between two looks at the clock: a GPU that is waited for after each would look slower than it is."""


def now(device: torch.device) -> float:
    """Seconds on a clock of no beginning, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def device_name(device: torch.device) -> str:
    """The device as rows name it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu, 1 thread"


@dataclass(frozen=True)
class Floor:
    """What one image costs a victim in batches of one size, and nothing else."""

    backend: str
    call: Callable[[Tensor], object]
    images: Tensor
    """`(n, c, h, w)` on the device, repeated where they are fewer than the batch."""
    batch: int

    @property
    def name(self) -> str:
        """What it is measured on."""
        return f"{self.backend}, batches of {self.batch}"

    def seconds(self, for_about: float = 0.2) -> float:
        """Median seconds an image. Measured anew each time, since a shared machine's speed drifts."""
        device = self.images.device
        images = self.images[torch.arange(self.batch, device=device) % len(self.images)].contiguous()
        self.call(images)
        times, start = [], now(device)
        until = start + for_about
        while start < until or len(times) < 3:
            for _ in range(IN_A_ROW[device.type]):
                self.call(images)
            end = now(device)
            times.append((end - start) / IN_A_ROW[device.type])
            start = end
        return statistics.median(times) / self.batch


def fastest(candidates: Iterable[Floor], for_about: float = 0.2) -> tuple[float, Floor]:
    """The candidate whose images take least, with its seconds; those that memory does not hold are passed over.

    Raises torch.OutOfMemoryError where it holds none.
    """
    best: tuple[float, Floor] | None = None
    for floor in candidates:
        try:
            seconds = floor.seconds(for_about)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue
        if best is None or seconds < best[0]:
            best = seconds, floor
    if best is None:
        raise torch.OutOfMemoryError("expected memory for the smallest batch, got less: free some of the device's")
    return best
