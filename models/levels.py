"""The gray levels that images have, which a file can hold: 256, from 0 to 1 in even steps.

The one home of rounding to them for bench, models and defenses. Attacks have the same in `attacks/levels.py`; a test
holds the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TOP = 255


def rounded(images: Tensor) -> Tensor:
    """Images in [0, 1], each value moved to the nearest level (halves to the even one) and into range; a new tensor."""
    return images.mul(_TOP).round_().clamp_(0, _TOP).div_(_TOP)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 levels, rounded as `rounded` does; on the same device. Raises nothing for NaN, which
    has no level: replace it first."""
    return images.mul(_TOP).round_().clamp_(0, _TOP).to(torch.uint8)


def from_bytes(levels: Tensor) -> Tensor:
    """uint8 levels as float32 images in [0, 1], on the same device; `to_bytes` of them gives the levels back."""
    return levels.to(torch.float32) / _TOP
