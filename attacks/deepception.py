"""Deepception-style (reconstructed): copies of one visible patch that a network takes for something else.

After Ouarti and Carmona 2018 (arXiv 1808.04433). What is known of that work here is its abstract: patches respond with
different probabilities, position changes a response by orders of magnitude, repeating a patch can raise or lower it,
and patches fool networks from black-box answers alone. Patch size, construction, stopping rule and the definition of
its fooling ratio are not known, so this is a reconstruction throughout and its numbers are not comparable with theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import margins, targeted_margins
from .base import Perturb, Query, Search
from .entry import Entry, Limit
from .patches.bank import PATCH_KINDS, UNSCANNED, PatchKind, build_bank
from .patches.paste import copy_each, grid_corners, overlaps, paste, paste_at_each_, unpaste_at_each_
from .spec import AtLeastOne, Attack, BatteryFacts, PerturbSpec


@dataclass(frozen=True)
class Deepception:
    """Paste up to `copies` opaque copies of one small patch onto each image.

    Set-up, once for a block (owners -1): a bank of patches, see `patches.bank.build_bank`. Then for each image

    1. probe each patch of another class alone at each of `grid` x `grid` positions, and keep the one patch with the
       least margin anywhere; all are probed even when one fools early, so that every kind of patch asks equally much;
    2. add a copy of that patch at a time, where it overlaps no other: re-probe the `keep` free positions that were
       best for a single copy, and accept the best of them if the margin falls;
    3. stop when the image is fooled (margin below 0), at `copies`, or when no copy lowers the margin.

    The margin is `margins`, or `targeted_margins` where the task names targets.

    All images advance together. Copies are added greedily, so running with `copies` = 1, 2, ... K gives the
    success-by-copies curve. Finals are the images of least margin, fooled or not; an image for which the bank holds no
    patch of another class stays as it is. At most `copies` x `side`² pixels change.
    """

    side: int
    """Patch side, pixels."""
    stride: int
    """Step between the donor windows that are compared, pixels."""
    copies: int
    """K, the most copies pasted."""
    grid: int = 5
    """Positions tried along each side of the image (evenly spaced; fewer where the image has fewer)."""
    keep: int = 8
    """Positions re-probed for each further copy."""
    bank: int = 9
    """Patches tried on each image, each of another class (fewer where donors of fewer classes are given)."""
    patch: PatchKind = "donor"
    """Which patches. All but `donor` are controls of the same area, found by the same procedure."""
    spare_centre: bool = False
    """Forbid the central square of half the image's side."""

    def __post_init__(self):
        for name in ("side", "stride", "copies", "grid", "keep", "bank"):
            if getattr(self, name) < 1:
                raise Unexpected(f"{name} of at least 1", getattr(self, name), "raise it")
        if self.patch not in PATCH_KINDS:
            raise Unexpected(f"patch to be one of {', '.join(PATCH_KINDS)}", f"{self.patch!r}", "choose one")

    @property
    def most_queries(self) -> int:
        """What one image can cost at most, set-up not counted."""
        return self.bank * self.grid**2 + self.keep * (self.copies - 1)

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block; `rng` serves the controls alone, `donor` leaves nothing to chance.

        Raises:
            ValueError: no donors (`noise` needs none), or a side that does not fit into the images.
        """
        corners = grid_corners(task.mean, self.side, self.grid, self.spare_centre)
        at = torch.tensor(corners, device=task.images.device)
        bank = yield from build_bank(task, self.side, self.stride, self.bank, self.patch, rng)

        # One copy: each patch of another class, at each position.
        best = torch.full((len(task.images),), torch.inf, device=task.images.device)
        single = best[:, None].repeat(1, len(corners))
        patches = bank.patches[:1].repeat(len(task.images), 1, 1, 1)
        probes = copy_each(task.images, len(corners))
        for choice in bank.others(task.labels, self.bank).unbind(1):
            rows = (choice >= 0).nonzero()[:, 0]
            if not len(rows):
                break
            if len(rows) < len(probes):
                probes = copy_each(task.images[rows], len(corners))
            tried = bank.patches[choice[rows]]
            owners = rows.repeat_interleave(len(corners))
            # The same copies serve all patches: a patch is put on and taken off at less cost than an image is copied.
            paste_at_each_(probes, tried, corners)
            found = _margins((yield Query(probes.flatten(0, 1), owners)), task, owners).view(len(rows), -1)
            unpaste_at_each_(probes, task.images[rows], corners, self.side)
            better = found.amin(1) < best[rows]
            won = rows[better]
            best[won], single[won], patches[won] = found.amin(1)[better], found[better], tried[better]

        # More copies of the patch that did best.
        images = task.images.clone()
        live = best.isfinite()
        first = single.argmin(1)
        images[live] = paste(images[live], patches[live], at[first[live]])
        touching = overlaps(corners, self.side, at.device)
        blocked = touching[first]
        for _ in range(self.copies - 1):
            nearest = single.masked_fill(blocked, torch.inf).argsort(dim=1, stable=True)[:, : self.keep]
            free = ~blocked.gather(1, nearest)
            live &= (best >= 0) & free.any(1)
            rows, column = (free & live[:, None]).nonzero().unbind(1)
            if not len(rows):
                break
            probes = paste(images[rows], patches[rows], at[nearest[rows, column]])
            found = torch.full(nearest.shape, torch.inf, device=at.device)
            found[rows, column] = _margins((yield Query(probes, rows)), task, rows)
            least, which = found.min(1)
            live &= least < best
            spot = nearest.gather(1, which[:, None])[:, 0]
            images[live] = paste(images[live], patches[live], at[spot[live]])
            best = torch.where(live, least, best)
            blocked |= touching[spot] & live[:, None]
        return images


def _margins(probabilities: Tensor, task: Perturb, owners: Tensor) -> Tensor:
    if task.targets is None:
        return margins(probabilities, task.labels[owners])
    return targeted_margins(probabilities, task.targets[owners])


class DeepceptionSpec(PerturbSpec):
    """`deepception` in a battery's YAML: the fields of Deepception. `queries` caps what one image may cost."""

    side: AtLeastOne
    stride: AtLeastOne
    copies: AtLeastOne
    grid: AtLeastOne
    keep: AtLeastOne
    bank: AtLeastOne
    queries: AtLeastOne
    properties: AtLeastOne
    """Images on which the victim's four properties are measured (attacks/responses/psychophysics.py)."""


_PATCHES: tuple[tuple[PatchKind, str, str], ...] = (
    ("donor", "deepception", "donor patches"),
    ("mean_color", "deepception_mean_color", "control: mean-colour patches"),
    ("shuffled", "deepception_shuffled", "control: pixel-shuffled patches"),
    ("noise", "deepception_noise", "control: uniform-noise patches"),
    ("random_donor", "deepception_random_donor", "control: random donor patches"),
)


def entries(spec: DeepceptionSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """Donor patches, then the four controls of the same area. Set-up grants a query for each donor, and where windows
    are scanned one for each window of each patch of the bank."""
    _, height, width = facts.shape
    if spec.side > (most := min(height, width)):
        images = f"a side of at most {most} for images of {list(facts.shape)}"
        raise Unexpected(images, str(spec.side), f"side: {most}", at=("side",))
    windows = ((height - spec.side) // spec.stride + 1) * ((width - spec.side) // spec.stride + 1)
    scan = (spec.bank + 1) * windows
    for patch, name, title in _PATCHES:
        attack = Deepception(
            side=spec.side,
            stride=spec.stride,
            copies=spec.copies,
            grid=spec.grid,
            keep=spec.keep,
            bank=spec.bank,
            patch=patch,
        )
        yield Entry(
            name,
            "deepception",
            title,
            attack,
            "perturb",
            "black",
            spec.images,
            spec.images_per_shard,
            spec.queries,
            setup=facts.donors + (0 if patch in UNSCANNED else scan),
            limit=Limit("pixels", spec.copies * spec.side**2),
            most=min(spec.queries, attack.most_queries),
        )


ATTACK = Attack(
    name="deepception",
    title="Deepception-style (reconstructed)",
    sentence=(
        "Share of images whose label a few visible patches, cut from other images and placed by querying, changed. "
        "A reconstruction after Ouarti & Carmona (2018), whose method is known from its abstract only."
    ),
    task="perturb",
    box="black",
    spec=DeepceptionSpec,
    entries=entries,
    example={
        "images": 8,
        "side": 2,
        "stride": 2,
        "copies": 2,
        "grid": 3,
        "keep": 2,
        "bank": 2,
        "queries": 20,
        "properties": 2,
        "images_per_shard": 4,
    },
)
