"""The step sizes of APGD (Croce & Hein 2020, section 3): halved where the objective no longer rises."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

RISING = 0.75
"""Of the steps since the last checkpoint, the share that must have raised the objective, else the step is halved."""
FIRST, LESS, LEAST = 0.22, 0.03, 0.06
"""Of all steps: those up to the first checkpoint, how many fewer up to each further one, and the fewest."""


def checkpoints(steps: int) -> frozenset[int]:
    """The numbers of steps after which the step size is looked at, in whole steps as the authors' code rounds them."""
    found, at, gap = set[int](), 0, max(int(FIRST * steps), 1)
    while at + gap <= steps:
        at += gap
        found.add(at)
        gap = max(gap - max(int(LESS * steps), 1), max(int(LEAST * steps), 1))
    return frozenset(found)


@dataclass
class Path:
    """Where each image of a run stands. All have one row an image."""

    at: Tensor
    """`(n, c, h, w)`: the iterate, not rounded."""
    before: Tensor
    """The iterate before it."""
    best: Tensor
    """The iterate of the largest value."""
    best_sign: Tensor
    """`(n, c, h, w)` int8: which way the objective rises there."""
    step: Tensor
    """`(n,)` in units of [0, 1]."""
    value: Tensor
    """`(n,)`: of the iterate looked at last."""
    best_value: Tensor
    checked_value: Tensor
    """`(n,)`: the best value at the last checkpoint."""
    rises: Tensor
    """`(n,)`: how many steps raised the value since."""
    halved: Tensor
    """`(n,)` bool: at the last checkpoint; before the first one, so that a step is not halved for having stalled."""

    @staticmethod
    def start(images: Tensor, step: float) -> Path:
        """At these images, `(n, c, h, w)` in [0, 1], nothing known."""
        n = len(images)
        low = images.new_full((n,), -torch.inf)
        size, none = images.new_full((n,), step), torch.zeros(n, dtype=torch.int64, device=images.device)
        signs = torch.zeros(images.shape, dtype=torch.int8, device=images.device)
        return Path(images, images, images.clone(), signs, size, low, low, low, none, ~none.bool())

    def keep(self, rows: Tensor) -> None:
        """Go on with these images only, `(n,)` bool."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])

    def saw(self, values: Tensor, signs: Tensor, first: bool) -> None:
        """Take note of the values and the directions `(n, c, h, w)` at the iterates. A value that is NaN is none."""
        if not first:
            self.rises = self.rises + (values > self.value)
        self.value = values
        better = values > self.best_value
        self.best[better], self.best_sign[better] = self.at[better], signs[better]
        self.best_value = torch.where(better, values, self.best_value)

    def check(self, signs: Tensor, since: int) -> Tensor:
        """At a checkpoint, `since` steps after the last: halve steps and go back to the best iterates where it is time,
        and return the directions to go on in."""
        stalled = ~self.halved & (self.checked_value >= self.best_value)
        self.halved = stalled | (self.rises <= RISING * since)
        self.checked_value, self.rises = self.best_value, torch.zeros_like(self.rises)
        self.step = torch.where(self.halved, self.step / 2, self.step)
        back = self.halved.view(-1, 1, 1, 1)
        self.at = torch.where(back, self.best, self.at)
        return torch.where(back, self.best_sign, signs)
