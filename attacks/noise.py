"""The control of every search: uniform noise, of which the best for each class is kept.

It gives the base rate that an attack must beat: how often a victim is fooled by chance, at as many queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Fool, Search
from .entry import Entry, fool_entry
from .evolving.keep_best import keep_best
from .evolving.ranges import check_sizes
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec


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

        return (yield from keep_best(task, self.children, self.generations, draw))


class NoiseSpec(FoolSpec):
    """`noise` in a battery's YAML. A run spends children × generations queries."""

    children: AtLeastOne
    generations: AtLeastOne


def entries(spec: NoiseSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting: every run at all classes."""
    yield fool_entry(
        "noise",
        Noise(children=spec.children, generations=spec.generations),
        runs=spec.runs,
        shard=spec.runs_per_shard,
        budget=spec.children * spec.generations,
        classes=facts.classes,
        control=True,
    )


ATTACK = Attack(
    name="noise",
    title="Uniform noise",
    sentence=(
        "Share of classes for which one of many images of uniform noise was accepted as that class with at least the "
        "confidence τ: what chance alone does."
    ),
    task="fool",
    box="black",
    spec=NoiseSpec,
    entries=entries,
    example={"runs": 2, "children": 10, "generations": 3, "runs_per_shard": 1},
    control=True,
)
