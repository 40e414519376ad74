"""White-box cells of a victim without gradients: the best transfer attack from the panel, task by task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .arena import Arena
from .drive import Meter, answers
from .entries import Entry
from .judge import read
from .shards import Shard


def best_fool(arena: Arena, entry: Entry, shard: Shard, meter: Meter, rng: torch.Generator) -> Tensor:
    """Of the panel's images for each (run, target), the one that the victim is most confident of.

    `(t, c, h, w)`, rows run by run, target by target. One query per panel model and task.
    """
    k = len(entry.targets)
    rows = torch.arange(shard.start * k, shard.stop * k)
    aims = torch.tensor(entry.targets, device=arena.victim.device).repeat(shard.stop - shard.start)

    def score(probabilities: Tensor, owners: Tensor) -> Tensor:
        accepted = read(probabilities).label == aims[owners]
        return probabilities.gather(1, aims[owners].unsqueeze(1)).squeeze(1) + accepted.float()

    blank = torch.zeros(len(rows), *arena.battery.spec.shape, device=arena.victim.device)
    return _best(arena, entry, rows, meter, rng, score, blank)


def best_perturb(
    arena: Arena, entry: Entry, rows: Tensor, labels: Tensor, targets: Tensor | None, meter: Meter, rng: torch.Generator
) -> Tensor:
    """Of the panel's versions of each image, the one with the least margin of the victim's own label (or the largest
    margin of the target). `(t, c, h, w)`. One query per panel model and image."""

    def score(probabilities: Tensor, owners: Tensor) -> Tensor:
        rejected = 1 - probabilities.sum(1, keepdim=True)
        aim = (labels if targets is None else targets)[owners].unsqueeze(1)
        own = probabilities.gather(1, aim)
        others = torch.cat([probabilities.scatter(1, aim, -1.0), rejected], 1)
        if targets is None:  # what must win is any other real class, over both the label and the rejection
            return others[:, :-1].amax(1) - torch.maximum(own, rejected).squeeze(1)
        return own.squeeze(1) - others.amax(1)

    return _best(arena, entry, rows.cpu(), meter, rng, score, arena.clean.images[rows].to(torch.float32) / 255)


def _best(
    arena: Arena,
    entry: Entry,
    rows: Tensor,
    meter: Meter,
    rng: torch.Generator,
    score: Callable[[Tensor, Tensor], Tensor],
    blank: Tensor,
) -> Tensor:
    device = arena.victim.device
    owners = torch.arange(len(rows), device=device)
    best = torch.full((len(rows),), -torch.inf, device=device)
    finals = blank
    for source in arena.sources.of_entry(entry.name) if arena.sources is not None else ():
        images = torch.from_numpy(source.images[rows.numpy()]).to(device).to(torch.float32) / 255
        available = torch.from_numpy(source.attacked[rows.numpy()]).to(device)
        at = meter.charge(owners)
        probabilities = answers(arena.victim, images, rng, arena.battery.spec.batch)
        meter.queries += len(images)
        meter.observe(probabilities, owners, at)
        value = torch.where(available, score(probabilities, owners), -torch.inf)
        finals = torch.where((value > best).view(-1, 1, 1, 1), images, finals)
        best = torch.maximum(best, value)
        meter.tick(len(images), meter.fooled)
    return finals
