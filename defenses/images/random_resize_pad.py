"""Random resizing and padding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.base import Classifier
from .clip import unrounded
from .preprocess import whole_number
from .random_preprocess import random_preprocess


def random_resize_pad(inner: Classifier, grow: int) -> Classifier:
    """Enlarge each image by a random number of pixels, pad it with black at a random place, and bring it back to size
    (after Xie et al. 2018, §3).

    For each image by itself: `d` uniform from 0 to `grow`; resize from h x w to (h + d) x (w + d); put it at one of the
    places where it fits into black (h + grow) x (w + grow), each as likely; resize that to h x w.

    Departures: the paper's network takes the padded image (331 x 331 for 299 x 299), while a Classifier has one input
    shape, so that what stands behind sees a slightly smaller image; both resizes are bilinear (the second with
    antialiasing), where the released code takes the nearest pixel; the paper draws from grow values, here are grow + 1.

    Gradient: exact, given the draw (a draw is a linear map).

    Raises:
        ValueError: `grow` is not a whole number from 1 to the image's longer side.
    """
    _, h, w = inner.shape
    whole_number("random_resize_pad", "grow", grow, 1, max(h, w))
    enlarge = [_enlargements(length, grow).to(inner.device) for length in (h, w)]
    shrink = [_resize(length + grow, length, antialias=True).to(inner.device) for length in (h, w)]

    def change(images: Tensor, rng: torch.Generator) -> Tensor:
        n, device = len(images), images.device
        larger = torch.randint(grow + 1, (n,), generator=rng, device=device)
        maps = []
        for bigger, smaller in zip(enlarge, shrink, strict=True):
            room = grow - larger
            # In double precision, since a float32 below 1 times the number of places can round up to it.
            place = torch.rand(n, generator=rng, device=device, dtype=torch.float64) * (room + 1)
            whole = bigger[larger].take_along_dim(_shifted(place.long(), bigger.shape[1])[:, :, None], 1)
            maps.append((smaller @ whole).to(images.dtype)[:, None])
        return unrounded(maps[0] @ images @ maps[1].mT)

    return random_preprocess(inner, change)


def _resize(old: int, new: int, *, antialias: bool) -> Tensor:
    """`(new, old)`: bilinear resizing of a row of pixels as a matrix."""
    rows = torch.eye(old)[:, None, None]
    return F.interpolate(rows, (1, new), mode="bilinear", antialias=antialias)[:, 0, 0].T.contiguous()


def _enlargements(length: int, grow: int) -> Tensor:
    """`(grow + 1, length + grow, length)`: resizing to every possible length, black behind it."""
    sizes = [_resize(length, length + d, antialias=False) for d in range(grow + 1)]
    return torch.stack([F.pad(rows, (0, 0, 0, grow - d)) for d, rows in enumerate(sizes)])


def _shifted(place: Tensor, length: int) -> Tensor:
    """`(n,)` places -> `(n, length)`: which row stands at each place when all rows move on by that many, in a ring."""
    return (torch.arange(length, device=place.device) - place[:, None]) % length
