"""Fooling images from evolved pixels, for victims that tell a label and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import label_of
from .base import Fool, Query, Search
from .entry import Entry, Occasion, fool_entry
from .evolving.grains import draw_sides, in_squares
from .evolving.ranges import check_sizes
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec

WIDEN, NARROW, FACTOR = 0.7, 0.4, 1.1
"""A class's noise grows by the factor where more of the copies than the first share keep the label, and shrinks by it
where fewer than the second do."""
WIDEST = 1.5
"""The most that noise has, as a standard deviation: beyond it hardly anything of the image is left."""


@dataclass(frozen=True, kw_only=True)
class EvolutionLabel:
    """An evolution strategy for each class that sees accepted labels alone; `children * generations` queries a run,
    exactly.

    A label tells nothing of how sure the victim is; what stands in for it is how far the label holds. Ilyas, Engstrom,
    Athalye & Lin, "Black-box adversarial attacks with limited queries and information" (ICML 2018), section 2.4
    (label-only setting): the score of an image is the share of its noisy copies that have the label, and natural
    evolution strategies (Wierstra et al. 2014) estimate the slope of that score from the same copies. Each class of
    each run has an image of its own. The first generation is uniform noise; a class without an image takes the first
    one that is accepted as it, whatever that was asked for. In each further generation the classes that had the fewest
    generations have theirs: `copies` noisy copies of its image are asked, and the image moves from those that lost the
    label towards those that kept it. What is left of a generation asks about new noise. Departures:

    - no class is ranked beside others (their k = 1), images start from noise, and nothing holds them near an original;
    - copies have Gaussian noise, in squares of one of the sides in `squares`, and are clipped to [0, 1];
    - the noise follows the label: it grows where most copies keep it and shrinks where most lose it, so that the score
      never has all or none, and the final image is one whose label holds far around it;
    - a step has one length, `step` noises a pixel, since the slope of a share has no scale of its own;
    - colours are red, green and blue, which noise and steps treat alike.
    """

    children: int = 200
    """Images a generation."""
    generations: int
    """Generations, the random first one included."""
    copies: int = 20
    """Noisy copies of one class's image, at least 2; at most `children`."""
    noise: float = 0.3
    """Standard deviation of the first noise, in units of [0, 1]."""
    step: float = 0.06
    """How far a pixel moves in a step, root mean square, in standard deviations of the noise."""
    squares: tuple[int, ...] = (1,)
    """Sides of the squares that noise comes in, in pixels; each class draws one of them each time."""

    def __post_init__(self) -> None:
        check_sizes(children=self.children, generations=self.generations)
        if (
            not 2 <= self.copies <= self.children
            or self.noise <= 0
            or self.step <= 0
            or min(self.squares, default=0) < 1
        ):
            raise Unexpected(
                "copies from 2 to children, noise and step above 0, squares of at least a pixel",
                f"{self.copies}, {self.noise}, {self.step} and {self.squares}",
                "correct the one outside",
            )

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Attack all runs of the block side by side; see BlackBox. A class that no answer named ends as black."""
        device, runs, cells = task.mean.device, task.runs, len(task.targets)
        targets = task.targets.to(device)
        owners = torch.arange(runs, device=device).repeat_interleave(self.children)
        slots = min(self.children // self.copies, cells)
        centres = torch.zeros(runs, cells, *task.shape, device=device)
        held = torch.zeros(runs, cells, dtype=torch.bool, device=device)
        noise = torch.full((runs, cells), self.noise, device=device)
        turns = torch.zeros(runs, cells, dtype=torch.int64, device=device)
        every = torch.arange(runs, device=device)[:, None]
        for _ in range(self.generations):
            images = self._fresh(runs * self.children, task.shape, rng).view(runs, self.children, *task.shape)
            # Of the classes that have an image those that waited longest.
            cell = torch.where(held, turns, self.generations + 1).argsort(dim=1, stable=True)[:, :slots]
            asked = held[every, cell]
            drawn = self._noise(runs * slots, task.shape, rng).view(runs, slots, self.copies, *task.shape)
            width = noise[every, cell]
            copies = drawn * width[:, :, None, None, None, None] + centres[every, cell].unsqueeze(2)
            first = images[:, : slots * self.copies].unflatten(1, (slots, self.copies))
            first[:] = torch.where(asked[:, :, None, None, None, None], copies.clamp_(0, 1), first)
            answers = yield Query(images.flatten(0, 1), owners)
            label = label_of(answers).view(runs, self.children)

            kept = label[:, : slots * self.copies].unflatten(1, (slots, self.copies)) == targets[cell][:, :, None]
            share = kept.float().mean(2)
            self._step(centres, cell, drawn, width, kept, share, asked)
            factor = torch.where(share > WIDEN, FACTOR, torch.where(share < NARROW, 1 / FACTOR, 1.0))
            wide = (width * factor).clamp(1 / task.levels.top, WIDEST)
            noise.scatter_(1, cell, torch.where(asked, wide, width))
            turns.scatter_add_(1, cell, asked.long())
            self._adopt(centres, held, images, label[:, :, None] == targets)
        return centres

    def _fresh(self, count: int, shape: tuple[int, int, int], rng: torch.Generator) -> Tensor:
        images = torch.rand(count, *shape, generator=rng, device=rng.device)
        return in_squares(images, draw_sides(self.squares, count, rng)) if max(self.squares) > 1 else images

    def _noise(self, slots: int, shape: tuple[int, int, int], rng: torch.Generator) -> Tensor:
        """Of all copies of each slot; one slot's copies have squares of one side."""
        drawn = torch.randn(slots * self.copies, *shape, generator=rng, device=rng.device)
        if max(self.squares) == 1:
            return drawn
        return in_squares(drawn, draw_sides(self.squares, slots, rng).repeat_interleave(self.copies))

    def _step(
        self, centres: Tensor, cell: Tensor, drawn: Tensor, width: Tensor, kept: Tensor, share: Tensor, asked: Tensor
    ) -> None:
        """Move the centres of the cells `(runs, slots)` along the slope of the share that kept the label."""
        weight = (kept.float() - share[:, :, None])[:, :, :, None, None, None]
        slope = (weight * drawn).mean(2)
        length = slope.square().mean((2, 3, 4), keepdim=True).sqrt().clamp_min(1e-12)
        tells = (asked & (share > 0) & (share < 1))[:, :, None, None, None]
        every = torch.arange(len(centres), device=centres.device)[:, None]
        before = centres[every, cell]
        step = self.step * width[:, :, None, None, None] * slope / length
        centres[every, cell] = torch.where(tells, (before + step).clamp_(0, 1), before)

    def _adopt(self, centres: Tensor, held: Tensor, images: Tensor, named: Tensor) -> None:
        """Give each cell without an image the first of `(runs, children)` that is labelled so."""
        run, cell = (~held & named.any(1)).nonzero(as_tuple=True)
        if len(run):
            centres[run, cell] = images[run, named.int().argmax(1)[run, cell]]
            held[run, cell] = True


class EvolutionLabelSpec(FoolSpec):
    """`evolution_label` in a battery's YAML: the fields of EvolutionLabel. A run spends children × generations
    queries."""

    children: AtLeastOne
    generations: AtLeastOne
    copies: Annotated[int, Field(ge=2)]
    noise: Annotated[float, Field(gt=0)]
    step: Annotated[float, Field(gt=0)]
    squares: tuple[AtLeastOne, ...] = (1,)
    when: Occasion


def entries(spec: EvolutionLabelSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting: every run at all classes."""
    attack = EvolutionLabel(
        children=spec.children,
        generations=spec.generations,
        copies=spec.copies,
        noise=spec.noise,
        step=spec.step,
        squares=spec.squares,
    )
    yield fool_entry(
        "evolution_label",
        attack,
        runs=spec.runs,
        shard=spec.runs_per_shard,
        budget=spec.children * spec.generations,
        classes=facts.classes,
        access="label",
        when=spec.when,
    )


ATTACK = Attack(
    name="evolution_label",
    title="Evolution by labels",
    sentence=(
        "Share of classes for which an evolution strategy on pixels that is told the accepted label and nothing else, "
        "and climbs the share of noisy copies that keep it (Ilyas 2018, label-only setting), found an image that the "
        "victim accepts as that class with at least the confidence τ."
    ),
    task="fool",
    box="black",
    access="label",
    spec=EvolutionLabelSpec,
    entries=entries,
    example={
        "runs": 2,
        "children": 40,
        "generations": 12,
        "copies": 10,
        "noise": 0.3,
        "step": 0.2,
        "squares": [1, 2],
        "when": "always",
        "runs_per_shard": 1,
    },
)
