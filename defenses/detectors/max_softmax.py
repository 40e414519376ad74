"""Rejection by the largest softmax probability."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.base import Classifier
from ..parameters import number
from .reject import reject_when
from .threshold import CleanImages, Threshold


def max_softmax(inner: Classifier, at: Threshold | CleanImages, temperature: float = 1.0) -> Classifier:
    """Reject where the model is unsure: the score is 1 less the largest softmax probability (Hendrycks and Gimpel 2017,
    §2), of the logits divided by `temperature` (Liang, Li, Srikant 2018, §3, without their change of the image).

    Over the real classes alone, so a rejection that `inner` has already plays no part in it. Works without logits too,
    on the logarithms of the probabilities.

    Gradient: exact.

    Raises:
        ValueError: `temperature` is not above 0 and at most 10,000; or see `reject_when`.
    """
    temperature = number("max_softmax", "temperature", temperature, 0, 10_000)

    def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
        return 1 - (answer / temperature).softmax(1).amax(1)

    return reject_when(inner, "max_softmax", score, at)
