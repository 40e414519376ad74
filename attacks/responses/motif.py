"""The motif of an image: the square window that repeats itself best elsewhere in it, and where its copies stand."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...bench.errors import Unexpected
from ..patches.paste import crop

_FLAT = 1e-6
"""Energy below which a window counts as of one colour: half a gray level in one pixel is 4e-6."""


class Motif(NamedTuple):
    """The instances of one window in one image. k is 0 where nothing repeats."""

    side: int
    """Pixels."""
    corners: Tensor
    """`(k, 2)` int64 top left pixels, the most similar first; no two windows share a pixel."""
    similarity: Tensor
    """`(k,)` normalised cross-correlation with the window itself, which is one of them (1.0)."""
    explained: float
    """Share of the image's energy (squared deviation from its mean colour) that the copies explain, 0 to 1: what is
    left out when the window, in the brightness and contrast that fit best, is taken out of each place."""


def find_motif(
    image: Tensor,
    sides: tuple[int, ...],
    *,
    threshold: float,
    contrast: float,
    least: int,
    most: int,
    windows: int,
) -> Motif:
    """Search a `(c, h, w)` image in [0, 1] for the window whose non-overlapping copies explain most of its energy.

    A copy is a place where the normalised cross-correlation (each channel's mean taken out, all channels together) is
    at least `threshold`; places are taken greedily, the most similar first. Places whose energy a pixel is below
    `contrast`² of the image's are nobody's copy: what is nearly flat correlates by chance. Ties go to the earlier side
    in `sides` and to the upper left window.

    Args:
        image: see above.
        sides: window sides tried, pixels.
        threshold: 0 to 1.
        contrast: 0 to 1.
        least: fewest instances, the window itself included, that count as repetition.
        most: instances at which the search for more ends.
        windows: windows tried as the motif at first, a side, at most; they are spaced evenly. Where that leaves gaps,
            the best one's neighbours are tried too. Copies are sought at every pixel.

    Raises:
        ValueError: a side that does not fit.
    """
    height, width = image.shape[1:]
    best = Motif(sides[0], *_nothing(image.device), 0.0)
    for side in sides:
        if side > min(height, width):
            raise Unexpected(f"sides of at most {min(height, width)}", side, "use smaller windows")
        found = _of_side(image, side, threshold, contrast, least, most, windows)
        if found.explained > best.explained:
            best = found
    return best


def _nothing(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.empty(0, 2, dtype=torch.int64, device=device), torch.empty(0, device=device)


def _of_side(image: Tensor, side: int, threshold: float, contrast: float, least: int, most: int, windows: int) -> Motif:
    height, width = image.shape[1] - side + 1, image.shape[2] - side + 1
    centred = image - image.mean((1, 2), keepdim=True)
    total = float(centred.double().square().sum())
    energy = _energy(centred, side)
    floor = max(_FLAT, contrast**2 * total * side**2 / image[0].numel())
    structured = energy >= floor

    step = 1
    while math.ceil(height / step) * math.ceil(width / step) > windows:
        step += 1
    grid = torch.zeros_like(structured)
    grid[::step, ::step] = True

    def repeated(candidates: Tensor) -> tuple[Motif, Tensor]:
        """The best of the windows at `(n, 2)`, n at least 1, and its own place."""
        templates = crop(centred.expand(len(candidates), -1, -1, -1), candidates, side)
        templates = templates - templates.mean((2, 3), keepdim=True)
        templates = templates / templates.flatten(1).norm(dim=1)[:, None, None, None]
        similarity = F.conv2d(centred[None], templates)[0] / energy.clamp_min(_FLAT).sqrt()
        places, values = _greedy(torch.where(structured, similarity, -1.0), side, threshold, most)
        counts = (places >= 0).sum(1)
        held = energy.flatten()[places.clamp_min(0)] * values.square() * (places >= 0)
        explained = held.sum(1) * (counts >= least)
        winner = int(explained.argmax())
        count = int(counts[winner]) if explained[winner] > 0 else 0
        place = places[winner, :count]
        motif = Motif(
            side,
            torch.stack([place // width, place % width], 1),
            values[winner, :count].clamp(max=1.0),
            min(1.0, float(explained[winner]) / total) if count else 0.0,
        )
        return motif, candidates[winner]

    candidates = (structured & grid).nonzero()
    if not len(candidates):
        return Motif(side, *_nothing(image.device), 0.0)
    motif, place = repeated(candidates)
    if step == 1 or not len(motif.corners):
        return motif
    near = (structured.nonzero() - place).abs().amax(1) < step
    return repeated(structured.nonzero()[near])[0]


def _energy(centred: Tensor, side: int) -> Tensor:
    """`(rows, columns)` float32: each window's squared deviation from its own mean colour, summed over its pixels."""
    values = centred.double()[None]
    mean = F.avg_pool2d(values, side, 1)
    square = F.avg_pool2d(values.square(), side, 1)
    return ((square - mean.square()).sum((0, 1)) * side**2).clamp_min(0).float()


def _greedy(similarity: Tensor, side: int, threshold: float, most: int) -> tuple[Tensor, Tensor]:
    """For each template of `(n, rows, columns)` up to `most` places, `(n, most)`: flat positions (-1 where there are
    no more) and their similarities."""
    count, rows, columns = similarity.shape
    row = torch.arange(rows, device=similarity.device)[None, :, None]
    column = torch.arange(columns, device=similarity.device)[None, None]
    open_ = similarity.clone()
    places = torch.full((count, most), -1, device=similarity.device)
    values = torch.zeros(count, most, device=similarity.device)
    for turn in range(most):
        value, place = open_.flatten(1).max(1)
        copy = value >= threshold
        if not bool(copy.any()):
            break
        places[:, turn] = torch.where(copy, place, -1)
        values[:, turn] = torch.where(copy, value, 0.0)
        near = ((row - (place // columns)[:, None, None]).abs() < side) & (
            (column - (place % columns)[:, None, None]).abs() < side
        )
        open_.masked_fill_(near, -torch.inf)
    return places, values
