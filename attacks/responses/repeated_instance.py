"""Copies of the motif in a fooling image removed one by one, after Nguyen, Yosinski & Clune, CVPR 2015.

The paper removes, by hand, some of the repeated elements of a few CPPN images and sees the confidence fall, "albeit a
small" fall: extra copies make a network surer, so it looks at parts rather than at their arrangement. Everything here
beyond that idea is a reconstruction: how the motif and its copies are found (motif.py), the order of removal, what is
put in a copy's place, and the control, which the paper does not have.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...bench.errors import Unexpected
from ..answers import of_class
from ..base import Query
from ..levels import EIGHT_BITS, Levels
from .motif import Motif, find_motif
from .statistics import quartiles, share


@dataclass(frozen=True, eq=False)
class Removals:
    """What removing did to each of t images. `most` is RepeatedInstance.most; NaN and -1 stand for "no more copies"."""

    side: NDArray[np.int64]
    """`(t,)` the motif's side, pixels."""
    copies: NDArray[np.int64]
    """`(t,)` instances found, the motif itself included; 0 where nothing repeats."""
    chance: NDArray[np.int64]
    """`(t,)` instances found in the same image with its pixels in random order."""
    corners: NDArray[np.int64]
    """`(t, most, 2)` rows and columns of their top left pixels, in the order of removal: the least similar first."""
    similarity: NDArray[np.float32]
    """`(t, most)` their normalised cross-correlations with the motif."""
    explained: NDArray[np.float32]
    """`(t,)` share of the image's energy that the copies explain (see motif.py)."""
    curve: NDArray[np.float32]
    """`(t, most + 1)` confidence in the target: of the whole image, then after each removal."""
    control: NDArray[np.float32]
    """`(t, draws, most + 1)` the same when random windows are removed instead."""
    changed: NDArray[np.float32]
    """`(t,)` root mean square change of the pixels once the extra copies are gone; NaN without copies."""
    changed_control: NDArray[np.float32]
    """`(t,)` the same for the control, mean over draws."""
    clear: NDArray[np.float32]
    """`(t,)` share of the control's windows that touch no copy; NaN without copies."""

    @property
    def fall(self) -> NDArray[np.float32]:
        """`(t,)` confidence lost when all copies but the motif itself are gone; NaN without copies."""
        return _fall(self.curve, self.copies - 1)

    @property
    def fall_control(self) -> NDArray[np.float32]:
        """`(t,)` the same for equally many random windows: mean over draws."""
        before = self.control[:, :, 0].mean(1)
        at = np.maximum(self.copies - 1, 0)[:, None, None]
        after = np.take_along_axis(self.control, at, 2)[:, :, 0].mean(1)
        return np.where(self.copies > 0, before - after, np.nan).astype(np.float32)

    @property
    def fall_all(self) -> NDArray[np.float32]:
        """`(t,)` confidence lost when the motif itself is gone too."""
        return _fall(self.curve, self.copies)

    def summary(self) -> dict[str, Any]:
        """Over the images, ready for JSON: medians, quartiles and counts; shares as k of the n images with a motif.

        `repeats`, `repeats_by_chance`: of all images, those with a motif, as they are and with their pixels shuffled.
        `falls`: confidence is lower without the extra copies. `falls_more`: lower than it is, on average, without
        equally many random windows.
        """
        repeats = self.copies > 0
        fall, control = self.fall[repeats], self.fall_control[repeats]
        return {
            "images": len(self.copies),
            "repeats": share(repeats),
            "repeats_by_chance": share(self.chance > 0),
            "copies": quartiles(self.copies[repeats].astype(np.float32)),
            "confidence": quartiles(self.curve[repeats, 0]),
            "fall": quartiles(fall),
            "fall_control": quartiles(control),
            "fall_all": quartiles(self.fall_all[repeats]),
            "falls": share(fall > 0),
            "falls_control": share(control > 0),
            "falls_more": share(fall > control),
            "changed": quartiles(self.changed[repeats]),
            "changed_control": quartiles(self.changed_control[repeats]),
            "clear": quartiles(self.clear[repeats]),
        }


@dataclass(frozen=True, kw_only=True)
class RepeatedInstance:
    """Find each image's motif, remove its copies one by one, and ask about each image that this leaves.

    A copy's window takes the mean colour of the pixels around it (those of the whole image that touch it), to the
    nearest of the levels. The least similar copy goes first and the motif itself last. The control removes as many
    windows of the same side in the same way, at places drawn anew in each of `draws`: uniformly from those that touch
    neither a copy nor one another; where there are no more of those, from those that do not touch one another; and
    then from all.
    """

    sides: tuple[int, ...]
    """Window sides tried, pixels."""
    threshold: float = 0.9
    """Normalised cross-correlation from which on a window counts as a copy."""
    contrast: float = 0.5
    """A copy's standard deviation is at least this share of the image's."""
    least: int = 3
    """Instances that make a repetition, the motif itself included: two alike are common among small windows."""
    most: int = 16
    """Instances removed at most."""
    windows: int = 128
    """Windows tried as the motif at first, a side, at most (see motif.py)."""
    draws: int = 8
    """Random removals an image."""
    levels: Levels = EIGHT_BITS
    """The gray levels of the images."""

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 2:
            raise Unexpected("sides of at least 2 pixels", self.sides, "raise them")
        if not 2 <= self.least <= self.most:
            raise Unexpected("2 <= least <= most", f"{self.least} and {self.most}", "change them")
        for name in ("windows", "draws"):
            if getattr(self, name) < 1:
                raise Unexpected(f"{name} of at least 1", getattr(self, name), "raise it")
        for name in ("threshold", "contrast"):
            if not 0 < getattr(self, name) <= 1:
                raise Unexpected(f"{name} above 0 and at most 1", getattr(self, name), "change it")

    def find(self, image: Tensor) -> Motif:
        """The motif of one `(c, h, w)` image. Raises ValueError for a side that does not fit."""
        return find_motif(
            image,
            self.sides,
            threshold=self.threshold,
            contrast=self.contrast,
            least=self.least,
            most=self.most,
            windows=self.windows,
        )

    def measure(self, images: Tensor, targets: Tensor, rng: torch.Generator) -> Generator[Query, Tensor, Removals]:
        """Ask by the attacks' protocol (owners 0..t-1) and return what was found.

        Queries an image with k copies: 1 + k x (1 + draws), in one Query.

        Args:
            images: `(t, c, h, w)` float32 in [0, 1], t at least 1. Never written to.
            targets: `(t,)` int64: the class that each image passes for.
            rng: on the images' device.
        """
        rows: list[_Row] = []
        for i, image in enumerate(images):
            motif = self.find(image)
            order = torch.randperm(image[0].numel(), generator=rng, device=image.device)
            chance = self.find(image.flatten(1)[:, order].view_as(image))
            corners = motif.corners.flip(0)
            k = len(corners)
            without = removed(image, corners[None], motif.side, self.levels)
            elsewhere = self._elsewhere(image, motif, rng)
            control = removed(image, elsewhere, motif.side, self.levels)
            asked = torch.cat([image[None], without[0], control.flatten(0, 1)])
            answers = yield Query(asked, torch.full((len(asked),), i, device=images.device))
            confidence = of_class(answers, targets[i].expand(len(asked)))
            start = confidence[:1].expand(self.draws, 1)
            rows.append(
                _Row(
                    motif,
                    len(chance.corners),
                    confidence[: 1 + k],
                    torch.cat([start, confidence[1 + k :].view(self.draws, k)], 1),
                    _change(image, without),
                    _change(image, control),
                    float((~_touches(elsewhere.view(-1, 2), corners, motif.side).any(1)).float().mean()),
                )
            )
        return self._gathered(rows)

    def _elsewhere(self, image: Tensor, motif: Motif, rng: torch.Generator) -> Tensor:
        """`(draws, k, 2)`: corners of the control's windows."""
        rows, columns = image.shape[1] - motif.side + 1, image.shape[2] - motif.side + 1
        each = torch.cartesian_prod(
            torch.arange(rows, device=image.device), torch.arange(columns, device=image.device)
        ).view(-1, 2)
        cost = torch.rand(self.draws, len(each), device=image.device, generator=rng)
        cost += _touches(each, motif.corners, motif.side).any(1)
        drawn = torch.empty(self.draws, len(motif.corners), 2, dtype=torch.int64, device=image.device)
        for turn in range(len(motif.corners)):
            drawn[:, turn] = each[cost.argmin(1)]
            cost += 2 * _touches(each, drawn[:, turn], motif.side).T
        return drawn

    def _gathered(self, rows: list[_Row]) -> Removals:
        def padded(values: Tensor, length: int, fill: float) -> NDArray[Any]:
            """The last axis filled up."""
            out = values.new_full((*values.shape[:-1], length), fill)
            out[..., : values.shape[-1]] = values
            return out.cpu().numpy()

        def numbers(values: list[float]) -> NDArray[np.float32]:
            return np.array(values, np.float32)

        return Removals(
            side=np.array([row.motif.side for row in rows]),
            copies=np.array([len(row.motif.corners) for row in rows]),
            chance=np.array([row.chance for row in rows]),
            corners=np.stack([padded(row.motif.corners.flip(0).T, self.most, -1).T for row in rows]),
            similarity=np.stack([padded(row.motif.similarity.flip(0), self.most, np.nan) for row in rows]),
            explained=numbers([row.motif.explained for row in rows]),
            curve=np.stack([padded(row.curve, self.most + 1, np.nan) for row in rows]),
            control=np.stack([padded(row.control, self.most + 1, np.nan) for row in rows]),
            changed=numbers([row.changed for row in rows]),
            changed_control=numbers([row.changed_control for row in rows]),
            clear=numbers([row.clear for row in rows]),
        )


class _Row(NamedTuple):
    """What was found of one image."""

    motif: Motif
    chance: int
    curve: Tensor
    control: Tensor
    changed: float
    changed_control: float
    clear: float


def _fall(curve: NDArray[np.float32], at: NDArray[np.int64]) -> NDArray[np.float32]:
    after = np.take_along_axis(curve, np.maximum(at, 0)[:, None], 1)[:, 0]
    return np.where(at >= 0, curve[:, 0] - after, np.nan).astype(np.float32)


def _touches(corners: Tensor, others: Tensor, side: int) -> Tensor:
    """`(p, 2)`, `(q, 2)` -> `(p, q)` bool: whether two windows share a pixel."""
    return ((corners[:, None] - others[None]).abs() < side).all(2)


def removed(image: Tensor, corners: Tensor, side: int, levels: Levels) -> Tensor:
    """A `(c, h, w)` image after 1, 2, ..., k removals, for each of r lists of corners `(r, k, 2)`: new
    `(r, k, c, h, w)`. A window takes the mean colour of the whole image's pixels that touch it, rounded to levels."""
    draws, count = corners.shape[:2]
    height, width = image.shape[1:]
    out = image.repeat(draws, count, 1, 1, 1)
    for draw, places in enumerate(corners.tolist()):
        for turn, (row, column) in enumerate(places):
            around = (
                slice(max(row - 1, 0), min(row + side + 1, height)),
                slice(max(column - 1, 0), min(column + side + 1, width)),
            )
            inside = (slice(row, row + side), slice(column, column + side))
            outer, inner = image[:, *around], image[:, *inside]
            pixels = outer[0].numel() - inner[0].numel()
            colour = (outer.sum((1, 2)) - inner.sum((1, 2))) / pixels if pixels else inner.mean((1, 2))
            out[draw, turn:, :, *inside] = levels.rounded(colour)[:, None, None]
    return out


def _change(image: Tensor, without: Tensor) -> float:
    """Root mean square change once all windows but the last are gone, mean over draws; NaN where none was removed."""
    if without.shape[1] < 2:
        return float("nan")
    return float((without[:, -2] - image).square().mean((1, 2, 3)).sqrt().mean())
