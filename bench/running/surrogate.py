"""White-box cells of a victim without gradients: what stands in, task by task the best of it.

For both tasks the panel's images, one query each; for FGSM also the attack itself along finite differences, where the
battery grants the queries.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...attacks.entry import Entry
from ...models.answers import rejected_mass
from ...models.levels import from_bytes
from ..asking.answers import checked_answers
from ..asking.reading import hits_perturb, reading_of
from .drive import Meter
from .prepared import Prepared
from .shards import Shard

Stepped = Callable[[Tensor], Tensor]
"""Positions `(m,)` of tasks in the block -> their images along finite differences `(m, c, h, w)`."""


def granted(entry: Entry, sources: int) -> int:
    """What each task of a white-box entry may spend without gradients: a query for each of `sources` panel models, and
    where there are finite differences those, the attack's own queries, and one to compare. One that borrows fooling
    images may ask about as many of them as its budget allows."""
    lent = entry.budget if borrows_fooling(entry) else 0
    return sources + lent + (entry.finite.queries + entry.budget if entry.finite is not None else 0)


def borrows_fooling(entry: Entry) -> bool:
    """Whether it makes fooling images from those of others, so that without a gradient those themselves stand in."""
    return entry.task == "fool" and bool(entry.after or entry.borrows)


def stands_in(entry: Entry, sources: int) -> str:
    """What an entry's images are without gradients, in words."""
    panel = f"the panel's images stand in (of {sources} model{'s' if sources > 1 else ''} the best)"
    if entry.finite is None:
        return panel
    steps = f"the attack along finite differences (at most {entry.finite.queries:,} queries an image)"
    return f"{panel}, or {steps} where it does better" if sources else f"{steps} stands in"


def best_fool(
    prepared: Prepared,
    entry: Entry,
    shard: Shard,
    meter: Meter,
    rng: torch.Generator,
    borrowed: Tensor | None = None,
) -> Tensor:
    """Of the panel's images for each (run, target), and of those that the task has `borrowed`, the one that the victim
    is most confident of.

    `(t, c, h, w)`, rows run by run, target by target. One query per panel model, or borrowed image, and task.
    """
    k = len(entry.targets)
    rows = torch.arange(shard.start * k, shard.stop * k)
    aims = torch.tensor(entry.targets, device=prepared.victim.device).repeat(shard.stop - shard.start)
    best = _Best(prepared, meter, rng, torch.zeros(len(rows), *prepared.spec.shape, device=prepared.victim.device))

    def score(probabilities: Tensor, images: Tensor, owners: Tensor) -> Tensor:
        accepted = reading_of(probabilities).label == aims[owners]
        return probabilities.gather(1, aims[owners].unsqueeze(1)).squeeze(1) + accepted.float()

    best.of_panel(entry, rows, score)
    for images in () if borrowed is None else borrowed[: entry.budget].flatten(1, 2):
        best.take(images, torch.arange(len(rows), device=images.device), score)
    return best.images


def best_perturb(
    prepared: Prepared,
    entry: Entry,
    rows: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    meter: Meter,
    rng: torch.Generator,
    stepped: Stepped | None = None,
) -> Tensor:
    """Of the panel's versions of each image, the one with the least margin of the victim's own label (or the largest
    margin of the target); where the smallest change is looked for, the smallest that fools. `(t, c, h, w)`.

    One query per panel model and image. Then the images that are not fooled yet (all, for the smallest change) are
    `stepped` along finite differences, and what does better is taken.
    """
    originals = from_bytes(prepared.clean.images[rows])
    best = _Best(prepared, meter, rng, originals)

    def score(probabilities: Tensor, images: Tensor, owners: Tensor) -> Tensor:
        rejected = rejected_mass(probabilities)[:, None]
        aim = (labels if targets is None else targets)[owners].unsqueeze(1)
        own = probabilities.gather(1, aim)
        others = torch.cat([probabilities.scatter(1, aim, -1.0), rejected], 1)
        if targets is not None:
            return own.squeeze(1) - others.amax(1)
        # What must win is any other real class, over both the label and the rejection.
        margin = others[:, :-1].amax(1) - torch.maximum(own, rejected).squeeze(1)
        if not entry.smallest:
            return margin
        size = (images - originals[owners]).flatten(1).abs().amax(1)
        return torch.where(hits_perturb(probabilities, labels[owners], None), 3.0 - size, margin)

    best.of_panel(entry, rows.cpu(), score)
    if stepped is not None:
        left = torch.arange(len(rows), device=rows.device)
        if not entry.smallest:
            left = left[meter.first[:, 0] < 0]
        if len(left):
            best.take(stepped(left), left, score)
    return best.images


class _Best:
    """Task by task the image with the highest score so far."""

    def __init__(self, prepared: Prepared, meter: Meter, rng: torch.Generator, blank: Tensor) -> None:
        self.prepared, self.meter, self.rng = prepared, meter, rng
        self.images = blank
        self.value = torch.full((len(blank),), -torch.inf, device=blank.device)

    def of_panel(self, entry: Entry, rows: Tensor, score: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        """Try the images that each panel model has for these rows of its evidence."""
        device, sources = self.prepared.victim.device, self.prepared.sources
        for source in sources.of_entry(entry.name) if sources is not None else ():
            images = from_bytes(torch.from_numpy(source.images[rows.numpy()]).to(device))
            available = torch.from_numpy(source.attacked[rows.numpy()]).to(device)
            self.take(images, torch.arange(len(rows), device=device), score, available)

    def take(
        self,
        images: Tensor,
        owners: Tensor,
        score: Callable[[Tensor, Tensor, Tensor], Tensor],
        available: Tensor | None = None,
    ) -> None:
        """Ask about one image for each of `owners`; those not `available` are asked about and not taken."""
        at = self.meter.charge(owners)
        probabilities = checked_answers(self.prepared.victim, images, self.rng, self.prepared.ground.asking)
        self.meter.queries += len(images)
        self.meter.observe(probabilities, owners, at)
        value = score(probabilities, images, owners)
        if available is not None:
            value = torch.where(available, value, -torch.inf)
        better = value > self.value[owners]
        self.images = self.images.clone()
        self.images[owners[better]] = images[better]
        self.value[owners[better]] = value[better]
        self.meter.tick(len(images), self.meter.fooled)
