"""Gaussian noise on every pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.base import Classifier
from ..parameters import number
from .clip import clip
from .random_preprocess import random_preprocess


def gaussian_noise(inner: Classifier, sigma: float) -> Classifier:
    """Add independent N(0, sigma²) to every pixel value, new at every call, and clip to [0, 1].

    One draw of what Cohen et al. 2019 take a vote over. Departure: they do not clip; a Classifier takes images in
    [0, 1], and another defense may stand behind this one.

    Gradient: exact, given the draw; a value that was clipped passes none.

    Raises:
        ValueError: `sigma`, in units of the pixel range, is not above 0 and at most 1.
    """
    sigma = number("gaussian_noise", "sigma", sigma, 0, 1)
    return random_preprocess(inner, lambda images, rng: noisy(images, sigma, rng))


def noisy(images: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """`(n, c, h, w)` in [0, 1] -> the same with independent N(0, sigma²) on every value, clipped to [0, 1]."""
    noise = torch.randn(images.shape, generator=rng, device=images.device)
    return clip(images + sigma * noise.to(images.dtype))
