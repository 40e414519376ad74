"""How a network responds to patches: four measured properties, after Ouarti and Carmona 2018 (arXiv 1808.04433).

That abstract names the four: patches respond with different probabilities (local), one patch's response varies with
its position by orders of magnitude (spatial), positions activate or inhibit (activation-inhibition), and repetition
raises or lowers the probability (cumulative). How they were measured there is not known; the definitions below are a
reconstruction. B is the data set's mean image, the canvas of all but the third; c is the label of the source image.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...bench.errors import Unexpected
from ..answers import of_class
from ..base import Perturb, Query
from ..patches.bank import local_responses
from ..patches.paste import Corners, crop, flat_patches, overlaps, paste, paste_at_each, shuffled_patches, strided_lines
from .statistics import quartiles, share, spearman

OF_CHANGES = ("threshold", "activators", "inhibitors")
"""The numbers that are made of changes of p on another image."""
UNMEASURED = "on the other image p is at the floor, so nothing can be compared"
"""Why an image lacks them."""


@dataclass(frozen=True, eq=False)
class Properties:
    """What was measured of each of t source images, float32 unless said; NaN where a number is not defined.

    Maps are `(t, rows, columns)`, one value a window position, top left first.
    """

    local_map: NDArray[np.float32]
    """L: p_c when one window of the source stands alone on B, in its own place."""
    local_ratio: NDArray[np.float32]
    """`(t,)` max L / median L over the windows."""
    local_range: NDArray[np.float32]
    """`(t,)` log10(max L / min L)."""
    spatial_map: NDArray[np.float32]
    """S: p_c when P, the window of largest L, stands on B at this position."""
    spatial_range: NDArray[np.float32]
    """`(t,)` log10(max S / min S)."""
    activation_map: NDArray[np.float32]
    """A: ln p_c(x with P here) - ln p_c(x with P's mean colour here), on another natural image x; NaN where neither
    p_c is above the floor, since then nothing was measured."""
    threshold: NDArray[np.float32]
    """`(t,)` the percentile of |A| that P's pixels in random order give, where that was measured."""
    activators: NDArray[np.float32]
    """`(t,)` share of the measured positions where A > threshold; NaN where A or the threshold was nowhere measured."""
    inhibitors: NDArray[np.float32]
    """`(t,)` the same where A < -threshold."""
    cumulative: NDArray[np.float32]
    """`(t, K)` C_k: p_c with k copies of P on B, at the positions of largest S that overlap no earlier one. NaN from
    where no further copy fits."""
    cumulative_random: NDArray[np.float32]
    """`(t, K)` the same at random positions."""
    correlation: NDArray[np.float32]
    """`(t,)` Spearman's correlation of k and C_k; NaN where C is constant or has one value."""
    correlation_random: NDArray[np.float32]
    """`(t,)` the same at random positions."""
    gain: NDArray[np.float32]
    """`(t,)` C_K / C_1, where K is the last copy that fitted."""
    gain_random: NDArray[np.float32]
    """`(t,)` the same at random positions."""

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """The properties of several blocks, in order. All must have been measured with the same settings."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def summary(self) -> dict[str, dict[str, Any]]:
        """Over the images: median, quartiles and count of each number (None at count 0), and how often C fell.

        `falls` and `falls_random` are k of n images with C_K < C_1. Numbers of the third property that no image has
        carry a `reason`. Ready for JSON.
        """
        numbers = {f.name: getattr(self, f.name) for f in fields(self)}
        told: dict[str, dict[str, Any]] = {name: quartiles(v) for name, v in numbers.items() if v.ndim == 1}
        for name in OF_CHANGES:
            if not told[name]["n"]:
                told[name]["reason"] = UNMEASURED
        return told | {"falls": share(self.gain < 1), "falls_random": share(self.gain_random < 1)}


@dataclass(frozen=True)
class Psychophysics:
    """Measure the four properties on each image of a block. P is the image's window of largest local response.

    The other image x of the third property is the next of the block (cyclically) with another label; the next one
    where all labels are equal; the first donor where the block holds one image.
    """

    side: int
    """Window and patch side, pixels."""
    stride: int
    """Step between windows, and between the positions of patches, pixels."""
    copies: int
    """K, the most copies."""
    shuffles: int = 4
    """Random pixel orders of P, whose |A| at all positions make the threshold."""
    level: float = 0.95
    """The quantile of those that is the threshold: the share of positions that chance leaves below it."""
    floor: float = 1e-6
    """Probabilities are raised to this before logarithms and ratios, so that what float32 no longer tells from 0 next
    to 1 is not read as orders of magnitude. So no range exceeds 6 of them, and a change from below the floor to below
    it is not 0 but NaN. Maps of probabilities and curves are stored as answered."""

    def __post_init__(self):
        for name in ("side", "stride", "copies", "shuffles"):
            if getattr(self, name) < 1:
                raise Unexpected(f"{name} of at least 1", getattr(self, name), "raise it")
        for name in ("level", "floor"):
            if not 0 < getattr(self, name) < 1:
                raise Unexpected(f"{name} between 0 and 1", getattr(self, name), "change it")

    def measure(self, task: Perturb, rng: torch.Generator) -> Generator[Query, Tensor, Properties]:
        """Ask by the attacks' protocol (owners 0..t-1) and return the Properties of the block's t images.

        Queries an image, with w windows: w x (4 + shuffles) + at most 2 x copies. `rng` on the task's device.

        Raises:
            ValueError: one image and no donor; or a side that does not fit into the images.
        """
        rows, columns = strided_lines(task.mean, self.side, self.stride)
        corners = [(row, column) for row in rows for column in columns]
        count, device = len(task.images), task.images.device
        owners = torch.arange(count, device=device)
        others = _other_images(task)

        local = yield from local_responses(task.images, task.labels, owners, task.mean, corners, self.side)
        patches = crop(task.images, torch.tensor(corners, device=device)[local.argmax(1)], self.side)
        canvas = task.mean.expand_as(task.images)
        spatial = yield from _responses(canvas, patches, task.labels, owners, corners)

        flat = yield from _responses(others, flat_patches(patches, task.levels), task.labels, owners, corners)
        activation = self._change((yield from _responses(others, patches, task.labels, owners, corners)), flat)
        chance = []
        for _ in range(self.shuffles):
            shuffled = shuffled_patches(patches, rng)
            answers = yield from _responses(others, shuffled, task.labels, owners, corners)
            chance.append(self._change(answers, flat).abs())
        threshold = torch.cat(chance, 1).nanquantile(self.level, dim=1)
        measured = torch.where(threshold.isnan(), 0, (~activation.isnan()).sum(1))  # of 0 positions, a share is NaN

        by_rank = spatial.argsort(dim=1, descending=True, stable=True)
        ranked = yield from self._pile(canvas, patches, task.labels, corners, by_rank)
        by_chance = torch.rand(spatial.shape, device=device, generator=rng).argsort(dim=1, stable=True)
        random = yield from self._pile(canvas, patches, task.labels, corners, by_chance)

        def maps(values: Tensor) -> NDArray[np.float32]:
            return _array(values.view(count, len(rows), len(columns)))

        high, low = self._log(local).amax(1), self._log(local).amin(1)
        return Properties(
            local_map=maps(local),
            local_ratio=_array((high - self._log(local.quantile(0.5, dim=1))).exp()),
            local_range=_array((high - low) / np.log(10)),
            spatial_map=maps(spatial),
            spatial_range=_array((self._log(spatial).amax(1) - self._log(spatial).amin(1)) / np.log(10)),
            activation_map=maps(activation),
            threshold=_array(threshold),
            activators=_array((activation > threshold[:, None]).sum(1) / measured),
            inhibitors=_array((activation < -threshold[:, None]).sum(1) / measured),
            cumulative=_array(ranked),
            cumulative_random=_array(random),
            correlation=spearman(_array(ranked)),
            correlation_random=spearman(_array(random)),
            gain=self._gain(_array(ranked)),
            gain_random=self._gain(_array(random)),
        )

    def _log(self, probabilities: Tensor) -> Tensor:
        return probabilities.clamp_min(self.floor).log()

    def _change(self, probabilities: Tensor, before: Tensor) -> Tensor:
        """Of the logarithm; NaN where both are at the floor."""
        unseen = (probabilities <= self.floor) & (before <= self.floor)
        return (self._log(probabilities) - self._log(before)).masked_fill(unseen, torch.nan)

    def _gain(self, curves: NDArray[np.float32]) -> NDArray[np.float32]:
        last = (~np.isnan(curves)).sum(1) - 1
        final = curves[np.arange(len(curves)), last]
        return (np.maximum(final, self.floor) / np.maximum(curves[:, 0], self.floor)).astype(np.float32)

    def _pile(
        self, canvas: Tensor, patches: Tensor, classes: Tensor, corners: Corners, order: Tensor
    ) -> Generator[Query, Tensor, Tensor]:
        """`(t, K)`: p_c as copies are added at the first positions of `order` `(t, w)` that overlap no earlier one."""
        at = torch.tensor(corners, device=order.device)
        touching = overlaps(corners, patches.shape[-1], order.device)
        free = torch.ones_like(order, dtype=torch.bool)
        images, curves = canvas.clone(), torch.full((len(order), self.copies), torch.nan, device=order.device)
        for copy in range(self.copies):
            rows = free.any(1).nonzero()[:, 0]
            if not len(rows):
                break
            turn = free.gather(1, order).to(torch.uint8).argmax(1, keepdim=True)
            spot = order.gather(1, turn)[rows, 0]
            images[rows] = paste(images[rows], patches[rows], at[spot])
            free[rows] &= ~touching[spot]
            curves[rows, copy] = of_class((yield Query(images[rows], rows)), classes[rows])
        return curves


def _responses(
    canvases: Tensor, patches: Tensor, classes: Tensor, owners: Tensor, corners: Corners
) -> Generator[Query, Tensor, Tensor]:
    """`(t, w)`: p_c of each canvas with its patch at each corner alone."""
    images = paste_at_each(canvases, patches, corners).flatten(0, 1)
    answers = yield Query(images, owners.repeat_interleave(len(corners)))
    return of_class(answers, classes.repeat_interleave(len(corners))).view(len(canvases), -1)


def others(labels: Tensor) -> Tensor:
    """`(t,)` int64: which image of a block of labels `(t,)` is the other one of each; -1, the first donor, for a block
    of one image."""
    count = len(labels)
    if count == 1:
        return torch.full((1,), -1, device=labels.device)
    each = torch.arange(count, device=labels.device)
    distance = (each[None] - each[:, None]) % count
    distance += count * (labels[None] == labels[:, None])
    return distance.fill_diagonal_(2 * count).argmin(1)


def _other_images(task: Perturb) -> Tensor:
    if len(task.images) > 1:
        return task.images[others(task.labels)]
    if not len(task.donors):
        raise Unexpected("another natural image", "one image and no donors", "give more of either")
    return task.donors[:1]


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.to("cpu", torch.float32).numpy()
