"""The one-pixel attack (Su, Vargas & Sakurai 2019): a few pixels, found by differential evolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import label_of
from .base import Perturb, Query, Search
from .entry import Entry, Limit
from .every_pixel import ExactSpec, exact_entry
from .evolving.differential import draw_partners, into_range, latin_hypercube, mutate, select
from .levels import Levels
from .spec import AtLeastOne, Attack, BatteryFacts, PerturbSpec

_CHOICES = {
    "strategy": ("rand1", "best1"),
    "first": ("normal", "uniform", "latin"),
    "outside": ("nearest", "redraw"),
}


@dataclass(frozen=True)
class OnePixel:
    """Su, Vargas & Sakurai, "One pixel attack for fooling deep neural networks" (IEEE TEVC 2019), sections III-IV.

    A candidate is `x, y, colours` for each pixel: 5 numbers for RGB, 3 for gray. The first population has uniform
    coordinates and N(128, 127) colours on the 0..255 scale; every iteration makes one child a member,
    `x_r1 + f * (x_r2 - x_r3)`, without crossover, and a child replaces its parent where it is better. A task spends
    at most `population * (iterations + 1)` queries.

    Choices where the paper is silent, and departures from it:

    - Untargeted, fitness is the summed probability of the wrong classes, to be raised. Where probabilities sum to 1
      that orders candidates as the paper's true-class probability does, and still tells them apart where that one
      rounds to 1 in float32. Where a victim rejects, being rejected is no escape. Targeted, it is the probability of
      the target, as in the paper.
    - A task stops as soon as an image it asked for is accepted with another label, or targeted, with the target's (the
      paper stops at a true-class probability below 5% on ImageNet, and at a target's above 90% on CIFAR-10). The final
      is the best image of that iteration that did so; without success, the best of the population.
    - Genes that leave their range are set to the nearest bound. Coordinates are then rounded down to a pixel and
      colours to whole gray levels, so that the victim and the judge see the same image. Pixels that fall on one
      place overwrite each other, the later one stays.
    - A child must be strictly better than its parent.

    `strategy="best1", f=(0.5, 1.0), first="latin", outside="redraw", iterations=75` is SciPy's differential evolution
    as the repository Hyperparticle/one-pixel-attack-keras uses it. There only the best member of an iteration is looked
    at for success, and colours run to 256 and are rounded down.

    All tasks of the block advance together, one Query an iteration of (unfinished tasks) * `population` images: cut
    blocks so that this fits in memory. The images lie in a buffer in which the next Query rewrites what differs (fresh
    memory of that size would cost more than all else that happens here): copy what is to be kept, and write to none.
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
    targeted: bool = False
    """Whether to seek the task's targets rather than any label but its own."""
    first: Literal["normal", "uniform", "latin"] = "normal"
    """Colours of the first population: N(128, 127) (the paper) or uniform; or all genes from a Latin hypercube."""
    outside: Literal["nearest", "redraw"] = "nearest"
    """What becomes of a gene that leaves its range: the nearest bound, or a new uniform draw from the range."""

    def __post_init__(self):
        if self.pixels < 1 or self.population < 4 or self.iterations < 0:
            raise Unexpected(
                "pixels >= 1, population >= 4 and iterations >= 0",
                f"{self.pixels}, {self.population} and {self.iterations}",
                "raise the one that is too low",
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise Unexpected(f"{name} to be one of {', '.join(known)}", f"{getattr(self, name)!r}", "choose one")

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block; finals are `(t, c, h, w)`, each at most `pixels` pixels from its image.

        Raises ValueError when targeted and the task has no targets.
        """
        if self.targeted and task.targets is None:
            raise Unexpected("a task with targets for a targeted attack", "None", "set Perturb.targets")
        finals = task.images.clone()
        active = torch.arange(len(finals), device=finals.device)
        canvas = _Canvas(task, self.population)
        bounds = _bounds(self.pixels, task.images.shape[1:], finals.device)
        members = fitness = None
        for _ in range(self.iterations + 1):
            if not len(active):
                break
            if members is None or fitness is None:
                children = self._first(bounds, len(active), rng)
            else:
                children = self._children(members, fitness, rng)
            children = into_range(children, bounds, rng if self.outside == "redraw" else None)
            answers = yield Query(
                canvas.paint(active, children).flatten(0, 1), active.repeat_interleave(self.population)
            )
            answers = answers.view(len(active), self.population, -1)
            if self.targeted and task.targets is not None:
                scores, fooled = _score_target(answers, task.targets[active])
            else:
                scores, fooled = _score(answers, task.labels[active])
            if members is None or fitness is None:
                members, fitness = children, scores
            else:
                members, fitness = select(members, fitness, children, scores)

            done = fooled.any(1)
            if bool(done.any()):
                winners = _pick(children[done], torch.where(fooled[done], scores[done], -1).argmax(1))
                finals[active[done]] = _painted(task, active[done], winners)
                active, members, fitness = active[~done], members[~done], fitness[~done]
        if members is not None and fitness is not None:
            finals[active] = _painted(task, active, _pick(members, fitness.argmax(1)))
        return finals

    def _first(self, bounds: Tensor, tasks: int, rng: torch.Generator) -> Tensor:
        if self.first == "latin":
            return latin_hypercube(tasks, self.population, len(bounds), rng) * bounds
        size = (tasks, self.population, self.pixels, len(bounds) // self.pixels)
        genes = torch.empty(size, device=bounds.device)
        genes[..., :2] = torch.rand((*size[:3], 2), generator=rng, device=rng.device)
        genes[..., :2] *= bounds[:2]
        colours = (*size[:3], size[3] - 2)
        if self.first == "uniform":
            genes[..., 2:] = 255 * torch.rand(colours, generator=rng, device=rng.device)
        else:
            genes[..., 2:] = 128 + 127 * torch.randn(colours, generator=rng, device=rng.device)
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
    own, label = labels.view(-1, 1, 1).expand(*answers.shape[:2], 1), label_of(answers)
    return answers.scatter(2, own, 0).sum(2), (label >= 0) & (label != labels[:, None])


def _score_target(answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities `(t, p, K)` -> the target's, and whether accepted with its label, both `(t, p)`."""
    aims = targets.view(-1, 1, 1).expand(*answers.shape[:2], 1)
    return answers.gather(2, aims).squeeze(2), label_of(answers) == targets[:, None]


class _Canvas:
    """The candidates' images in one buffer. A candidate differs from its image in a few pixels, so from one iteration
    to the next only the last candidate's pixels are put back and the new one's are written."""

    def __init__(self, task: Perturb, population: int):
        self.images, self.levels = task.images, task.levels
        images = task.images
        self.buffer = images.new_empty((len(images), population, *images.shape[1:]))
        self.shown: tuple[Tensor, Tensor] | None = None
        """Which image each row of the buffer shows, `(rows,)`, and where candidates' pixels lie on it, `(rows,
        population, pixels)`."""

    def paint(self, active: Tensor, genes: Tensor) -> Tensor:
        """Candidates `(t, p, d)` of the tasks `active` `(t,)`, which only ever lose members: `(t, p, c, h, w)`."""
        rows = self.buffer[: len(active)]
        stays = self._restore(active)
        rows[stays:] = self.images[active[stays:]].unsqueeze(1)
        self.shown = active, _write(rows, genes, self.levels)
        return rows

    def _restore(self, active: Tensor) -> int:
        """Put back the pixels of all rows that go on showing the same image, and return how many those are: a task
        that ended shifts all rows after it."""
        if self.shown is None:
            return 0
        tasks, places = self.shown
        stays = len(active)
        if len(tasks) > stays:
            stays = int((tasks[:stays] == active).cumprod(0).sum())
        channels = self.images.shape[1]
        index = places[:stays].flatten(1)[:, None].expand(-1, channels, -1)
        own = self.images[active[:stays]].flatten(2).gather(2, index)
        flat, index = self.buffer[:stays].flatten(3), places[:stays, :, None].expand(-1, -1, channels, -1)
        flat.scatter_(3, index, own.unflatten(2, places.shape[1:]).transpose(1, 2))
        return stays


def _painted(task: Perturb, rows: Tensor, genes: Tensor) -> Tensor:
    """Paint one candidate `(t, d)` onto a copy of each of the task's images at `rows` `(t,)`."""
    copies = task.images[rows]
    _write(copies.unsqueeze(1), genes.unsqueeze(1), task.levels)
    return copies


def _write(canvas: Tensor, genes: Tensor, levels: Levels) -> Tensor:
    """Write candidates' pixels, genes `(t, p, d)`, onto canvas `(t, p, c, h, w)`; returns where, `(t, p, pixels)`."""
    channels, height, width = canvas.shape[2:]
    flat = canvas.flatten(3)
    pixels = genes.unflatten(2, (-1, 2 + channels))
    x, y = pixels[..., 0].long().clamp(max=width - 1), pixels[..., 1].long().clamp(max=height - 1)
    places, colours = y * width + x, levels.nearest(pixels[..., 2:])
    for k in range(pixels.shape[2]):  # one after the other: within one scatter the order of overlaps is undefined
        index = places[:, :, k, None, None].expand(-1, -1, channels, 1)
        flat.scatter_(3, index, colours[:, :, k, :, None])
    return places


class OnePixelSpec(PerturbSpec):
    """`one_pixel` in a battery's YAML: the fields of OnePixel. The first number of pixels is the headline."""

    pixels: Annotated[tuple[AtLeastOne, ...], Field(min_length=1)]
    population: Annotated[int, Field(ge=4)]
    iterations: AtLeastOne
    f: Annotated[float, Field(gt=0, le=2)]
    exact: ExactSpec | None = None


def entries(spec: OnePixelSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """A setting for each number of pixels, of which an image spends at most population × (iterations + 1) queries; and
    where the battery asks for it, one pixel exactly."""
    for pixels in spec.pixels:
        yield Entry(
            "one_pixel" if pixels == spec.pixels[0] else f"one_pixel_{pixels}",
            "one_pixel",
            f"{pixels} pixel{'s' if pixels > 1 else ''}",
            OnePixel(pixels=pixels, population=spec.population, iterations=spec.iterations, f=spec.f),
            "perturb",
            "black",
            spec.images,
            spec.images_per_shard,
            spec.population * (spec.iterations + 1),
            limit=Limit("pixels", pixels),
            leaving=True,
        )
    if spec.exact is not None:
        yield exact_entry(spec.exact, facts, spec.images, exhaustive=spec.pixels[0] == 1)


ATTACK = Attack(
    name="one_pixel",
    title="One pixel",
    sentence=(
        "Share of images whose label the change of one single pixel changed; differential evolution over position and "
        "colour, seeing probabilities only (Su 2019)."
    ),
    task="perturb",
    box="black",
    spec=OnePixelSpec,
    entries=entries,
    example={"images": 8, "pixels": [1, 3], "population": 8, "iterations": 3, "f": 0.5, "images_per_shard": 4}
    | {"exact": {"images": 8, "values": 2, "images_per_shard": 4}},
)
