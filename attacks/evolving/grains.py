"""Noise in squares: one value for all pixels of a square, which sways a label where single pixels average out."""

from __future__ import annotations

import torch
from torch import Tensor


def in_squares(noise: Tensor, sides: Tensor) -> Tensor:
    """`(n, c, h, w)` and the sides of the squares of each image `(n,)` int64, at least 1 -> noise in which each pixel
    has the value that its square's first pixel has; new."""
    n, _, height, width = noise.shape
    device = noise.device
    down, right = (torch.arange(length, device=device) for length in (height, width))
    rows, columns = (at // sides[:, None] * sides[:, None] for at in (down, right))
    image = torch.arange(n, device=device)[:, None, None]
    # Fancy indices on both sides of a slice come first.
    return noise[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def draw_sides(choices: tuple[int, ...], count: int, rng: torch.Generator) -> Tensor:
    """`(count,)` int64 on the generator's device: one of the choices each, uniformly."""
    at = torch.randint(len(choices), (count,), generator=rng, device=rng.device)
    return torch.tensor(choices, device=rng.device)[at]
