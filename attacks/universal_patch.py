"""Deepception-style (reconstructed), universal: one patch and one set of positions for all images.

Of the variants of `deepception` only this one is comparable with universal adversarial perturbations (Moosavi-Dezfooli
2017): it is chosen on training images and asks nothing about the images it is pasted on. A reconstruction as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Perturb, Query, Search
from .deepception import margins
from .patches.bank import build_bank
from .patches.paste import grid_corners, overlaps, paste, paste_at_each


@dataclass(frozen=True)
class UniversalDeepception:
    """Choose (patch, positions) on the donors, paste it on every image unasked (all owners are -1).

    The patches are those of `patch_bank.build_bank`, one more than `bank`. A choice is scored by the share of the
    first `train` donors whose label it changes to an accepted other one, and among equals by their mean margin (see
    `deepception.margins`). The best (patch, position) is kept; then copies of it are added one at a time among the
    `keep` free positions that were best alone, as long as the score improves, up to `copies`.

    A donor is attacked with its own window too, when the choice falls so; it changes that donor's label no more.
    Set-up queries: as the bank's, and at most ((bank + 1) x grid² + keep x (copies - 1)) x train.
    """

    side: int
    """Patch side, pixels."""
    stride: int
    """Step between the donor windows that are compared, pixels."""
    copies: int
    """The most copies pasted."""
    grid: int = 5
    """Positions tried along each side of the image."""
    keep: int = 8
    """Positions re-probed for each further copy."""
    bank: int = 9
    """Patches tried, less one; each of another class."""
    train: int = 100
    """The most donors that a choice is scored on."""

    def __post_init__(self):
        for name in ("side", "stride", "copies", "grid", "keep", "bank", "train"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)}: raise it")

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Learn on `task.donors`, return every image with the patch pasted. `rng` is not used: nothing is random.

        Raises:
            ValueError: no donors, or a side that does not fit into the images.
        """
        corners = grid_corners(task.mean, self.side, self.grid)
        at = torch.tensor(corners, device=task.images.device)
        bank = yield from build_bank(task, self.side, self.stride, self.bank, "donor", rng)
        train, labels = task.donors[: self.train], bank.donor_labels[: self.train]
        nobody = torch.full((len(train) * len(corners),), -1, device=at.device)

        def scores(probabilities: torch.Tensor) -> torch.Tensor:
            """Of images in the order (donor, position): one number a position, less is better."""
            found = margins(probabilities, labels.repeat_interleave(len(probabilities) // len(labels)))
            found = found.view(len(labels), -1)
            # A mean margin lies within [-1, 1] and one donor more weighs 1 / n: a quarter of it only breaks ties.
            return found.mean(0) / (4 * len(labels)) - (found < 0).float().mean(0)

        alone = []
        for patch in bank.patches:
            probes = paste_at_each(train, patch.expand(len(train), -1, -1, -1), corners).flatten(0, 1)
            alone.append(scores((yield Query(probes, nobody))))
        single = torch.stack(alone)
        chosen, first = divmod(int(single.argmin()), len(corners))
        best, single, patch = float(single[chosen, first]), single[chosen], bank.patches[chosen]

        def stamp(images: torch.Tensor, position: int) -> torch.Tensor:
            return paste(images, patch.expand(len(images), -1, -1, -1), at[position].expand(len(images), 2))

        train, images = stamp(train, first), stamp(task.images, first)
        touching = overlaps(corners, self.side, at.device)
        blocked = touching[first]
        for _ in range(self.copies - 1):
            free = int((~blocked).sum())
            nearest = single.masked_fill(blocked, torch.inf).argsort(stable=True)[: min(self.keep, free)]
            if not free:
                break
            spots = [corners[position] for position in nearest.tolist()]
            probes = paste_at_each(train, patch.expand(len(train), -1, -1, -1), spots).flatten(0, 1)
            found = scores((yield Query(probes, nobody[: len(probes)])))
            if float(found.min()) >= best:
                break
            best, spot = float(found.min()), int(nearest[found.argmin()])
            train, images = stamp(train, spot), stamp(images, spot)
            blocked |= touching[spot]
        return images
