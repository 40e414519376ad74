"""A victim's two callables with what is random fixed, so that differences of their answers mean something."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.answers import with_rejected
from ...models.base import Answer, Classifier
from ...models.slopes import whole_steps
from ..asking.answers import victim_call
from ..battery.ground import Ground
from ..machine.seeds import generator

FLOOR = 1e-3
"""Probabilities are compared in logarithms, those below this as if they were it: rounding owns the rest."""
DRAWS = 32
"""How often a randomised victim is asked where its answers and its logits do not share their draws."""
APART = 0.1
"""Distance (total variation) that two means of such answers may have, beyond twice that of two means of one kind."""


class Calls:
    """Each call on the same state of the generator."""

    def __init__(self, victim: Classifier, ground: Ground) -> None:
        self.victim, self.battery, self.memory = victim, ground.spec.name, ground.memory
        self.columns = victim.classes + victim.rejects
        self.rounded, self.top = ground.levels.rounded, ground.levels.top
        self.steps = whole_steps(self.top)

    def _call(self, ask: Answer, images: Tensor, turn: int) -> Tensor:
        return victim_call(ask, images, generator(self.battery, "statements", turn, device=self.victim.device))

    def logits(self, images: Tensor, turn: int = 0) -> Tensor:
        """`(n, columns)`, differentiable."""
        assert self.victim.logits is not None
        return self._call(self.victim.logits, images, turn)

    def answered(self, images: Tensor, turn: int = 0) -> Tensor:
        """`(n, columns)` probabilities, the rejected mass last."""
        probabilities = self._call(self.victim.probabilities, images, turn)
        return with_rejected(probabilities) if self.victim.rejects else probabilities

    def logarithms(self, images: Tensor) -> Tensor:
        """Of the answers, down to where rounding owns the rest."""
        return self.answered(images).clamp_min(FLOOR**2).log()

    def seen(self, images: Tensor) -> Tensor:
        """Of the answers, as far down as float32 goes."""
        return self.answered(images).clamp_min(torch.finfo(torch.float32).tiny).log()

    def drawn(self, *what: str) -> torch.Generator:
        """A stream of chance for what is asked."""
        return generator(self.battery, "statements", *what, device=self.victim.device)


def softmax_of(ask: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Probabilities from a call that gives logits."""
    return lambda images, turn=0: ask(images, turn).softmax(1)


def mean_of(ask: Callable[..., Tensor], images: Tensor, first: int) -> Tensor:
    """The mean over DRAWS turns from `first` on."""
    with torch.no_grad():
        return torch.stack([ask(images, first + turn) for turn in range(DRAWS)]).mean(0)


def apart_on_average(calls: Calls, images: Tensor) -> str | None:
    """What is wrong where a randomised victim's logits say something else than its answers, on average over chance."""

    def distance(one: Tensor, other: Tensor) -> float:
        return float((one - other).abs().sum(1).mean() / 2)

    answers, again = (mean_of(calls.answered, images, first) for first in (0, DRAWS))
    said = mean_of(softmax_of(calls.logits), images, 2 * DRAWS)
    apart, chance = distance(answers, said), distance(answers, again)
    if apart <= 2 * chance + APART:
        return None
    return f"the means of {DRAWS} answers and of its logits are {apart:.2g} apart, two means of answers {chance:.2g}"
