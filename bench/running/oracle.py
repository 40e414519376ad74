"""What answers a white-box attack: the victim's gradients, in batches, counted, averaged over what is random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...attacks.base import Ascent, Objective, WhiteBox
from ...models.base import Classifier
from ..asking.answers import checked_answers, nonsense, victim_call
from ..battery.ground import Asking
from ..machine.memory import Memory
from .drive import Meter, Stopped, check_asked


class Look(NamedTuple):
    """A differentiated look at a block's own images, as much of it as an ε grid needs again."""

    logits: Tensor
    sign: Tensor
    """`(n, c, h, w)` int8, so that all looks together are no larger than the images as bytes."""


@dataclass
class DrivenOracle:
    """The Oracle of attacks/base.py over a victim with logits: batches, counts, and averages over what is random."""

    victim: Classifier
    meter: Meter
    rng: torch.Generator
    how: Asking
    """The batch is that of gradients."""
    draws: int
    """Gradients averaged for each image (EOT); 1 unless the victim is randomised."""
    stop: Callable[[], bool]
    memory: Memory = field(default_factory=Memory)
    """Bounds the images whose gradients are taken at once."""
    asked: Classifier | None = None
    """Who answers queries: the expectation of a randomised victim; None: the victim itself."""
    looks: dict[str, Look] = field(default_factory=dict)
    """What was differentiated at the block's own images, by name. Handed in where entries share their blocks."""
    rejects: bool = field(init=False)

    def __post_init__(self) -> None:
        self.rejects = self.victim.rejects

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        """See attacks/base.py."""
        at = self._before(images, owners)
        answered = checked_answers(self.asked or self.victim, images, self.rng, self.how)
        self.meter.queries += len(images)
        self.meter.observe(answered, owners, at)
        self.meter.tick(len(images), self.meter.fooled)
        return answered

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        """See attacks/base.py. Averages logits, values and gradients over `draws` for a randomised victim."""
        at = self._before(images, owners)
        assert self.victim.logits is not None
        parts: list[Ascent] = []
        for rows in torch.arange(len(images), device=images.device).split(self.how.batch):
            parts += self.memory.pieces(len(rows), lambda some, of=rows: self._expected(images, of[some], objective))
        result = parts[0] if len(parts) == 1 else Ascent(*(torch.cat(x) for x in zip(*parts, strict=True)))
        self.meter.gradients += len(images)
        self._after(result.logits, owners, at)
        return result

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        """See attacks/base.py. Taken once for each name, charged and observed each time."""
        look = self.looks.get(name)
        if look is None:
            seen = self.gradient(images, owners, objective)
            look = self.looks[name] = Look(seen.logits, seen.gradients.sign().to(torch.int8))
        else:
            at = self._before(images, owners)
            self.meter.gradients += len(images)
            self._after(look.logits, owners, at)
        return look.sign.to(images.dtype)

    def _expected(self, images: Tensor, rows: Tensor, objective: Objective) -> Ascent:
        """The mean over the draws."""
        draws = [self._differentiate(images[rows], rows, objective) for _ in range(self.draws)]
        return draws[0] if len(draws) == 1 else Ascent(*(torch.stack(x).mean(0) for x in zip(*draws, strict=True)))

    def _differentiate(self, images: Tensor, rows: Tensor, objective: Objective) -> Ascent:
        assert self.victim.logits is not None
        leaf = self.how.levels.rounded(images.detach()).requires_grad_(True)
        with torch.enable_grad():
            logits = victim_call(self.victim.logits, leaf, self.rng)
            values = objective(logits, rows)
            (gradients,) = torch.autograd.grad(values.sum(), leaf)
        # Not in place: what autograd hands out may be an expanded view.
        return Ascent(logits.detach(), values.detach(), gradients.nan_to_num())

    def _before(self, images: Tensor, owners: Tensor) -> Tensor:
        if self.stop():
            raise Stopped
        check_asked(images, owners, self.victim.shape)
        return self.meter.charge(owners)

    def _after(self, logits: Tensor, owners: Tensor, at: Tensor) -> None:
        if bool(logits.isnan().any()):
            raise nonsense(logits)
        self.meter.observe(logits.softmax(1)[:, : self.victim.classes], owners, at)
        self.meter.tick(len(logits), self.meter.fooled)


def drive_white_box(attack: WhiteBox[Any], task: Any, oracle: DrivenOracle, *, attack_rng: torch.Generator) -> Tensor:
    """Run an ascent to its end and return its finals. Raises OverBudget, ModelFailure, Stopped."""
    return attack.ascend(task, oracle, attack_rng)
