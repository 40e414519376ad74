"""Adversarial images for training: FGSM and PGD, against a network that is being trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Images `(n, c, h, w)` -> logits `(n, K)`, or `(n, K + 1)` where the last column rejects; differentiable."""


@dataclass(frozen=True)
class Adversary:
    """Steps along the sign of the gradient, inside a ball of the maximum norm, clipped to [0, 1].

    One step of `epsilon` from the image itself is FGSM (Goodfellow, Shlens & Szegedy, ICLR 2015, section 4); several
    smaller ones from a uniformly drawn start are PGD (Madry et al., ICLR 2018, section 2.1).

    As in `attacks/fgsm.py` and for its reasons, what is ascended is the log of the wrong classes' summed probability:
    without rejection its gradient has the sign of cross-entropy's and does not vanish where the label's
    probability rounds to 1; with rejection it asks for an image that is accepted and wrong.
    """

    epsilon: float
    """Radius, in pixel values of [0, 1]."""
    steps: int
    step: float
    random_start: bool

    def images(self, logits: Logits, images: Tensor, labels: Tensor, classes: int, rng: torch.Generator) -> Tensor:
        """Adversarial images of `images` `(n, c, h, w)`, not rounded. `labels` `(n,)` are those to get away from.

        `rng` is on the CPU and only asked where the start is random.
        """
        found = images
        if self.random_start:
            start = torch.rand(images.shape, generator=rng).to(images.device) * 2 - 1
            found = (images + self.epsilon * start).clamp(0, 1)
        for _ in range(self.steps):
            leaf = found.detach().requires_grad_(True)
            with torch.enable_grad():
                scores = logits(leaf).log_softmax(1)[:, :classes]
                own = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, labels[:, None], True)
                (gradient,) = torch.autograd.grad(scores.masked_fill(own, -torch.inf).logsumexp(1).sum(), leaf)
            found = found + self.step * gradient.sign()
            found = torch.minimum(torch.maximum(found, images - self.epsilon), images + self.epsilon).clamp(0, 1)
        return found.detach()


def fgsm(epsilon: float) -> Adversary:
    """The fast gradient sign method."""
    return Adversary(epsilon, 1, epsilon, random_start=False)


def pgd(epsilon: float, steps: int) -> Adversary:
    """Projected gradient descent; its step is 2.5 epsilon / steps, so that the border can be reached and left."""
    return Adversary(epsilon, steps, 2.5 * epsilon / steps, random_start=True)
