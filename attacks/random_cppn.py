"""The control of CPPN: images that its genomes paint when nothing is selected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bench.errors import Unexpected
from .base import Fool, Search
from .cppn import CppnImages
from .entry import Entry, fool_entry
from .evolving.color import check_channels
from .evolving.genome import first_genomes
from .evolving.keep_best import keep_best
from .evolving.ranges import check_sizes
from .evolving.render import coordinates
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec


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
            raise Unexpected("mutations of at least 0", self.mutations, "raise it")

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Draw and keep the best for each class; see BlackBox. Raises ValueError unless c is 1 or 3."""
        check_channels(task.shape[0])
        pixels = coordinates(*task.shape[1:], task.mean.device)

        def draw(count: int) -> Tensor:
            genomes = first_genomes(count, task.shape[0], rng)
            for _ in range(self.mutations):
                genomes = self.mutate(genomes, rng)
            return self.paint(genomes, pixels, task.shape)

        return (yield from keep_best(task, self.children, self.generations, draw))


class RandomCppnSpec(FoolSpec):
    """`random_cppn` in a battery's YAML. A run spends children × generations queries."""

    children: AtLeastOne
    generations: AtLeastOne


def entries(spec: RandomCppnSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting: every run at all classes."""
    yield fool_entry(
        "random_cppn",
        RandomCppn(children=spec.children, generations=spec.generations),
        runs=spec.runs,
        shard=spec.runs_per_shard,
        budget=spec.children * spec.generations,
        classes=facts.classes,
        control=True,
    )


ATTACK = Attack(
    name="random_cppn",
    title="CPPN, never optimised",
    sentence=(
        "Share of classes for which one of many random CPPN images was accepted as that class with at least the "
        "confidence τ: how often CPPN’s images do it without selection."
    ),
    task="fool",
    box="black",
    spec=RandomCppnSpec,
    entries=entries,
    example={"runs": 2, "children": 10, "generations": 3, "runs_per_shard": 1},
    control=True,
)
