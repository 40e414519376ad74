"""Label-preserving variants of images: a small shift, a small turn, other brightness, other contrast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..battery.probes import Variants


def variants(images: Tensor, spec: Variants, rng: torch.Generator) -> dict[str, Tensor]:
    """`(n, c, h, w)` float32 in [0, 1] -> as many of each kind, in [0, 1], by its name: each image changed by between
    half of the kind's strength and all of it, to either side."""

    def drawn(strength: float) -> Tensor:
        size = strength * (0.5 + 0.5 * torch.rand(len(images), generator=rng, device=images.device))
        return size * (2 * torch.randint(2, (len(images),), generator=rng, device=images.device) - 1)

    def each(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1)

    still = images.new_zeros(len(images))
    dark = images.amin((1, 2, 3), keepdim=True)
    return {
        "shifted": _moved(images, still, drawn(spec.shift), drawn(spec.shift)),
        "turned": _moved(images, drawn(spec.turn).deg2rad(), still, still),
        "other brightness": images ** each(2 ** drawn(spec.brightness)),
        "other contrast": dark + (images - dark) * each(1 - drawn(spec.contrast).abs()),
    }


def _moved(images: Tensor, angle: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Turned about the centre by radians, and shifted by pixels; linear between pixels, the border repeated."""
    height, width = images.shape[2:]
    # Affine grids run from -1 to 1 along both axes, so on an oblong image a turn stretches.
    cos, sin, ratio = angle.cos(), angle.sin(), height / width
    rows = (
        torch.stack([cos, -sin * ratio, -2 * right / width], 1),
        torch.stack([sin / ratio, cos, -2 * down / height], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).clamp(0, 1)
