"""HopSkipJump: the boundary walked by labels alone, within an L∞ limit (Chen, Jordan & Wainwright 2020)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import label_of, mislabelled
from .base import Perturb, Query, Search
from .entry import Entry, Limit, Occasion
from .spec import AtLeastOne, Attack, BatteryFacts, EpsilonSpec


@dataclass(frozen=True)
class HopSkipJump:
    """Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack" (IEEE S&P 2020),
    algorithm 2 in its L∞ form, on whole gray levels; at most `queries` an image.

    What succeeds is an image that is accepted with another label. From one that does the search goes back towards the
    original until it is about to be lost (every pixel within α of its original, α by bisection). There it asks about
    points around, moves by the sign of the mean of those that succeed against those that do not, as far as d/√t for the
    t-th time and half of that until it succeeds, and goes back again. An image leaves as soon as it succeeds within ε;
    one that never does ends as what its nearest success is within ε. Choices and departures:

    - α, steps and points are whole levels: the paper's points, 1/(number of pixels) of the distance away, would be
      rounded back to where they are. A point lies `probe` of the distance away, at least a level, values up or down;
    - the walk begins at training images and at uniform noise that the victim accepts with another label. They are asked
      once for the whole block. Those of an image go back side by side, and those that are lost first are dropped;
    - α = ε is asked before any bisection, so what is within ε costs one query; and so is, at each boundary, the corner
      of the ε ball that the sum of all means so far points to, which is where a plane would be crossed first;
    - the number of points is `samples` · √t, as in the paper; the images of a block walk together.
    """

    epsilon: float
    """The largest change of a pixel, in units of [0, 1]."""
    queries: int
    """Of an image, at most."""
    samples: int = 100
    """Points asked about at the first boundary, at least 2."""
    probe: float = 0.05
    """How far they are from it, as a share of its distance from the original."""
    noise: int = 10
    """Images of uniform noise to begin at, beside the training images."""

    def __post_init__(self) -> None:
        kept = 0 < self.epsilon <= 1 and self.queries >= 1 and self.samples >= 2 and self.noise >= 0
        if not kept or not 0 <= self.probe <= 1:
            raise Unexpected(
                "epsilon in (0, 1], queries of at least 1, samples of at least 2, probe in [0, 1], noise of at least 0",
                f"{self.epsilon}, {self.queries}, {self.samples}, {self.probe} and {self.noise}",
                "correct the one outside",
            )

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block; finals are `(t, c, h, w)`, on the task's levels and within ε."""
        walk = _Walk(task, task.levels.whole(self.epsilon), self.queries)
        starts, label = yield from self._starts(task, rng)
        if len(starts):
            yield from _nearest_start(walk, starts, (label >= 0) & (label != task.labels[:, None]))
            turn, known = 0, torch.zeros_like(task.images)
            while len(left := walk.left(self.samples)):
                turn += 1
                slope = yield from self._slope(walk, left, turn, rng)
                known[left] += slope
                left, slope = yield from _corner(walk, left, slope, known[left])
                moved, images = yield from _forward(walk, left, slope.sign(), turn)
                yield from _back(walk, moved, images)
        return walk.finals()

    def _starts(self, task: Perturb, rng: torch.Generator) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
        """`(m, c, h, w)` images on the levels and their labels `(m,)`, -1 where rejected."""
        noise = torch.rand(self.noise, *task.images.shape[1:], generator=rng, device=rng.device)
        starts = task.levels.rounded(torch.cat([task.donors, noise]))
        if not len(starts):
            return starts, torch.zeros(0, dtype=torch.int64, device=rng.device)
        answers = yield Query(starts, torch.full((len(starts),), -1, device=rng.device))
        return starts, label_of(answers)

    def _slope(self, walk: _Walk, left: Tensor, turn: int, rng: torch.Generator) -> Generator[Query, Tensor, Tensor]:
        """`(len(left), c, h, w)` of length 1: where success lies, from points around the boundary."""
        task, at = walk.task, walk.at[left]
        reach = (self.probe * walk.distance[left]).round().clamp_min(1).view(-1, 1, 1, 1)
        wanted = (walk.queries - walk.spent[left]).clamp_max(round(self.samples * turn**0.5))
        sums, signs = torch.zeros_like(at), torch.zeros_like(at)
        hits, counts = torch.zeros(len(left), device=at.device), torch.zeros_like(wanted)
        while bool((counts < wanted).any()):
            some = torch.arange(len(left), device=at.device).repeat_interleave(
                (wanted - counts).clamp_max(self.samples)
            )
            drawn = torch.randint(0, 2, (len(some), *at.shape[1:]), generator=rng, device=at.device).float() * 2 - 1
            found = yield from walk.ask(left[some], task.levels.moved(at[some], reach[some] * drawn))
            sums.index_add_(0, some, found.float().view(-1, 1, 1, 1) * drawn)
            signs.index_add_(0, some, drawn)
            hits.index_add_(0, some, found.float())
            counts += torch.bincount(some, minlength=len(left))
        share = (hits / counts.clamp_min(1)).view(-1, 1, 1, 1)
        # Against the mean, as in the paper: where all or none succeed nothing but the points' own mean is left.
        one_sided = torch.where(share >= 1, signs, -signs)
        slope = torch.where((share > 0) & (share < 1), sums - share * signs, one_sided)
        return slope / slope.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


class _Walk:
    """Where each image of a block stands, in whole levels."""

    def __init__(self, task: Perturb, steps: int, queries: int) -> None:
        count, device = len(task.images), task.images.device
        self.task, self.steps, self.queries = task, steps, queries
        self.at = task.images.clone()
        """The last success on the way back."""
        self.distance = torch.zeros(count, device=device)
        """Its levels from the original; 0 before there is any success."""
        self.best, self.least = task.images.clone(), torch.full((count,), torch.inf, device=device)
        self.spent = torch.zeros(count, dtype=torch.int64, device=device)

    def left(self, needed: int) -> Tensor:
        """Images that have a success, none within ε, and so many queries."""
        open_ = (self.least > self.steps) & self.least.isfinite() & (self.queries - self.spent >= needed)
        return open_.nonzero().flatten()

    def ask(self, rows: Tensor, images: Tensor) -> Generator[Query, Tensor, Tensor]:
        """Which `(n,)` of these images, asked for the tasks `rows`, succeed."""
        if not len(rows):
            return torch.zeros(0, dtype=torch.bool, device=rows.device)
        self.spent += torch.bincount(rows, minlength=len(self.spent))
        return mislabelled((yield Query(images, rows)), self.task.labels[rows])

    def within(self, rows: Tensor, images: Tensor, levels: Tensor) -> Tensor:
        """The nearest to these images whose every value is within so many levels `(n,)` of its original."""
        original = self.task.images[rows]
        low, high = (self.task.levels.moved(original, sign * levels.view(-1, 1, 1, 1)) for sign in (-1, 1))
        return torch.minimum(torch.maximum(images, low), high)

    def far(self, rows: Tensor, images: Tensor) -> Tensor:
        """`(n,)`: the levels that these are from their originals."""
        change = (images - self.task.images[rows]).abs().flatten(1).amax(1)
        return (change * self.task.levels.top).round()

    def reached(self, rows: Tensor, images: Tensor, levels: Tensor) -> None:
        """Successes `images`, so far from their originals."""
        self.at[rows], self.distance[rows] = images, levels
        nearer = levels < self.least[rows]
        self.best[rows[nearer]], self.least[rows[nearer]] = images[nearer], levels[nearer]

    def finals(self) -> Tensor:
        """What is nearest to each image's best success within ε; the image itself where there was none."""
        every = torch.arange(len(self.best), device=self.best.device)
        return self.within(every, self.best, torch.full_like(self.least, self.steps))


def _nearest_start(walk: _Walk, starts: Tensor, valid: Tensor) -> Generator[Query, Tensor, None]:
    """Go back from all starts `(m, c, h, w)` that are `valid` `(t, m)` for an image, until one is left to be lost.

    A start that an image cannot afford any more is left out.
    """
    t = len(valid)
    rows = torch.arange(t, device=valid.device)
    own = torch.stack([walk.far(rows, start.expand_as(walk.task.images)) for start in starts], 1)
    own = torch.where(valid, own, torch.inf)
    some = valid.any(1).nonzero().flatten()
    first = own[some].argmin(1)
    walk.reached(some, starts[first], own[some, first])
    low = torch.full((t,), float(walk.steps), device=rows.device)
    high, middle, alive = walk.least.clone(), low.clone(), valid.clone()  # ε itself first
    while True:
        now = high.isfinite() & (middle < high) & (walk.queries - walk.spent >= alive.sum(1))
        row, start = (alive & now[:, None]).nonzero(as_tuple=True)
        if not len(row):
            return
        found = torch.zeros_like(alive)
        found[row, start] = yield from walk.ask(row, walk.within(row, starts[start], middle[row]))
        won = found.any(1)
        at = won.nonzero().flatten()
        walk.reached(at, walk.within(at, starts[found[at].int().argmax(1)], middle[at]), middle[at])
        alive = torch.where(won[:, None], found, alive)
        high, low = torch.where(won, middle, high), torch.where(now & ~won, middle, low)
        open_ = now & (high - low > 1) & (high > walk.steps)
        middle = torch.where(open_, ((low + high) / 2).floor(), torch.inf)


def _corner(walk: _Walk, left: Tensor, slope: Tensor, known: Tensor) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
    """Ask about the corner of the ε ball that all slopes so far point to; what is still left, and its slopes."""
    level = torch.full((len(left),), float(walk.steps), device=left.device)
    images = walk.task.levels.moved(walk.task.images[left], walk.steps * known.sign())
    now = (walk.spent[left] < walk.queries).nonzero().flatten()
    found = torch.zeros(len(left), dtype=torch.bool, device=left.device)
    found[now] = yield from walk.ask(left[now], images[now])
    walk.reached(left[found], images[found], level[found])
    return left[~found], slope[~found]


def _forward(walk: _Walk, left: Tensor, slope: Tensor, turn: int) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
    """Step from the boundary along the slope, a step halved until it succeeds; the rows that did, and their images."""
    length = (walk.distance[left] / turn**0.5).round().clamp_min(1)
    moved, done = walk.at[left].clone(), torch.zeros(len(left), dtype=torch.bool, device=left.device)
    while len(at := (~done & (length >= 1) & (walk.spent[left] < walk.queries)).nonzero().flatten()):
        tried = walk.task.levels.moved(walk.at[left[at]], length[at].view(-1, 1, 1, 1) * slope[at])
        found = yield from walk.ask(left[at], tried)
        moved[at[found]] = tried[found]
        done[at[found]] = True
        length = torch.where(done, length, (length / 2).floor())
    return left[done], moved[done]


def _back(walk: _Walk, rows: Tensor, images: Tensor) -> Generator[Query, Tensor, None]:
    """From successes `images` back towards the originals, by bisection; ε itself is asked first."""
    low = torch.full((len(rows),), walk.steps, device=rows.device, dtype=torch.float32)
    high = walk.far(rows, images)
    kept, middle = images.clone(), low.clone()
    while True:
        now = (high > walk.steps) & (middle < high) & (walk.spent[rows] < walk.queries)
        at = now.nonzero().flatten()
        if not len(at):
            break
        tried = walk.within(rows[at], images[at], middle[at])
        found = yield from walk.ask(rows[at], tried)
        kept[at[found]] = tried[found]
        high[at[found]] = middle[at[found]]
        low[at[~found]] = middle[at[~found]]
        middle = torch.where(high - low > 1, ((low + high) / 2).floor(), torch.inf)
    walk.reached(rows, kept, high)


class HopSkipJumpSpec(EpsilonSpec):
    """`hop_skip_jump` in a battery's YAML: a setting at each ε. An image costs at most `queries` in each."""

    queries: AtLeastOne
    samples: Annotated[int, Field(ge=2)]
    probe: Annotated[float, Field(ge=0, le=1)]
    noise: Annotated[int, Field(ge=0)]
    when: Occasion


def entries(spec: HopSkipJumpSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """The headline ε and the curve: each on what smaller ε, and the other attacks at the same ε, left."""
    for at in spec.settings("hop_skip_jump"):
        yield Entry(
            at.name,
            "hop_skip_jump",
            f"{at.title}, at most {spec.queries:,} queries",
            HopSkipJump(at.epsilon, spec.queries, spec.samples, spec.probe, spec.noise),
            "perturb",
            "black",
            spec.images,
            spec.images_per_shard,
            spec.queries,
            setup=facts.donors + spec.noise,
            limit=Limit("linf", at.epsilon),
            leaving=True,
            strays=True,
            access="label",
            when=spec.when,
            after=tuple(f"{name}{at.suffix}" for name in ("fgsm", "projected_ascent", "transfer", "square")),
            carries=at.smaller,
        )


ATTACK = Attack(
    name="hop_skip_jump",
    title="HopSkipJump",
    sentence=(
        "Share of images whose label a walk along the boundary changed within ε, told the accepted label and nothing "
        "else (Chen 2020), of those that the other attacks at the same ε had left."
    ),
    task="perturb",
    box="black",
    access="label",
    spec=HopSkipJumpSpec,
    entries=entries,
    example={
        "images": 4,
        "epsilon": 0.2,
        "curve": [0.1, 0.2],
        "queries": 400,
        "samples": 20,
        "probe": 0.05,
        "noise": 3,
        "when": "always",
        "images_per_shard": 4,
    },
)
