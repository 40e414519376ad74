"""Differential evolution (Storn & Price 1997) without crossover, for many populations at once.

Pure: tensors in, tensors out. Populations are `(t, p, d)`: t independent populations of p members with d genes each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...bench.errors import Unexpected


def latin_hypercube(tasks: int, population: int, dimensions: int, rng: torch.Generator) -> Tensor:
    """First populations in [0, 1): along each dimension exactly one member in each of `population` equal strata.

    Returns `(tasks, population, dimensions)` float32 on the generator's device (McKay, Beckman & Conover 1979).
    """
    size = (tasks, population, dimensions)
    strata = torch.rand(size, generator=rng, device=rng.device).argsort(1)
    return (strata + torch.rand(size, generator=rng, device=rng.device)) / population


def draw_partners(tasks: int, population: int, rng: torch.Generator) -> Tensor:
    """Draw r1, r2, r3 for every member: uniform, distinct from each other and from the member itself.

    Returns `(3, tasks, population)` int64 on the generator's device. Raises ValueError for fewer than 4 members.
    """
    if population < 4:
        raise Unexpected("a population of at least 4", population, "raise `population`")
    size = (tasks, population)

    def draw(high: int) -> Tensor:
        return torch.randint(1, high, size, generator=rng, device=rng.device)

    # Distances ahead of the member, all distinct: each draw is from what is left, then steps over those taken.
    first, second, third = draw(population), draw(population - 1), draw(population - 2)
    second += second >= first
    third += third >= torch.minimum(first, second)
    third += third >= torch.maximum(first, second)
    return (torch.stack([first, second, third]) + torch.arange(population, device=rng.device)) % population


def mutate(members: Tensor, partners: Tensor, f: float | Tensor, best: Tensor | None = None) -> Tensor:
    """One child for every member: `x_r1 + f * (x_r2 - x_r3)`, or `best + f * (x_r2 - x_r3)` where `best` is given.

    `members` `(t, p, d)`; `partners` `(3, t, p)` int64; `f` a number or `(t, 1, 1)`; `best` `(t, d)`. Returns
    `(t, p, d)`. These are "rand/1" and "best/1" with a crossover rate of 1: a child takes no gene from its parent.
    """
    first, second, third = (members.gather(1, r.unsqueeze(2).expand_as(members)) for r in partners)
    base = first if best is None else best.unsqueeze(1)
    return base + f * (second - third)


def select(members: Tensor, fitness: Tensor, children: Tensor, children_fitness: Tensor) -> tuple[Tensor, Tensor]:
    """Let each child replace the parent of the same index where its fitness is strictly higher.

    Members `(t, p, d)`, fitness `(t, p)`, higher is better. Returns the survivors and their fitness.
    """
    better = children_fitness > fitness
    return torch.where(better.unsqueeze(2), children, members), torch.where(better, children_fitness, fitness)


def into_range(children: Tensor, bounds: Tensor, redraw: torch.Generator | None = None) -> Tensor:
    """Bring genes `(t, p, d)` into [0, `bounds`], `(d,)`: to the nearest bound, or drawn anew uniformly from the range
    (as SciPy does) where a generator to `redraw` from is given."""
    if redraw is None:
        return torch.minimum(children.clamp(min=0), bounds)
    fresh = torch.rand(children.shape, generator=redraw, device=redraw.device) * bounds
    return torch.where((children < 0) | (children > bounds), fresh, children)
