"""What a subject is measured on, and how the work is carried out: what travels together is one thing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import get_args

import torch

from ...attacks.levels import EIGHT_BITS, Levels
from ...models.choices import Backend
from ..choices import DeviceName
from ..data.data import Data
from ..errors import InvalidInput, Problem
from ..machine.device import choose, default_workers, repeatable
from ..machine.memory import Memory, lack_told
from ..reading.arguments import count, word
from .battery import Battery
from .spec import BatterySpec


@dataclass(frozen=True)
class Asking:
    """How a battery asks: images rounded to its gray levels, in batches of one size."""

    batch: int
    levels: Levels = EIGHT_BITS


@dataclass(frozen=True)
class Ground:
    """What a subject is measured on: a battery, its data, and the device where answers to them are computed."""

    battery: Battery
    data: Data
    device: torch.device
    memory: Memory = field(default_factory=Memory)
    """How many images go through the network at once, at most; falls where memory runs out."""
    backend: Backend = "auto"
    """What answers for the subject's network; the battery's own reference models answer by the fixed rule."""

    @property
    def spec(self) -> BatterySpec:
        """The battery's definition."""
        return self.battery.spec

    @property
    def levels(self) -> Levels:
        """The gray levels that every image is rounded to."""
        return self.spec.facts.levels

    @property
    def asking(self) -> Asking:
        """How its images are asked."""
        return Asking(self.spec.batch, self.levels)


@dataclass(frozen=True)
class Execution:
    """How a run is carried out. None of it changes what is measured; device, backend and batch move last bits.

    Raises InvalidInput, where it is made, for values that no run can have.
    """

    device: DeviceName = "auto"
    """`auto` takes the GPU where there is one."""
    workers: int | None = None
    """Shards worked on side by side, at least 1; None: one a core on the CPU, one on a GPU."""
    backend: Backend = "auto"
    """Which implementation answers for the network; `auto` is a fixed rule."""
    max_batch: int | None = None
    """The most images that go through the network at once, at least 1; None: the battery's batch."""

    def __post_init__(self) -> None:
        if found := execution_problems(self.device, self.workers, self.backend, self.max_batch):
            raise InvalidInput(*found)

    @contextmanager
    def on(self, battery: Battery) -> Iterator[Ground]:
        """Load a battery's data and give its ground. Meanwhile torch gives the same bits again, and memory that runs
        out is told as EnvironmentFault. Raises what `Battery.load` does, and EnvironmentFault without the device."""
        device = choose(self.device)
        with repeatable(device), lack_told():
            yield Ground(battery, battery.load(), device, Memory(self.max_batch), self.backend)

    def workers_on(self, device: torch.device) -> int:
        """How many shards to work on side by side."""
        return self.workers or default_workers(device)


def execution_problems(device: object, workers: object, backend: object, max_batch: object) -> list[Problem]:
    """What keeps these from being an Execution."""
    return [
        *word("device", device, get_args(DeviceName), {"gpu": "cuda", "cuda:0": "cuda"}),
        *([] if workers is None else count("workers", workers)),
        *word("backend", backend, get_args(Backend), {"onnx": "onnxruntime", "ort": "onnxruntime", "eager": "torch"}),
        *([] if max_batch is None else count("max_batch", max_batch)),
    ]
