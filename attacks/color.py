"""What the channels of an evolved image mean."""

from __future__ import annotations

import torch
from torch import Tensor


def hls_to_rgb(hls: Tensor) -> Tensor:
    """Convert `(..., 3, h, w)` hue, lightness, saturation in [0, 1] to red, green, blue in [0, 1].

    Hue 0 and hue 1 are the same red. (The code released with Nguyen 2015 stores hue in 8 bits where OpenCV counts 180
    steps to the turn, so there its gene runs through 1.42 turns; here it runs through one.)
    """
    hue, lightness, saturation = hls.unbind(-3)
    reach = saturation * torch.minimum(lightness, 1.0 - lightness)
    planes = []
    for offset in (0.0, 8.0, 4.0):
        sector = torch.remainder(hue * 12.0 + offset, 12.0)
        wave = torch.minimum(sector - 3.0, 9.0 - sector).clamp_(-1.0, 1.0)
        planes.append(lightness - reach * wave)
    return torch.stack(planes, -3).clamp_(0.0, 1.0)


def paint(channels: Tensor) -> Tensor:
    """Turn evolved channels `(..., c, h, w)` in [0, 1] into an image: 1 is gray as it is, 3 are read as H, L, S."""
    return hls_to_rgb(channels) if channels.shape[-3] == 3 else channels


def check_channels(channels: int) -> None:
    """Raise ValueError for images that are neither gray nor colour."""
    if channels not in (1, 3):
        raise ValueError(f"expected images of 1 or 3 channels, got {channels}: convert them to gray or to RGB")
