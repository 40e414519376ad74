"""Bit-depth reduction (feature squeezing)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.base import Classifier
from .preprocess import preprocess, whole_number


def bit_depth(inner: Classifier, bits: int) -> Classifier:
    """Round every pixel value to one of `2**bits` evenly spaced levels from 0 to 1 (Xu, Evans, Qi 2018, §III-A).

    `round(x * (2**bits - 1)) / (2**bits - 1)`. No 8-bit gray value lies halfway between two levels, so how ties are
    rounded never matters for an 8-bit image. Applied twice it is exactly itself.

    Gradient: the rounding's own is 0 almost everywhere; declared straight-through.

    Raises:
        ValueError: `bits` is not a whole number from 1 to 8.
    """
    steps = 2 ** whole_number("bit_depth", "bits", bits, 1, 8) - 1

    def squeeze(images: Tensor) -> Tensor:
        return torch.round(images * steps) / steps

    return preprocess(inner, "bit_depth", squeeze)
