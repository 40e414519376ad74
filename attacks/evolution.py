"""Fooling images from evolved pixels: the direct encoding of Nguyen, Yosinski & Clune, CVPR 2015."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from .base import Fool, Query, Search
from .entry import Entry, fool_entry
from .evolving.color import check_channels, paint
from .evolving.map_elites import contest, draw_parents, empty_cells, install_, standings
from .evolving.polynomial import polynomial_mutation_
from .evolving.ranges import check_eta, check_rates, check_sizes
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec, Rate


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """MAP-Elites on pixels, one cell per target class; `children * generations` queries a run, exactly.

    Nguyen 2015, section 2 (direct encoding): every pixel is a gene, uniform at first, mutated polynomially. On colour
    images the genes are hue, lightness and saturation. Departures:

    - the mutation rate is halved as the paper says; the released code never does so;
    - mutation only, on copies of the parents, as the paper describes; the released code adds simulated binary
      crossover, which leaves 0.5 in every gene that two parents share;
    - a cell prefers images that the victim accepts as its class (map_elites.py), so that a success is never lost;
    - genes stay floats, though the victim sees them rounded, so that small steps add up (the code does so too).
    """

    children: int = 200
    """Images a generation, the first one included."""
    generations: int
    """Generations, the random first one included."""
    mutation_rate: float = 0.1
    """Probability that a gene mutates."""
    halve_every: int = 1000
    """Generations after which the mutation rate is halved, again and again."""
    eta: float = 15.0
    """Distribution index of the polynomial step: the mean step is 1 / (eta + 2)."""

    def __post_init__(self) -> None:
        check_sizes(children=self.children, generations=self.generations, halve_every=self.halve_every)
        check_rates(mutation_rate=self.mutation_rate)
        check_eta(self.eta)

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Evolve all runs of the block side by side; see BlackBox. Raises ValueError unless c is 1 or 3."""
        check_channels(task.shape[0])
        device = task.mean.device
        targets = task.targets.to(device)
        runs, cells = task.runs, len(targets)
        owners = torch.arange(runs, device=device).repeat_interleave(self.children)
        first_cell = torch.arange(runs, device=device)[:, None] * cells

        standing = empty_cells(runs, cells, device)
        elites = torch.zeros(runs, cells, *task.shape, device=device)
        genes = torch.rand(runs * self.children, *task.shape, generator=rng, device=device)
        for generation in range(self.generations):
            if generation:
                parents = first_cell + draw_parents(runs, cells, self.children, rng)
                rate = self.mutation_rate * 0.5 ** (generation // self.halve_every)
                genes = elites.flatten(0, 1).index_select(0, parents.view(-1))
                polynomial_mutation_(genes, rate, self.eta, rng)
            answers = yield Query(paint(genes), owners)
            result = contest(standing, standings(answers, targets).view(runs, self.children, cells))
            standing = result.standing
            install_(elites, genes.view(runs, self.children, *task.shape), result)
        return paint(elites)


class EvolutionSpec(FoolSpec):
    """`evolution` in a battery's YAML: the fields of Evolution. A run spends children × generations queries."""

    children: AtLeastOne
    generations: AtLeastOne
    mutation_rate: Rate
    halve_every: AtLeastOne
    eta: Annotated[float, Field(gt=0)]


def entries(spec: EvolutionSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting: every run at all classes."""
    attack = Evolution(
        children=spec.children,
        generations=spec.generations,
        mutation_rate=spec.mutation_rate,
        halve_every=spec.halve_every,
        eta=spec.eta,
    )
    yield fool_entry(
        "evolution",
        attack,
        runs=spec.runs,
        shard=spec.runs_per_shard,
        budget=spec.children * spec.generations,
        classes=facts.classes,
    )


ATTACK = Attack(
    name="evolution",
    title="Evolution (direct encoding)",
    sentence=(
        "Share of classes for which a population of images, mutated pixel by pixel with nothing but the victim’s "
        "probabilities to guide it (Nguyen 2015, direct encoding), found an image that the victim accepts as that "
        "class with at least the confidence τ."
    ),
    task="fool",
    box="black",
    spec=EvolutionSpec,
    entries=entries,
    example={
        "runs": 2,
        "children": 10,
        "generations": 3,
        "mutation_rate": 0.1,
        "halve_every": 2,
        "eta": 15,
        "runs_per_shard": 1,
    },
)
