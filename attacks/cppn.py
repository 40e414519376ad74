"""Fooling images from evolved networks: the indirect encoding of Nguyen, Yosinski & Clune, CVPR 2015."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Fool, Query, Search
from .entry import Entry, fool_entry
from .evolving.color import check_channels, paint
from .evolving.genome import Genomes, first_genomes
from .evolving.map_elites import contest, draw_parents, empty_cells, install_, standings
from .evolving.ranges import check_sizes
from .evolving.render import coordinates, render
from .evolving.variation import Variation
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec


@dataclass(frozen=True, kw_only=True)
class CppnImages(Variation):
    """Images painted by CPPNs (Stanley 2007): a network is asked for the colour of each pixel, given its place."""

    weight_limit: float = 10.0
    """Weights lie in [-weight_limit, weight_limit]."""

    def paint(self, genomes: Genomes, pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """`(g, c, h, w)` in [0, 1]."""
        return paint(render(genomes, pixels, self.weight_limit).view(-1, *shape))


@dataclass(frozen=True, kw_only=True)
class Cppn(CppnImages):
    """MAP-Elites on CPPN genomes, one cell per target class; `children * generations` queries a run, exactly.

    Nguyen 2015, section 2 (indirect encoding), with the rates of the released code. Genomes start without hidden nodes.
    One output gives gray, three give hue, lightness and saturation. Departures:

    - hue runs through one turn (see color.py), and pixels are not truncated to 8 bits before the victim rounds them;
    - a cell prefers images that the victim accepts as its class (map_elites.py), so that a success is never lost;
    - the numbers of hidden nodes and of connections are limited, to bound the memory.
    """

    children: int = 200
    """Images a generation, the first one included."""
    generations: int
    """Generations, the random first one included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(children=self.children, generations=self.generations)

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Evolve all runs of the block side by side; see BlackBox. Raises ValueError unless c is 1 or 3."""
        check_channels(task.shape[0])
        device = task.mean.device
        targets = task.targets.to(device)
        runs, cells = task.runs, len(targets)
        owners = torch.arange(runs, device=device).repeat_interleave(self.children)
        first_cell = torch.arange(runs, device=device)[:, None] * cells
        pixels = coordinates(*task.shape[1:], device)

        standing = empty_cells(runs, cells, device)
        images = torch.zeros(runs, cells, *task.shape, device=device)
        elites = first_genomes(runs * cells, task.shape[0], rng)
        genomes = first_genomes(runs * self.children, task.shape[0], rng)
        for generation in range(self.generations):
            if generation:
                parents = first_cell + draw_parents(runs, cells, self.children, rng)
                genomes = self.mutate(elites.take(parents.view(-1)), rng)
            offered = self.paint(genomes, pixels, task.shape)
            answers = yield Query(offered, owners)
            result = contest(standing, standings(answers, targets).view(runs, self.children, cells))
            standing = result.standing
            install_(images, offered.view(runs, self.children, *task.shape), result)
            winners = genomes.take(result.run * self.children + result.child)
            elites = elites.put(result.run * cells + result.cell, winners)
        return images


class CppnSpec(FoolSpec):
    """`cppn` in a battery's YAML; Cppn holds the published rates. A run spends children × generations queries."""

    children: AtLeastOne
    generations: AtLeastOne


def entries(spec: CppnSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting: every run at all classes."""
    yield fool_entry(
        "cppn",
        Cppn(children=spec.children, generations=spec.generations),
        runs=spec.runs,
        shard=spec.runs_per_shard,
        budget=spec.children * spec.generations,
        classes=facts.classes,
    )


ATTACK = Attack(
    name="cppn",
    title="CPPN (indirect encoding)",
    sentence=(
        "Share of classes for which evolved pattern-producing networks, whose images are regular (stripes, symmetries, "
        "repeated motifs; Nguyen 2015, indirect encoding), found an image that the victim accepts as that class with "
        "at least the confidence τ."
    ),
    task="fool",
    box="black",
    spec=CppnSpec,
    entries=entries,
    example={"runs": 2, "children": 10, "generations": 3, "runs_per_shard": 1},
)
