"""Gaussian blur."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...models.base import Classifier
from ..parameters import number
from .clip import unrounded
from .preprocess import preprocess

_TRUNCATE = 4.0
"""Where the kernel ends, in standard deviations: SciPy's own default."""


def gaussian_blur(inner: Classifier, sigma: float) -> Classifier:
    """Blur each channel by a Gaussian of standard deviation `sigma` pixels.

    As `scipy.ndimage.gaussian_filter(sigma=sigma, mode="reflect", truncate=4)`: two passes of a kernel of radius
    `int(4 * sigma + 0.5)` whose weights sum to 1; outside the image lies its mirror image, the edge included (d c b a |
    a b c d | d c b a), and its mirror image again where the kernel is larger than the image. Equal to SciPy's but for
    float32 rounding.

    Gradient: exact (it is a linear map).

    Raises:
        ValueError: `sigma` is not above 0.125 (below, the kernel is a single pixel) and at most 16.
    """
    weights = kernel(number("gaussian_blur", "sigma", sigma, 0.125, 16))

    def blur(images: Tensor) -> Tensor:
        return unrounded(_weighted(_weighted(images, -2, weights), -1, weights))

    return preprocess(inner, "gaussian_blur", blur, backward=blur, exact=True)


def kernel(sigma: float) -> list[float]:
    """The weights of one pass, in order, in double precision."""
    radius = int(_TRUNCATE * sigma + 0.5)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _weighted(images: Tensor, axis: int, weights: list[float]) -> Tensor:
    """One pass along one axis."""
    length = images.shape[axis]
    padded = _mirrored(images, axis, len(weights) // 2)
    # Summed in one order whatever the batch, which a matrix product or a convolution does not promise.
    total = padded.narrow(axis, 0, length) * weights[0]
    for i, weight in enumerate(weights[1:], 1):
        total = torch.add(total, padded.narrow(axis, i, length), alpha=weight)
    return total


def _mirrored(images: Tensor, axis: int, radius: int) -> Tensor:
    """The images with `radius` more pixels at both ends of the axis: image, mirror image, image, and so on."""
    length = images.shape[axis]
    start = -radius % (2 * length)
    periods = -(-(start + length + 2 * radius) // (2 * length))
    # Not by a table of places: on a GPU the gradient of a look-up adds up in an order that is left to chance.
    return torch.cat([images, images.flip(axis)] * periods, axis).narrow(axis, start, length + 2 * radius)
