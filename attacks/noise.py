"""The two controls: images that nobody optimised, of which the best for each class is kept.

They give the base rate that an attack must beat: how often a victim is fooled by chance, at as many queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Fool, Query, Search
from .cppn import CppnImages
from .evolving.color import check_channels
from .evolving.genome import first_genomes
from .evolving.map_elites import contest, empty_cells, install_
from .evolving.ranges import check_sizes
from .evolving.render import coordinates


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Uniform noise, each channel of each pixel by itself; `children * generations` queries a run, exactly."""

    children: int = 200
    """Images a batch."""
    generations: int
    """Batches."""

    def __post_init__(self) -> None:
        check_sizes(children=self.children, generations=self.generations)

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Draw and keep the best for each class; see BlackBox."""

        def draw(count: int) -> Tensor:
            return torch.rand(count, *task.shape, generator=rng, device=task.mean.device)

        return (yield from _keep_best(task, self.children, self.generations, draw))


@dataclass(frozen=True, kw_only=True)
class RandomCppn(CppnImages):
    """CPPN images that were never selected; `children * generations` queries a run, exactly.

    Every image is a new genome: a first genome of the attack, mutated `mutations` times over with nothing chosen in
    between. Left at its first, hidden-less form it would paint plainer images than the attack's; ten rounds give it 3
    hidden nodes and 7 connections on average, as the attack's elites have on 8x8 digits after 20 to 30 generations of
    200, when most classes have fallen. So what the attack adds to this control is selection alone.
    """

    children: int = 200
    """Images a batch."""
    generations: int
    """Batches."""
    mutations: int = 10
    """Rounds of mutation behind each genome."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(children=self.children, generations=self.generations)
        if self.mutations < 0:
            raise ValueError(f"expected mutations of at least 0, got {self.mutations}: raise it")

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Draw and keep the best for each class; see BlackBox. Raises ValueError unless c is 1 or 3."""
        check_channels(task.shape[0])
        pixels = coordinates(*task.shape[1:], task.mean.device)

        def draw(count: int) -> Tensor:
            genomes = first_genomes(count, task.shape[0], rng)
            for _ in range(self.mutations):
                genomes = self.mutate(genomes, rng)
            return self.paint(genomes, pixels, task.shape)

        return (yield from _keep_best(task, self.children, self.generations, draw))


def _keep_best(task: Fool, children: int, generations: int, draw: Callable[[int], Tensor]) -> Search:
    device = task.mean.device
    targets = task.targets.to(device)
    owners = torch.arange(task.runs, device=device).repeat_interleave(children)
    confidence = empty_cells(task.runs, len(targets), device)
    kept = torch.zeros(task.runs, len(targets), *task.shape, device=device)
    for _ in range(generations):
        images = draw(task.runs * children)
        answers = yield Query(images, owners)
        result = contest(confidence, answers.index_select(1, targets).view(task.runs, children, len(targets)))
        confidence = result.confidence
        install_(kept, images.view(task.runs, children, *task.shape), result)
    return kept
