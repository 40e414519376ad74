"""Images of nothing that no attack of the battery makes: noise of several kinds, drawn patterns, patches of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def other_nonsense(images: Tensor, each: int, rng: torch.Generator) -> dict[str, Tensor]:
    """`(m, c, h, w)` float32 evaluation images in [0, 1], m at least 1 -> `each` images of every kind, by its name, in
    [0, 1] on the same device. The last two kinds are made of pixels and patches of evaluation images; the others know
    nothing but the shape."""
    return {
        "gaussian noise": _gaussian(images, each, rng),
        "salt and pepper": _salt_and_pepper(images, each, rng),
        "blurred noise": _stretched(F.avg_pool2d(F.pad(_uniform(images, each, rng), (1, 1, 1, 1)), 3, 1)),
        "coarse noise": _coarse(images, each, rng),
        "stripes": _stripes(images, each, rng),
        "checkers": _checkers(images, each, rng),
        "gradients": _stretched(_ramp(images, each, rng)),
        "blobs": _blobs(images, each, rng),
        "shuffled pixels": _shuffled(images, each, rng),
        "patches": _patches(images, each, rng),
    }


def _uniform(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    return torch.rand((each, *images.shape[1:]), generator=rng, device=images.device)


def _number(images: Tensor, each: int, rng: torch.Generator, low: float, high: float) -> Tensor:
    """`(each, 1, 1, 1)`, uniform between the two."""
    return low + (high - low) * torch.rand((each, 1, 1, 1), generator=rng, device=images.device)


def _stretched(images: Tensor) -> Tensor:
    """Each image from black to white."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-6)


def _gaussian(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """Around a gray level and with a spread of its own."""
    noise = torch.randn((each, *images.shape[1:]), generator=rng, device=images.device)
    middle, spread = _number(images, each, rng, 0.2, 0.8), _number(images, each, rng, 0.1, 0.3)
    return (middle + spread * noise).clamp(0, 1)


def _salt_and_pepper(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """White and black pixels on a gray ground, more of them or fewer."""
    drawn, share = _uniform(images, each, rng), _number(images, each, rng, 0.2, 0.9)
    ground = _number(images, each, rng, 0, 1).expand_as(drawn)
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn < share, 1.0, ground))


def _coarse(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """Uniform noise on a grid of 3 × 3, made large: low frequencies alone."""
    grid = torch.rand((each, images.shape[1], 3, 3), generator=rng, device=images.device)
    return F.interpolate(grid, images.shape[2:], mode="bilinear", align_corners=True)


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `(h, 1)` and columns `(1, w)`, from 0 to 1."""
    height, width = images.shape[2:]
    rows, columns = (torch.linspace(0, 1, n, device=images.device) for n in (height, width))
    return rows[:, None], columns[None]


def _ramp(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """Rising along a direction, in each channel along its own."""
    rows, columns = _places(images)
    turn = 2 * torch.pi * torch.rand((each, images.shape[1], 1, 1), generator=rng, device=images.device)
    return rows * turn.sin() + columns * turn.cos()


def _stripes(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """Waves along a direction, two to four over the image."""
    ramp, waves = _ramp(images, each, rng), _number(images, each, rng, 2, 4)
    return 0.5 + 0.5 * (2 * torch.pi * (waves * ramp + _number(images, each, rng, 0, 1))).sin()


def _checkers(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """A board of two gray levels, its fields from a pixel to a third of the image wide."""
    height, width = images.shape[2:]
    field = _number(images, each, rng, 1, max(2.0, min(height, width) / 3)).floor()
    rows, columns = torch.arange(height, device=images.device)[:, None], torch.arange(width, device=images.device)[None]
    odd = ((rows / field).floor() + (columns / field).floor()) % 2
    dark, light = _number(images, each, rng, 0, 0.3), _number(images, each, rng, 0.6, 1)
    return (dark + odd * (light - dark)).expand(-1, images.shape[1], -1, -1)


def _blobs(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """One to three round spots on black, in one colour."""
    rows, columns = _places(images)
    total = torch.zeros((each, 1, *images.shape[2:]), device=images.device)
    for turn in range(3):
        row, column = _number(images, each, rng, 0.1, 0.9), _number(images, each, rng, 0.1, 0.9)
        wide = _number(images, each, rng, 0.08, 0.25)
        there = (_number(images, each, rng, 0, 1) < 0.6) | (turn == 0)
        total = total + there * (-((rows - row) ** 2 + (columns - column) ** 2) / (2 * wide**2)).exp()
    colour = 0.5 + 0.5 * torch.rand((each, images.shape[1], 1, 1), generator=rng, device=images.device)
    return (total * colour).clamp(0, 1)


def _some(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    return images[torch.randint(len(images), (each,), generator=rng, device=images.device)]


def _shuffled(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """Evaluation images whose pixels, colours whole, change places."""
    flat = _some(images, each, rng).flatten(2)
    order = torch.rand((each, flat.shape[2]), generator=rng, device=images.device).argsort(1)
    return flat.gather(2, order[:, None].expand_as(flat)).reshape(each, *images.shape[1:])


def _patches(images: Tensor, each: int, rng: torch.Generator) -> Tensor:
    """Quarters of four evaluation images, each from any of the four corners of its own."""
    height, width = (n // 2 for n in images.shape[2:])
    made = torch.zeros((each, *images.shape[1:]), device=images.device)
    for top, left in ((0, 0), (0, width), (height, 0), (height, width)):
        high, wide = made.shape[2] - top if top else height, made.shape[3] - left if left else width
        given = _some(images, each, rng)
        corner = torch.randint(4, (each,), generator=rng, device=images.device)
        for i, (down, right) in enumerate(((False, False), (False, True), (True, False), (True, True))):
            rows = slice(made.shape[2] - high, None) if down else slice(0, high)
            columns = slice(made.shape[3] - wide, None) if right else slice(0, wide)
            mine = corner == i
            made[mine, :, top : top + high, left : left + wide] = given[mine][:, :, rows, columns]
    return made
