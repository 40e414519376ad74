"""Fooling images from evolved networks, for victims that tell a label and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import label_of
from .base import Fool, Query, Search
from .cppn import CppnImages
from .entry import Entry, Occasion, fool_entry
from .evolving.color import check_channels
from .evolving.genome import Genomes, first_genomes
from .evolving.map_elites import draw_parents
from .evolving.ranges import check_sizes
from .evolving.render import coordinates
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec

FACTOR = 1.25
"""By how much the noise of a cell grows once its elite keeps its label under all of it."""
WIDEST = 3.0
"""The most that noise has, as a standard deviation: beyond it copies are little else."""


class _Cells(NamedTuple):
    """The elites of all runs. Written to in place, but for the genomes."""

    images: Tensor
    """`(runs, cells, c, h, w)`."""
    score: Tensor
    """`(runs, cells)` int64: copies that kept the label; -1 where a cell is empty."""
    noise: Tensor
    """`(runs, cells)`: standard deviation of its copies' noise."""
    stale: Tensor
    """`(runs, cells)` bool: the noise has grown since the score was taken."""


@dataclass(frozen=True, kw_only=True)
class CppnLabel(CppnImages):
    """MAP-Elites on CPPN genomes that sees accepted labels alone; `2 * children * generations` queries a run, exactly.

    Nguyen 2015's indirect encoding and variation (see Cppn), with another fitness: a label tells nothing of how sure
    the victim is, and what stands in for it is how far the label holds (Ilyas, Engstrom, Athalye & Lin, ICML 2018,
    section 2.4: the share of an image's noisy copies that keep it). A generation has two queries of `children` images:

    - each child, a mutant of the elite of a cell drawn at random, under the noise of that cell. The label that comes
      back says which cell the child is tried for, and a child that lost its parent's label is hardly tried for it;
    - `copies` noisy copies of as many children as that allows, one for each cell first, under the noise of the cell
      they are tried for. A child that keeps the label on at least as many as the elite takes the cell.

    The noise of the copies is Gaussian, one pattern for each copy and the same for all images of a run, so that two
    scores differ by the images alone and ties let images drift. Once an elite keeps its label on all copies, the noise
    of its cell grows by a quarter and the elite is scored anew before anybody is tried there.
    """

    children: int = 200
    """Images of each of a generation's two queries."""
    generations: int
    """Generations, the random first one included."""
    copies: int = 20
    """Noisy copies that score one image; at most `children`."""
    noise: float = 0.1
    """Standard deviation of the first noise, in units of [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(children=self.children, generations=self.generations, copies=self.copies)
        if self.copies > self.children or self.noise <= 0:
            got = f"{self.copies} copies, {self.children} children, noise {self.noise}"
            raise Unexpected("at most as many copies as children, and noise above 0", got, "correct the one outside")

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        """Evolve all runs of the block side by side; see BlackBox. A class that no answer named ends as black.

        Raises ValueError unless c is 1 or 3.
        """
        check_channels(task.shape[0])
        device, runs, k = task.mean.device, task.runs, len(task.targets)
        targets = task.targets.to(device)
        owners = torch.arange(runs, device=device).repeat_interleave(self.children)
        pixels = coordinates(*task.shape[1:], device)
        patterns = torch.randn(runs, 1, self.copies, *task.shape, generator=rng, device=device)
        cells = _Cells(
            torch.zeros(runs, k, *task.shape, device=device),
            torch.full((runs, k), -1, dtype=torch.int64, device=device),
            torch.full((runs, k), self.noise, device=device),
            torch.zeros(runs, k, dtype=torch.bool, device=device),
        )
        elites = first_genomes(runs * k, task.shape[0], rng)
        genomes = first_genomes(runs * self.children, task.shape[0], rng)
        for generation in range(self.generations):
            width = torch.zeros(runs, self.children, device=device)
            if generation:
                parent, known = _parents(cells.score >= 0, self.children, rng)
                genomes = self._mutants(elites, parent, known, rng)
                width = torch.where(known, cells.noise.gather(1, parent), 0.0)
            images = self.paint(genomes, pixels, task.shape).view(runs, self.children, *task.shape)
            blur = torch.randn(images.shape, generator=rng, device=device) * width[:, :, None, None, None]
            answers = yield Query((images + blur).clamp_(0, 1).flatten(0, 1), owners)
            label = label_of(answers).view(runs, self.children)
            child, cell, again = _tried(label, targets, cells.stale, self.children // self.copies)
            run = torch.arange(runs, device=device)[:, None]
            shown = torch.where(again[:, :, None, None, None], cells.images[run, cell], images[run, child])
            copies = patterns * cells.noise.gather(1, cell)[:, :, None, None, None, None] + shown[:, :, None]
            asked = self._filled(copies.clamp_(0, 1).flatten(1, 2), images)
            answers = yield Query(asked.flatten(0, 1), owners)
            told = label_of(answers).view(runs, self.children)[:, : copies.shape[1] * self.copies]
            kept = (told.unflatten(1, (-1, self.copies)) == targets[cell][:, :, None]).sum(2)
            named = label.gather(1, child) == targets[cell]
            elites = self._contest(cells, elites, genomes, shown, child, cell, kept, again, named)
        return cells.images

    def _mutants(self, elites: Genomes, parent: Tensor, known: Tensor, rng: torch.Generator) -> Genomes:
        """A mutant of each child's parent; new genomes in the runs that have no elite yet."""
        runs, k = len(parent), len(elites) // len(parent)
        at = torch.arange(runs, device=parent.device)[:, None] * k + parent
        mutants = self.mutate(elites.take(at.view(-1)), rng)
        new = (~known).view(-1).nonzero().flatten()
        return mutants.put(new, first_genomes(len(new), elites.outputs, rng)) if len(new) else mutants

    def _filled(self, copies: Tensor, images: Tensor) -> Tensor:
        """What is left of a query once its copies are in: the first children again, without noise."""
        return torch.cat([copies, images[:, : self.children - copies.shape[1]]], 1)

    def _contest(
        self,
        cells: _Cells,
        elites: Genomes,
        genomes: Genomes,
        shown: Tensor,
        child: Tensor,
        cell: Tensor,
        kept: Tensor,
        again: Tensor,
        named: Tensor,
    ) -> Genomes:
        """Score elites anew, then let each child that was tried take its cell; returns the elites' genomes."""
        k = cells.score.shape[1]
        run, slot = again.nonzero(as_tuple=True)
        cells.score[run, cell[run, slot]] = kept[run, slot]
        cells.stale[run, cell[run, slot]] = False
        run, slot = (named & ~again).nonzero(as_tuple=True)
        if len(run):
            # Of several children in one cell the one that kept most, of equals the first: the last that is written.
            order = (-kept[run, slot]).argsort(stable=True).flip(0)
            run, slot = run[order], slot[order]
            place = run * k + cell[run, slot]
            last = torch.full((cells.score.numel(),), -1, dtype=torch.int64, device=place.device)
            last.scatter_reduce_(0, place, torch.arange(len(place), device=place.device), "amax")
            last = last[last >= 0]
            run, slot, place = run[last], slot[last], place[last]
            better = (kept[run, slot] >= cells.score.view(-1)[place]) & ~cells.stale.view(-1)[place]
            run, slot, place = run[better], slot[better], place[better]
            cells.score.view(-1)[place] = kept[run, slot]
            cells.images.view(-1, *cells.images.shape[2:])[place] = shown[run, slot]
            if len(place):
                elites = elites.put(place, genomes.take(run * self.children + child[run, slot]))
        grow = (cells.score == self.copies) & ~cells.stale & (cells.noise < WIDEST)
        cells.noise[grow] = (cells.noise[grow] * FACTOR).clamp_max_(WIDEST)
        cells.stale[grow] = True
        return elites


def _parents(held: Tensor, children: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each of `(runs, children)` one of the cells that its run holds, and whether it holds any."""
    runs, count = len(held), held.sum(1, keepdim=True)
    drawn = draw_parents(runs, torch.iinfo(torch.int32).max, children, rng) % count.clamp_min(1)
    order = (~held).int().argsort(dim=1, stable=True)
    return order.gather(1, drawn), (count > 0).expand(runs, children)


def _tried(label: Tensor, targets: Tensor, stale: Tensor, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Who is scored in this generation, `(runs, slots)` each: the child, the cell, and whether it is the cell's elite
    that is scored anew instead. Elites that must be come first, then one child for each cell, then a second one.

    `label` `(runs, children)`, -1 where rejected; `stale` `(runs, cells)`.
    """
    hits = label[:, :, None] == targets
    cell = hits.int().argmax(2)
    turn = torch.where(hits.any(2), (hits.cumsum(1) * hits).sum(2), label.shape[1] + 1)
    turn = torch.where(stale.gather(1, cell), label.shape[1] + 1, turn)  # nobody is tried there before the elite is
    child = turn.argsort(dim=1, stable=True)[:, :slots]
    elite = (~stale).int().argsort(dim=1, stable=True)[:, :slots]
    width = min(slots, elite.shape[1])
    again = torch.zeros(len(label), slots, dtype=torch.bool, device=label.device)
    again[:, :width] = stale.gather(1, elite)[:, :width]
    shift = again.sum(1, keepdim=True)
    at = (torch.arange(slots, device=label.device) - shift).clamp_min(0)
    child = child.gather(1, at)
    of_child = cell.gather(1, child)
    of_child[:, :width] = torch.where(again[:, :width], elite[:, :width], of_child[:, :width])
    return child, of_child, again


class CppnLabelSpec(FoolSpec):
    """`cppn_label` in a battery's YAML; CppnLabel holds the published rates. A run spends 2 × children × generations
    queries."""

    children: AtLeastOne
    generations: AtLeastOne
    copies: AtLeastOne
    noise: Annotated[float, Field(gt=0)]
    when: Occasion


def entries(spec: CppnLabelSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting: every run at all classes."""
    yield fool_entry(
        "cppn_label",
        CppnLabel(children=spec.children, generations=spec.generations, copies=spec.copies, noise=spec.noise),
        runs=spec.runs,
        shard=spec.runs_per_shard,
        budget=2 * spec.children * spec.generations,
        classes=facts.classes,
        access="label",
        when=spec.when,
    )


ATTACK = Attack(
    name="cppn_label",
    title="CPPN by labels",
    sentence=(
        "Share of classes for which evolved pattern-producing networks, told the accepted label and nothing else and "
        "kept where more noisy copies hold it (Nguyen 2015; Ilyas 2018, label-only setting), found an image that the "
        "victim accepts as that class with at least the confidence τ."
    ),
    task="fool",
    box="black",
    access="label",
    spec=CppnLabelSpec,
    entries=entries,
    example={
        "runs": 2,
        "children": 30,
        "generations": 6,
        "copies": 5,
        "noise": 0.1,
        "when": "always",
        "runs_per_shard": 1,
    },
)
