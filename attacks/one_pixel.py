"""The one-pixel attack (Su, Vargas & Sakurai 2019): a few pixels, found by differential evolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .base import Perturb, Query, Search
from .differential_evolution import draw_partners, mutate, select


@dataclass(frozen=True)
class OnePixel:
    """Su, Vargas & Sakurai, "One pixel attack for fooling deep neural networks" (IEEE TEVC 2019), sections III-IV.

    Untargeted. A candidate is `x, y, colours` for each pixel: 5 numbers for RGB, 3 for gray. The first population has
    uniform coordinates and N(128, 127) colours on the 0..255 scale; every iteration makes one child a member,
    `x_r1 + f * (x_r2 - x_r3)`, without crossover, and a child replaces its parent where it is better. A task spends
    at most `population * (iterations + 1)` queries.

    Choices where the paper is silent, and departures from it:

    - Fitness is the summed probability of the wrong classes, to be raised. Where probabilities sum to 1 that orders
      candidates as the paper's true-class probability does, and still tells them apart where that one rounds to 1 in
      float32. Where a victim rejects, being rejected is no escape.
    - A task stops as soon as an image it asked for is accepted with another label (the paper stops at a true-class
      probability below 5%, and on ImageNet only). The final is the best image of that iteration that did so; without
      success, the best of the population.
    - Genes that leave their range are set to the nearest bound. Coordinates are then rounded down to a pixel and
      colours to whole gray levels, so that the victim and the judge see the same image. Pixels that fall on one
      place overwrite each other, the later one stays.
    - A child must be strictly better than its parent.

    All tasks of the block advance together, one Query an iteration of (unfinished tasks) * `population` images: cut
    blocks so that this fits in memory. The images lie in a buffer which the next Query overwrites (fresh memory of
    that size would cost more than all else that happens here): copy what is to be kept.
    """

    pixels: int = 1
    """How many pixels may change."""
    population: int = 400
    """Members of each task's population, at least 4."""
    iterations: int = 100
    """Generations after the first population, at most."""
    f: float | tuple[float, float] = 0.5
    """Differential weight; a pair is a range from which each task draws anew each iteration (dithering)."""
    strategy: Literal["rand1", "best1"] = "rand1"
    """What the weighted difference is added to: a random member (the paper) or the best one."""

    def __post_init__(self):
        if self.pixels < 1 or self.population < 4 or self.iterations < 0:
            raise ValueError(
                "expected pixels >= 1, population >= 4 and iterations >= 0, "
                f"got {self.pixels}, {self.population} and {self.iterations}: raise the one that is too low"
            )

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block; finals are `(t, c, h, w)`, each at most `pixels` pixels from its image."""
        finals = task.images.clone()
        active = torch.arange(len(finals), device=finals.device)
        buffer = task.images.new_empty((len(finals), self.population, *finals.shape[1:]))
        members = fitness = None
        for _ in range(self.iterations + 1):
            if not len(active):
                break
            images, labels = task.images[active], task.labels[active]
            bounds = _bounds(self.pixels, images.shape[1:], images.device)
            if members is None or fitness is None:
                children = self._first(bounds, len(active), rng)
            else:
                children = self._children(members, fitness, rng)
            children = torch.minimum(children.clamp(min=0), bounds)
            answers = yield Query(
                _paint(buffer[: len(active)], images, children).flatten(0, 1), active.repeat_interleave(self.population)
            )
            scores, fooled = _score(answers.view(len(active), self.population, -1), labels)
            if members is None or fitness is None:
                members, fitness = children, scores
            else:
                members, fitness = select(members, fitness, children, scores)

            done = fooled.any(1)
            winners = torch.where(fooled, scores, -1).argmax(1)
            champions = torch.where(done[:, None], _pick(children, winners), _pick(members, fitness.argmax(1)))
            finals[active] = _paint(torch.empty_like(images.unsqueeze(1)), images, champions.unsqueeze(1)).squeeze(1)
            left = ~done
            active, members, fitness = active[left], members[left], fitness[left]
        return finals

    def _first(self, bounds: Tensor, tasks: int, rng: torch.Generator) -> Tensor:
        size = (tasks, self.population, self.pixels, len(bounds) // self.pixels)
        genes = torch.empty(size, device=bounds.device)
        genes[..., :2] = torch.rand((*size[:3], 2), generator=rng, device=rng.device)
        genes[..., :2] *= bounds[:2]
        genes[..., 2:] = 128 + 127 * torch.randn((*size[:3], size[3] - 2), generator=rng, device=rng.device)
        return genes.flatten(2)

    def _children(self, members: Tensor, fitness: Tensor, rng: torch.Generator) -> Tensor:
        partners = draw_partners(len(members), self.population, rng)
        if isinstance(self.f, int | float):
            f: float | Tensor = self.f
        else:
            low, high = self.f
            f = low + (high - low) * torch.rand((len(members), 1, 1), generator=rng, device=rng.device)
        best = _pick(members, fitness.argmax(1)) if self.strategy == "best1" else None
        return mutate(members, partners, f, best)


def _bounds(pixels: int, shape: torch.Size, device: torch.device) -> Tensor:
    """Upper bounds of the genes, `(pixels * (2 + c),)`; all lower bounds are 0."""
    channels, height, width = shape
    return torch.tensor([width, height] + [255] * channels, dtype=torch.float32, device=device).repeat(pixels)


def _pick(members: Tensor, index: Tensor) -> Tensor:
    """`(t, p, d)`, `(t,)` -> `(t, d)`: one member of each population."""
    return members[torch.arange(len(members), device=members.device), index]


def _score(answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities `(t, p, K)` -> the wrong classes' sum, and whether accepted with another label, both `(t, p)`."""
    own = labels.view(-1, 1, 1).expand(*answers.shape[:2], 1)
    top, label = answers.max(2)
    accepted = top > 1 - answers.sum(2)
    return answers.scatter(2, own, 0).sum(2), accepted & (label != labels[:, None])


def _paint(canvas: Tensor, images: Tensor, genes: Tensor) -> Tensor:
    """Paint candidates onto copies: images `(t, c, h, w)`, genes `(t, p, d)`, into canvas `(t, p, c, h, w)`."""
    channels, height, width = images.shape[1:]
    canvas.copy_(images.unsqueeze(1))
    flat = canvas.flatten(3)
    pixels = genes.unflatten(2, (-1, 2 + channels))
    x, y = pixels[..., 0].long().clamp(max=width - 1), pixels[..., 1].long().clamp(max=height - 1)
    places, colours = y * width + x, pixels[..., 2:].round() / 255
    for k in range(pixels.shape[2]):  # one after the other: within one scatter the order of overlaps is undefined
        index = places[:, :, k, None, None].expand(-1, -1, channels, 1)
        flat.scatter_(3, index, colours[:, :, k, :, None])
    return canvas
