"""The bank: one patch from each of several training images, chosen by how much the victim makes of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ..answers import of_class, rejected_mass
from ..base import Perturb, Query
from .paste import Corners, crop, flat_patches, shuffled_patches, strided_corners, windows_on_canvas

PatchKind = Literal["donor", "mean_color", "shuffled", "noise", "random_donor"]
"""`donor`: a training image's window that says most of its class. The others are controls of the same area:
`mean_color` is that window in its own mean colour, `shuffled` that window with its pixels in random order, `noise`
uniform noise, `random_donor` a window of the same training image drawn at random."""

PATCH_KINDS: tuple[PatchKind, ...] = get_args(PatchKind)
UNSCANNED: frozenset[PatchKind] = frozenset({"noise", "random_donor"})
"""Those that do not depend on which window the victim makes most of."""


class PatchBank(NamedTuple):
    """Patches, each of another class."""

    patches: Tensor
    """`(b, c, s, s)` float32 in [0, 1], on the task's levels."""
    classes: Tensor
    """`(b,)` int64: what the victim takes each patch's donor for; -1 where there was no donor."""
    donor_labels: Tensor
    """`(m,)` int64: what the victim takes each of the m donors for."""

    def others(self, labels: Tensor, most: int) -> Tensor:
        """`(t, min(most, b))`: for each of t labels the first patches of other classes, then -1."""
        same = self.classes[None] == labels[:, None]
        order = same.to(torch.uint8).argsort(dim=1, stable=True)
        return order.masked_fill(same.gather(1, order), -1)[:, :most]


def build_bank(
    task: Perturb, side: int, stride: int, size: int, kind: PatchKind, rng: torch.Generator
) -> Generator[Query, Tensor, PatchBank]:
    """Ask the victim for the donors' classes, then take one patch from one donor of each class (owners all -1).

    A bank holds up to `size` + 1 patches of distinct classes, so that whatever a task's label is, `size` of them are
    of another. Of each class the donor that the victim is surest of is taken (largest class probability less rejected
    mass), and the surest classes first: a choice without chance, so that every block of a battery gets the same bank.
    The patch is the window at `stride` with the largest local response. The kinds in `UNSCANNED` need no such scan.

    Queries: one a donor, and for the scan one a window of each of the bank's donors.

    Raises:
        ValueError: there are no donors, and the kind is not `noise`; or the patch does not fit.
    """
    device = task.mean.device
    corners = strided_corners(task.mean, side, stride)
    if len(task.donors):
        answers = yield Query(task.donors, torch.full((len(task.donors),), -1, device=device))
        top, donor_labels = answers.max(1)
        surest = (top - rejected_mass(answers)).argsort(descending=True, stable=True)
        first: dict[int, int] = {}
        for donor, label in zip(surest.tolist(), donor_labels[surest].tolist(), strict=True):
            first.setdefault(label, donor)
        chosen = torch.tensor(list(first.values())[: size + 1], device=device)
        donors, classes = task.donors[chosen], donor_labels[chosen]
    elif kind == "noise":
        donors, donor_labels = task.donors, torch.empty(0, dtype=torch.int64, device=device)
        classes = torch.full((size,), -1, device=device)
    else:
        raise Unexpected(f"at least one donor image for {kind!r} patches", "none", "give training images")

    if kind == "noise":
        wanted = (len(classes), len(task.mean), side, side)
        noise = torch.randint(task.levels.count, wanted, device=device, generator=rng)
        return PatchBank(task.levels.at(noise), classes, donor_labels)
    if kind == "random_donor":
        best = torch.randint(len(corners), (len(classes),), device=device, generator=rng)
    else:
        owners = torch.full_like(classes, -1)
        best = (yield from local_responses(donors, classes, owners, task.mean, corners, side)).argmax(1)
    patches = crop(donors, torch.tensor(corners, device=device)[best], side)
    if kind == "mean_color":
        patches = flat_patches(patches, task.levels)
    elif kind == "shuffled":
        patches = shuffled_patches(patches, rng)
    return PatchBank(task.levels.rounded(patches), classes, donor_labels)


def local_responses(
    sources: Tensor, classes: Tensor, owners: Tensor, canvas: Tensor, corners: Corners, side: int
) -> Generator[Query, Tensor, Tensor]:
    """`(n, g)`: the probability of each source's class when one of its g windows stands in place on the canvas.

    One query a window of each of the n sources, which are charged to `owners` `(n,)`.
    """
    images = windows_on_canvas(sources, canvas, corners, side).flatten(0, 1)
    answers = yield Query(images, owners.repeat_interleave(len(corners)))
    return of_class(answers, classes.repeat_interleave(len(corners))).view(len(sources), -1)
