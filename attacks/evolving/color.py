"""What the channels of an evolved image mean."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bench.errors import Unexpected

_CHUNK = 2**22
"""Values converted at once: they stay in a CPU's outer cache from one step of the arithmetic to the next, and large
images need little memory beside themselves."""


def hls_to_rgb(hls: Tensor) -> Tensor:
    """Convert `(..., 3, h, w)` hue, lightness, saturation in [0, 1] to red, green, blue in [0, 1].

    Hue 0 and hue 1 are the same red. (The code released with Nguyen 2015 stores hue in 8 bits where OpenCV counts 180
    steps to the turn, so there its gene runs through 1.42 turns; here it runs through one.)
    """
    rgb = torch.empty_like(hls, memory_format=torch.contiguous_format)
    images = max(1, _CHUNK // max(1, hls.shape[-3:].numel()))
    shape = (-1, *hls.shape[-3:])
    for part, colours in zip(hls.reshape(shape).split(images), rgb.view(shape).split(images), strict=True):
        _convert(part, colours)
    return rgb


def _convert(hls: Tensor, out: Tensor) -> None:
    """Write the colours of `(n, 3, h, w)` to `out`.

    Lightness goes down (channel by channel) by `reach` times a trapezoid wave of hue, clamp(|12 hue - peak| - 3, -1, 1)
    around six twelfths of a turn: red's is upside down, those of green and blue are half a turn off what they wrap
    around. Since |wave| <= 1 and reach <= min(lightness, 1 - lightness), no channel leaves [0, 1], rounding included.
    """
    hue, lightness, saturation = hls.unbind(-3)
    turn = hue * 12.0
    torch.sub(turn, 6.0, out=out[:, 0])
    torch.add(turn, 8.0, out=out[:, 1])
    torch.add(turn, 4.0, out=out[:, 2])
    out[:, 1:].sub_(12.0)
    out.abs_().sub_(3.0).clamp_(-1.0, 1.0)
    out[:, 0].neg_()
    reach = (1.0 - lightness).clamp_max_(lightness).mul_(saturation)
    torch.sub(lightness.unsqueeze(1), out.mul_(reach.unsqueeze(1)), out=out)


def paint(channels: Tensor) -> Tensor:
    """Turn evolved channels `(..., c, h, w)` in [0, 1] into an image: 1 is gray as it is, 3 are read as H, L, S."""
    return hls_to_rgb(channels) if channels.shape[-3] == 3 else channels


def check_channels(channels: int) -> None:
    """Raise ValueError for images that are neither gray nor colour."""
    if channels not in (1, 3):
        raise Unexpected("images of 1 or 3 channels", channels, "convert them to gray or to RGB")
