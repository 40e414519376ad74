"""Work cut into steps, each saved when it is done, so that an interrupted command goes on where it was.

A step is a function of what the steps before it left and of nothing else: every step has random streams of its own,
derived from its name. So a resumed command gives the bits of an uninterrupted one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
from torch import Tensor

from ..machine.folder import atomically

Tensors = dict[str, Tensor]
"""What steps hand on, by name; on the CPU."""
Row = dict[str, Any]
"""What a step says of itself, as JSON: a line of the training log."""
Tick = Callable[[float], None]
"""Told by a step which share of it is done."""
STATE = "state.safetensors"


@dataclass(frozen=True)
class Step:
    """One piece of work."""

    phase: str
    """What it belongs to, in words; steps of one phase follow each other."""
    title: str
    run: Callable[[Tensors, Tick], tuple[Tensors, Row]]
    """What is handed on -> what is handed on next, and the line of the log. Must not alter what it is given."""


@dataclass(frozen=True)
class State:
    """How far the work is."""

    done: int
    tensors: Tensors
    log: tuple[Row, ...]


class StepProgress(Protocol):
    """Told how the work goes on; must not change a result."""

    def begin(self, steps: Sequence[Step], done: int) -> None:
        """So many of the steps were found done."""
        ...

    def share(self, done: float) -> None:
        """How much is done, in steps."""
        ...

    def finished(self, step: Step, row: Row) -> None:
        """A step is done and saved."""
        ...


def followed(steps: Sequence[Step], folder: Path, told: StepProgress) -> State:
    """Do all steps, from where the folder's saved state is on. Raises EnvironmentFault where it cannot be written.

    Whose the folder is, is the caller's to check: see `folder.claimed`.
    """
    file = folder / STATE
    state = _read(file, len(steps))
    told.begin(steps, state.done)
    for i, step in enumerate(steps):
        if i < state.done:
            continue
        began = time.perf_counter()
        tensors, row = step.run(dict(state.tensors), lambda share, i=i: told.share(i + share))
        row = {"phase": step.phase, "step": step.title, **row, "seconds": round(time.perf_counter() - began, 3)}
        state = State(i + 1, tensors, (*state.log, row))
        atomically(file, _bytes(state))
        told.finished(step, row)
    return state


def _bytes(state: State) -> bytes:
    about = {"done": str(state.done), "log": json.dumps(state.log)}
    return safetensors.torch.save({name: value.contiguous() for name, value in state.tensors.items()}, about)


def _read(file: Path, steps: int) -> State:
    """The saved state; the beginning where there is none, or none that can be read."""
    try:
        with safetensors.safe_open(file, framework="pt") as saved:
            about = saved.metadata() or {}
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
        state = State(int(about["done"]), tensors, tuple(json.loads(about["log"])))
    except (OSError, safetensors.SafetensorError, KeyError, ValueError):
        return State(0, {}, ())
    return state if 0 < state.done <= steps else State(0, {}, ())
