"""Two ways back into [0, 1]: cutting values off, and taking back a rounding error."""

from __future__ import annotations

import torch
from torch import Tensor


def clip(images: Tensor) -> Tensor:
    """Cut values off at 0 and 1. Where that changes a value it passes no gradient; 0 and 1 themselves keep theirs."""
    # Not clamp alone: its derivative is 0 at exactly 0 and 1 too, which would hide black and white pixels.
    return torch.where((images < 0) | (images > 1), images.detach().clamp(0, 1), images)


def unrounded(images: Tensor) -> Tensor:
    """Take back what float32 rounding pushed past 0 or 1, and leave the gradient alone.

    For weighted means of pixels, which are in [0, 1] but for rounding: a white image would lose its whole gradient.
    The difference of two floats so close to each other is exact, so what comes back is exactly 0 or 1.
    """
    return images - (images - images.clamp(0, 1)).detach()
