"""An attack with one setting, as a battery runs it: its tasks, its budget, and the limit that the judge holds it to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .base import BlackBox, WhiteBox
from .levels import Levels

Access = Literal["scores", "label"]
"""What an attack is shown of an answer: the probabilities, or the accepted label (or that it was rejected) alone."""
Occasion = Literal["always", "withheld"]
"""Victims of every kind, or those alone whose answers carry hardly more than a label."""


@dataclass(frozen=True)
class Limit:
    """How far a final image may be from its original: a largest change, or a number of pixels."""

    kind: Literal["linf", "pixels"]
    value: float
    """linf: in units of the pixel range [0, 1]. pixels: how many positions may differ in any channel."""

    def sizes(self, originals: Tensor, finals: Tensor) -> Tensor:
        """`(t, c, h, w)` 8-bit images (uint8) twice -> `(t,)` float64: each image's change in the limit's own unit."""
        change = (finals.to(torch.int16) - originals.to(torch.int16)).abs()
        if self.kind == "pixels":
            return (change.amax(1) > 0).flatten(1).sum(1).double()
        return change.flatten(1).amax(1).double() / 255

    def kept(self, sizes: Tensor, levels: Levels) -> Tensor:
        """`(t,)` bool: which sizes are within the limit, but for what rounding to the levels may add to a change."""
        slack = levels.slack + 1e-9 if self.kind == "linf" else 0.0
        return sizes <= self.value + slack

    def __str__(self) -> str:
        if self.kind == "linf":
            return f"L∞ ≤ {self.value:g}"
        return f"{self.value:g} pixel{'s' if self.value != 1 else ''}"


@dataclass(frozen=True)
class FiniteDifferences:
    """How a white-box attack estimates gradients of a victim that has none."""

    queries: int
    """Granted to each gradient, at least 3."""
    step: float
    """How far each side of a central difference lies from the image, in whole gray levels of [0, 1]."""


@dataclass(frozen=True)
class Entry:
    """One setting of one attack. The unit that is cut into shards."""

    name: str
    """Unique in the battery; names its evidence file."""
    group: str
    """The attack (or control) that it belongs to; the group's first entry is its headline."""
    title: str
    """This setting, in words."""
    attack: BlackBox[Any] | WhiteBox[Any]
    """A frozen dataclass: its fields are the parameters that the record keeps."""
    task: Literal["fool", "perturb"]
    box: Literal["black", "white"]
    tasks: int
    """Fool: independent runs. Perturb: the first so many evaluation images."""
    shard: int
    """Tasks (runs, images) a shard."""
    budget: int
    """Queries and gradients granted: to each run for a black-box Fool, else to each single task."""
    setup: int = 0
    """Queries granted to each shard for what its tasks share."""
    targets: tuple[int, ...] = ()
    """Fool: the classes aimed at."""
    limit: Limit | None = None
    """Perturb: what the judge holds the final images to."""
    least_likely: bool = False
    """Perturb: aimed at the class that the victim finds least likely; only that label counts."""
    fixed_target: int | None = None
    """Perturb: aimed at this one class from every image; images of that class do not count."""
    smallest: bool = False
    """Perturb: whether the smallest change that fools is looked for, so that of two that fool the smaller counts."""
    best_of: bool = False
    """Whether the attack's result is, task by task, the best of all its entries."""
    leaving: bool = False
    """Whether tasks leave one by one as they succeed, over many queries. Then its cost is known only by trying."""
    most: int | None = None
    """The most that a task can ask for, where that is less than the budget."""
    finite: FiniteDifferences | None = None
    """White box: how it estimates gradients of a victim that has none; None: only the panel stands in."""
    after: tuple[str, ...] = ()
    """Entries that are worked on first. Perturb: an image that one of them fooled within this entry's limit, or that
    was wrong before, is left alone, and counts in none of its ratios. Fool: the images that they found are its task's
    `borrowed`."""
    carries: tuple[str, ...] = ()
    """Perturb: entries that are worked on first, of the same attack within smaller limits. An image that one of them
    fooled is not attacked again: its final image stands, at the cost at which it was found."""
    borrows: tuple[str, ...] = ()
    """Entries whose images of the panel's models are the task's `borrowed`."""
    exhaustive: bool = False
    """Perturb: whether it asks about all that its group's first entry could find, or about a stated grid of it, so that
    what that one misses is known."""
    control: bool = False
    """Whether it is a base rate that attacks must beat, and never ranked."""
    access: Access = "scores"
    """Black box: what its attack is shown of an answer, all of it or the label alone (`label_alone` of answers.py)."""
    when: Occasion = "always"
    """Against which victims it runs. Against the others it is needless: no result, and no failure."""
    strays: bool = False
    """Perturb, black box: whether it asks about images beyond its limit too. They are no hits."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The entries that are worked on first."""
        return (*self.after, *self.carries)

    @property
    def parameters(self) -> dict[str, Any]:
        """The attack's own parameters, for the record."""
        return asdict(self.attack)  # pyright: ignore[reportArgumentType]


def fool_entry(
    name: str,
    attack: BlackBox[Any],
    *,
    runs: int,
    shard: int,
    budget: int,
    classes: int,
    control: bool = False,
    access: Access = "scores",
    when: Occasion = "always",
) -> Entry:
    """A black-box Fool attack with a single setting: `runs` runs of `budget` queries at all `classes` at once."""
    title = f"{runs} run{'s' if runs > 1 else ''} × {budget:,} queries"
    everything = tuple(range(classes))
    return Entry(
        name,
        name,
        title,
        attack,
        "fool",
        "black",
        runs,
        shard,
        budget,
        targets=everything,
        control=control,
        access=access,
        when=when,
    )
