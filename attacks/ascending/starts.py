"""Where ascents start: at noise around the mean image, and at images that others made for the same class."""

from __future__ import annotations

import torch
from torch import Tensor

from ..answers import label_of, of_class
from ..base import Fool, Oracle
from .kept import Kept


class Starts:
    """Each task's starts, one after the other: the images that are given, then noise around the mean, strength after
    strength, and round again with other noise. A task has no other start once it was dead at all of them in a row."""

    def __init__(self, task: Fool, rng: torch.Generator, noise: tuple[float, ...], given: Tensor | None = None) -> None:
        """`noise`: standard deviations, in units of [0, 1]. `given`: `(tasks, m, c, h, w)`, each task's in order."""
        count = task.runs * len(task.targets)
        self.mean, self.rng, self.noise = task.mean, rng, noise
        self.given = task.mean.new_empty(count, 0, *task.shape) if given is None else given
        self.begun = torch.zeros(count, dtype=torch.int64, device=task.mean.device)
        """`(tasks,)`: how many starts each task has had."""
        self.dead = torch.zeros_like(self.begun)
        """`(tasks,)`: how many of them, to the last, were dead where they started."""

    def first(self) -> Tensor:
        """The first start of every task: its offset from the mean, `(tasks, c, h, w)` float32, unclamped."""
        return self._begin(torch.arange(len(self.begun), device=self.begun.device))

    def next(self, rows: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """The next start of the tasks `rows` `(n,)`, of which some `moved` `(n,)` from the last one: which of them have
        another, `(n,)` bool, and the offsets of those, in their order."""
        self.dead[rows] = torch.where(moved, 0, self.dead[rows] + 1)
        more = self.dead[rows] < self.given.shape[1] + len(self.noise)
        return more, self._begin(rows[more])

    def _begin(self, rows: Tensor) -> Tensor:
        given, turn = self.given.shape[1], self.begun[rows]
        self.begun[rows] += 1
        offsets = self.mean.new_empty(len(rows), *self.mean.shape)
        lent = turn < given
        offsets[lent] = self.given[rows[lent], turn[lent]] - self.mean
        strength = torch.where(lent, -1, (turn - given) % len(self.noise))
        for place, deviation in enumerate(self.noise):
            here = strength == place
            size = (int(here.sum()), *self.mean.shape)
            if size[0]:
                offsets[here] = deviation * torch.randn(size, generator=self.rng, device=self.rng.device)
        return offsets


def likeliest(task: Fool, oracle: Oracle, kept: Kept, asked: int, wanted: int) -> Tensor:
    """Of the first `asked` images that the task borrows, each task's `wanted` best, best first: `(tasks, m, c, h, w)`,
    m at most `wanted`. Best are those that the victim accepts as the class, then those whose class it finds likeliest.

    One query for each image and task. All are offered to `kept`.
    """
    aims = task.targets.repeat(task.runs)
    owners = torch.arange(len(aims), device=aims.device)
    if task.borrowed is None or not len(task.borrowed):
        return task.mean.new_empty(len(aims), 0, *task.shape)
    images = task.borrowed[:asked].flatten(1, 2)
    standing = torch.empty(len(aims), len(images), device=aims.device)
    for place, one in enumerate(images):
        answered = oracle.probabilities(one, owners)
        own, labelled = of_class(answered, aims), label_of(answered) == aims
        kept.offer(owners, one, labelled, own, own.double().logit())
        standing[:, place] = own + labelled
    order = torch.argsort(standing, dim=1, descending=True, stable=True)[:, :wanted]
    return images[order, owners[:, None]]
