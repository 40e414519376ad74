"""Fooling images by gradient ascent (Nguyen, Yosinski & Clune 2015), with the gain-controlled step of its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .ascending.climb import climb
from .ascending.kept import Kept
from .ascending.starts import Starts, likeliest
from .ascending.steps import Adam, GainControlled
from .base import Fool, Oracle
from .entry import Entry
from .spec import AtLeastOne, Attack, BatteryFacts, Epsilon, FoolSpec, Rate, Strict, pixel_range

CERTAIN = 1e-9
"""An image stops when 1 - p is at most this: float32 cannot tell p from 1 below 3e-8."""


@dataclass(frozen=True)
class GradientAscent:
    """Nguyen, Yosinski & Clune, "Deep neural networks are easily fooled" (CVPR 2015), section 3.3, as released
    (Evolving-AI-Lab/fooling, caffe/ascent); the logit objective is Simonyan, Vedaldi & Zisserman's (2013).

    From the training mean plus faint noise, each step adds `rate * gradient` to an image and shrinks its offset from
    the mean by `decay`. The rate is chosen so that the predicted gain in the target's probability p is
    `gain = min(early, late * (1 - p))`. For the softmax objective that is `rate = gain / |gradient|²`. It does not
    depend on the scale of pixels: here they are [0, 1], in the code 0..255.

    Departures from the code:

    - It uses the same formula for a logit z, which turns negative above 1. Here the step asks for the logit gain that,
      with all other logits standing still, gives the same gain in p: `rate = (logit(p + gain) - logit(p)) / |dz/dx|²`.
    - A slip in a name made it return its last iterate; here the best one is returned: one that is accepted as the class
      before any that is not, then the one with the highest p.
    - Iterates are rounded to the task's levels before they are asked (the offset itself is kept in floating point), so
      that the p that chooses among them is the one that the judge will see.
    - An image whose gradient vanishes, which is left as it is there, starts anew from the next of `starts`, round and
      round, within the same budget; only one that was dead at all of them in a row ends. One that is certain
      (`certain`) stops early too.
    - The paper's other regularisers (blur, clipping of small pixels) are not part of it.

    p is the softmax over all logits, "none of these" included where the victim rejects. All runs and targets ascend
    together, one gradient a step each, and those that have stopped leave the batch.
    """

    objective: Literal["softmax", "logit"]
    """What is ascended: the target's probability or its logit."""
    starts: tuple[float, ...]
    """Standard deviations of the noise added to the mean, in units of [0, 1] (the code's: 1 of 255, a gray level; less
    than a level would be lost to rounding): an image starts at the first, and goes on to the next where it is dead."""
    decay: float = 0.0
    """Share of the offset from the mean that is lost each step: L2 decay."""
    steps: int = 500
    """Gradients an image, at most."""
    early: float = 0.03
    """Predicted gain in p of each step, while p is low."""
    late: float = 0.1
    """The same as a share of what is still missing, 1 - p, when p is high."""
    max_rate: float = 1e12 / 255**2
    """Cap of the rate, in pixels of [0, 1] (the code's 1e12 in pixels of 0..255)."""
    certain: float = CERTAIN
    """0: an image never stops for being certain."""

    def __post_init__(self):
        if self.steps < 1 or not 0 <= self.decay < 1 or not 0 < self.early < 1 or not 0 < self.late < 1:
            raise Unexpected(
                "steps >= 1, decay in [0, 1), early and late in (0, 1)",
                f"{self.steps}, {self.decay}, {self.early} and {self.late}",
                "correct the one outside",
            )
        _check_starts(self.starts)

    def ascend(self, task: Fool, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """One image for each run and target, `(runs, targets, c, h, w)`, each on the task's levels."""
        starts, kept = Starts(task, rng, self.starts), Kept(task)
        return climb(
            task,
            oracle,
            starts,
            kept,
            kind=self.objective,
            step=GainControlled(self.objective, self.early, self.late, self.decay, self.max_rate),
            steps=self.steps,
            certain=self.certain,
        )


@dataclass(frozen=True)
class AdamAscent:
    """The ascent of Simonyan, Vedaldi & Zisserman (2013) on the target's log-odds, stepped by Adam (Kingma & Ba 2015).

    Where most of a network's units are dead, a gain that is predicted from the slope is not reached, and the image
    creeps; Adam goes on at its own pace. Rounded, returned, restarted and stopped early is as in GradientAscent.

    An image may start at what others made for its class. Of the task's `borrowed` images the first `asked` are asked
    about, and the `climbed` that the victim itself finds likeliest are started from, the best first, and then noise.
    One that fools already stands. So a victim whose slope is hidden where noise lies is climbed from where searches
    without gradients, or attacks on other models, have come.
    """

    starts: tuple[float, ...]
    """As in GradientAscent. The strongest noise comes first: there fewest units are dead."""
    steps: int
    """Gradients an image, at most."""
    rate: float
    """How far a pixel moves in a step, about, in units of [0, 1]."""
    asked: int = 0
    """Borrowed images asked about for each image, at most, a query each."""
    climbed: int = 0
    """Borrowed images started from, at most."""
    beta1: float = 0.9
    beta2: float = 0.999
    certain: float = CERTAIN

    def __post_init__(self):
        if self.steps < 1 or not 0 < self.rate <= 1 or not 0 <= self.climbed <= self.asked:
            raise Unexpected(
                "steps >= 1, rate in (0, 1], climbed from 0 to asked",
                f"{self.steps}, {self.rate}, {self.climbed} of {self.asked}",
                "correct the one outside",
            )
        _check_starts(self.starts)

    def ascend(self, task: Fool, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """One image for each run and target, `(runs, targets, c, h, w)`, each on the task's levels."""
        kept = Kept(task)
        given = likeliest(task, oracle, kept, self.asked, self.climbed)
        noise = tuple(sorted(self.starts, reverse=True))
        return climb(
            task,
            oracle,
            Starts(task, rng, noise, given),
            kept,
            kind="log_odds",
            step=Adam(task, self.rate, self.beta1, self.beta2),
            steps=self.steps,
            certain=self.certain,
        )


def _check_starts(starts: tuple[float, ...]) -> None:
    if not starts or min(starts) <= 0:
        raise Unexpected("a start at least, each with noise above 0", str(list(starts)), "name a standard deviation")


class AdamSpec(Strict):
    """`adam` of `gradient_ascent`: an image spends a gradient a step."""

    steps: AtLeastOne
    rate: Annotated[float, Field(gt=0, le=1)]


class BorrowedSpec(AdamSpec):
    """`borrowed` of `gradient_ascent`: the same from images that others made. An image spends a query for each that it
    is asked about, and a gradient a step."""

    after: tuple[str, ...]
    """Entries of this battery whose images of this victim are borrowed; they are worked on first."""
    borrows: tuple[str, ...]
    """Entries whose images of the panel's models are borrowed."""
    asked: AtLeastOne
    climbed: AtLeastOne


class GradientAscentSpec(FoolSpec):
    """`gradient_ascent` in a battery's YAML: every objective with every decay, and Adam from noise and from borrowed
    images where the battery says so; task by task the best counts."""

    targets: tuple[Annotated[int, Field(ge=0)], ...] | None
    """Classes aimed at; null for all."""
    steps: AtLeastOne
    early: Annotated[float, Field(gt=0)]
    late: Annotated[float, Field(gt=0)]
    objectives: Annotated[tuple[Literal["softmax", "logit"], ...], Field(min_length=1)]
    decays: Annotated[tuple[Rate, ...], Field(min_length=1)]
    starts: Annotated[tuple[Epsilon, ...], Field(min_length=1)]
    """Standard deviations of the noise around the mean image, the faintest first."""
    adam: AdamSpec | None = None
    borrowed: BorrowedSpec | None = None


def entries(spec: GradientAscentSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """A setting for each objective with each decay; an image spends a gradient a step and one query."""
    targets = spec.targets or tuple(range(facts.classes))
    starts = tuple(pixel_range(start) for start in spec.starts)

    def entry(name: str, title: str, attack: GradientAscent | AdamAscent, budget: int) -> Entry:
        return Entry(
            f"gradient_ascent_{name}",
            "gradient_ascent",
            title,
            attack,
            "fool",
            "white",
            spec.runs,
            spec.runs_per_shard,
            budget,
            targets=targets,
            best_of=True,
        )

    for objective in spec.objectives:
        for decay in spec.decays:
            attack = GradientAscent(objective, starts, decay, spec.steps, spec.early, spec.late)
            yield entry(f"{objective}_{decay:g}", f"{objective}, L2 decay {decay:g}", attack, spec.steps + 1)
    if (adam := spec.adam) is not None:
        attack = AdamAscent(starts, adam.steps, adam.rate)
        yield entry("adam", "log-odds, Adam", attack, adam.steps)
    if (lent := spec.borrowed) is not None:
        attack = AdamAscent(starts, lent.steps, lent.rate, lent.asked, lent.climbed)
        title = "log-odds, Adam, from images of other attacks"
        yield replace(entry("borrowed", title, attack, lent.asked + lent.steps), after=lent.after, borrows=lent.borrows)


ATTACK = Attack(
    name="gradient_ascent",
    title="Gradient ascent",
    sentence=(
        "Share of classes for which ascending the victim’s gradient, from noise or from what other attacks made, found "
        "an image that it accepts as that class with at least the confidence τ (Nguyen 2015, Simonyan 2013). The best "
        "of all settings counts."
    ),
    task="fool",
    box="white",
    spec=GradientAscentSpec,
    entries=entries,
    example={
        "runs": 2,
        "targets": None,
        "steps": 10,
        "early": 0.03,
        "late": 0.1,
        "objectives": ["softmax", "logit"],
        "decays": [0, 0.01],
        "starts": ["1/255", "64/255"],
        "adam": {"steps": 10, "rate": 0.1},
        "borrowed": {"steps": 10, "rate": 0.1, "after": [], "borrows": [], "asked": 4, "climbed": 2},
        "runs_per_shard": 2,
    },
)
