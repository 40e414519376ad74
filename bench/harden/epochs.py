"""A training cut into epochs, each of which begins from tensors and ends in tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.training.train import Loss, Training, epoch, optimizer_of
from ..errors import ModelFailure, Problem, Unexpected, Where
from ..machine.seeds import generator
from .steps import Row, Step, Tensors, Tick

_OPTIMIZER = "adamw."
CPU = torch.device("cpu")
Check = Callable[[nn.Module, Tensors], Row]
"""What is to be said of a network in evaluation mode after an epoch, which was handed these tensors."""
Set = Callable[[Tensors], tuple[Tensor, Tensor]]
"""The images `(n, c, h, w)` float32 in [0, 1] and labels `(n,)` to train on, on the device."""
Losses = Callable[[torch.Generator, int, Tensors], Loss | None]
"""An epoch's stream, its number from 0 on and what was handed to it -> its loss; None for cross-entropy."""


@dataclass(frozen=True)
class Course:
    """One network's training."""

    phase: str
    name: str
    """What its weights are handed on as."""
    build: Callable[[torch.Generator], nn.Module]
    """The network with the weights that it starts from, on the device. The generator is on the CPU."""
    training: Training
    images: Set
    losses: Losses
    check: Check
    seeds: tuple[str | int, ...]
    """What its random streams derive from."""

    def steps(self) -> list[Step]:
        """One step an epoch."""
        count = self.training.epochs
        return [
            Step(self.phase, f"epoch {k + 1} of {count}", lambda tensors, tick, k=k: self._epoch(tensors, k))
            for k in range(count)
        ]

    def network(self, tensors: Tensors) -> nn.Module:
        """The network as it was handed on, in evaluation mode."""
        network = self.build(self._rng("start"))
        network.load_state_dict(_under(tensors, f"{self.name}."))
        return network.eval()

    def _epoch(self, tensors: Tensors, k: int) -> tuple[Tensors, Row]:
        network = self.build(self._rng("start")) if k == 0 else self.network(tensors)
        images, labels = self.images(tensors)
        optimizer, schedule = optimizer_of(network, len(images), self.training)
        if k > 0:
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, _OPTIMIZER).items():
                place, _, field = key.partition(".")
                states.setdefault(int(place), {})[field] = value
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
            # The cycle is a function of the number of steps alone: one before, and a step.
            done = k * math.ceil(len(images) / self.training.batch)
            schedule.load_state_dict({"last_epoch": done - 1, "_step_count": done + 1})
            schedule.step()
        rng = self._rng("epoch", k)
        try:
            loss_of = self.losses(rng, k, tensors)
            loss = epoch(network, optimizer, schedule, images, labels, self.training, rng, loss_of)
        except Unexpected as error:
            raise ModelFailure(Problem.of("FB301", error, Where(key=self.phase))) from error
        kept = {key: v for key, v in tensors.items() if not key.startswith((f"{self.name}.", _OPTIMIZER))}
        kept |= {f"{self.name}.{key}": value.detach().cpu() for key, value in network.state_dict().items()}
        if k + 1 < self.training.epochs:
            for place, state in optimizer.state_dict()["state"].items():
                kept |= {f"{_OPTIMIZER}{place}.{field}": value.detach().cpu() for field, value in state.items()}
        return kept, {"loss": loss, **self.check(network, tensors)}

    def _rng(self, *path: str | int) -> torch.Generator:
        return generator(*self.seeds, *path, device=CPU)


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def untrained(course: Course) -> Step:
    """A step that hands on the network a course starts from, as it is, and says what its check says."""

    def run(tensors: Tensors, tick: Tick) -> tuple[Tensors, Row]:
        network = course.build(generator(*course.seeds, "start", device=CPU)).eval()
        own = {f"{course.name}.{key}": value.detach().cpu() for key, value in network.state_dict().items()}
        return {**tensors, **own}, course.check(network, tensors)

    return Step(course.phase, "as given", run)
