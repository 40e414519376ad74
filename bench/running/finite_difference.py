"""Gradients of a victim that has none of its own: central finite differences of what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...attacks.base import Ascent, Objective
from ...attacks.entry import FiniteDifferences
from ...models.answers import with_rejected
from ...models.base import Classifier
from ..asking.answers import checked_answers
from ..battery.ground import Asking
from .drive import Meter, Stopped

TINY = torch.finfo(torch.float32).tiny
"""Stands for a probability of 0 in logarithms."""


@dataclass
class FiniteDifferenceOracle:
    """The Oracle of attacks/base.py over probabilities alone; logits are their logarithms (the rejected mass last).

    With at least 2·c·h·w + 1 queries every pixel value is moved by itself (ZOO: Chen et al. 2017, §3.2, but all
    coordinates, and a step and not Adam). With fewer, all of them move at once along random directions of ±1 and the
    quotients are averaged (SPSA: Spall 1992; against classifiers Uesato et al. 2018, §4.1; with Gaussian directions it
    is the NES of Ilyas et al. 2018, §2.1). Departures from all: steps are whole gray levels, since every query is
    rounded to them; where an image's pixel stands at 0 or 1 the difference is one-sided, and is divided by the
    distance that is left. Large steps see over the flat treads of a staircase, where gradients vanish.
    """

    victim: Classifier
    meter: Meter
    owners: Tensor
    """`(t,)` int64: whom each of the attack's tasks is charged to."""
    how: FiniteDifferences
    rng: torch.Generator
    """For what the victim draws."""
    direction_rng: torch.Generator
    asking: Asking
    stop: Callable[[], bool]
    rejects: bool = field(init=False)

    def __post_init__(self) -> None:
        self.rejects = self.victim.rejects

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        """See attacks/base.py."""
        names = self.owners[owners]
        at = self.meter.charge(names)
        probabilities = self._ask(images)
        self.meter.observe(probabilities, names, at)
        self.meter.tick(len(images), self.meter.fooled)
        return probabilities

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        """See attacks/base.py. Estimated each time: an estimate depends on the entry's own stream of chance."""
        return self.gradient(images, owners, objective).gradients.sign()

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        """See attacks/base.py. At most `queries` queries an image; the images must lie on the levels.

        Probes are charged but never counted as fooling: they may lie outside the attack's limit.
        """
        rows = torch.arange(len(images), device=images.device)
        logits = self._logarithms(self.probabilities(images, owners))
        total, count = torch.zeros_like(images), 0
        for directions in self._directions(images):
            per = directions.shape[1]
            shift = self.how.step * directions
            up, down = ((images.unsqueeze(1) + side * shift).clamp(0, 1) for side in (1, -1))
            probes = torch.cat([up.flatten(0, 1), down.flatten(0, 1)])
            self.meter.charge(self.owners[owners].repeat_interleave(per).repeat(2))
            values = objective(self._logarithms(self._ask(probes)), rows.repeat_interleave(per).repeat(2))
            self.meter.tick(len(probes), self.meter.fooled)
            ahead, behind = values.view(2, len(images), per, 1, 1, 1)
            quotients = torch.where(directions != 0, (ahead - behind) / (up - down), 0.0)
            total += quotients.sum(1)
            count += per
        coordinates = self._by_coordinate(images)
        return Ascent(logits, objective(logits, rows), total if coordinates else total / count)

    def _by_coordinate(self, images: Tensor) -> bool:
        return 2 * images[0].numel() + 1 <= self.how.queries

    def _directions(self, images: Tensor) -> Iterator[Tensor]:
        """`(n, per, c, h, w)` of -1, 0 and 1, in parts of about a batch of probes."""
        n, shape, size = len(images), images.shape[1:], images[0].numel()
        per = max(1, self.asking.batch // (2 * n))
        if self._by_coordinate(images):
            for chosen in torch.arange(size, device=images.device).split(per):
                one_hot = torch.nn.functional.one_hot(chosen, size).to(images.dtype)
                yield one_hot.view(1, len(chosen), *shape).expand(n, -1, -1, -1, -1)
            return
        pairs = (self.how.queries - 1) // 2
        for start in range(0, pairs, per):
            wanted = (n, min(per, pairs - start), *shape)
            signs = torch.randint(0, 2, wanted, generator=self.direction_rng, device=images.device)
            yield 2.0 * signs - 1.0

    def _ask(self, images: Tensor) -> Tensor:
        if self.stop():
            raise Stopped
        self.meter.queries += len(images)
        return checked_answers(self.victim, images, self.rng, self.asking)

    def _logarithms(self, probabilities: Tensor) -> Tensor:
        if self.rejects:
            probabilities = with_rejected(probabilities)
        return probabilities.clamp_min(TINY).log()
