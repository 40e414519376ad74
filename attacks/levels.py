"""The gray levels that a victim sees images in: 256, from 0 to 1 in even steps.

Rounding to them as attacks use it. Attacks import nothing of the house, so it stands in `models/levels.py` too; a test
holds the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOP = 255
"""The largest level, white: pixel value 1."""


def rounded(images: Tensor) -> Tensor:
    """Images in [0, 1], each value moved to the nearest level (halves to the even one) and into range; a new tensor."""
    return images.mul(TOP).round_().clamp_(0, TOP).div_(TOP)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 levels, rounded as `rounded` does."""
    return images.mul(TOP).round_().clamp_(0, TOP).to(torch.uint8)


def moved(images: Tensor, levels: Tensor) -> Tensor:
    """Images in [0, 1] moved by `levels` (which broadcast against them), rounded and brought into range; new."""
    return (images * TOP + levels).round_().clamp_(0, TOP).div_(TOP)


def from_levels(values: Tensor) -> Tensor:
    """Values in [0, 255], rounded to whole levels -> pixel values in [0, 1]; a new tensor."""
    return values.round() / TOP
