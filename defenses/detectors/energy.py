"""Rejection by the energy of the logits."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.base import Classifier
from ..parameters import number
from .reject import reject_when
from .threshold import CleanImages, Threshold

_CONSTANT = 1e-3
"""Standard deviation below which the logarithm of the logits' sum of exponentials is that of probabilities."""


def energy(inner: Classifier, at: Threshold | CleanImages, temperature: float = 1.0) -> Classifier:
    """Reject by the free energy `-T log(sum(exp(z / T)))` of the logits z, T the temperature (Liu et al. 2020, §3.1).

    Over the real classes alone. The energy is what a softmax takes away, so a model that gives probabilities has
    none: its logits are logarithms of probabilities, whose energy at T = 1 is 0.

    Gradient: exact.

    Raises:
        ValueError: `temperature` is not above 0 and at most 10,000; the energy at T = 1 is the same for all clean
            images, where those are given; or see `reject_when`.
    """
    temperature = number("energy", "temperature", temperature, 0, 10_000)
    if inner.logits is not None and isinstance(at, CleanImages):
        with torch.no_grad():
            some = inner.logits(at.images[:250], at.rng)
        # With the rejection that a network has of its own, and without.
        if any(float(z.logsumexp(1).double().std()) < _CONSTANT for z in (some, some[:, : inner.classes])):
            raise Unexpected(
                "logits whose energy differs between images",
                "the same energy for all, as of what gives probabilities (an ensemble and votes always do)",
                "use max_softmax, or a model that gives logits",
            )

    def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
        return -temperature * (answer / temperature).logsumexp(1)

    return reject_when(inner, "energy", score, at, needs_logits=True)
