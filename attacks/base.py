"""The two tasks and the two protocols: what an attack is given and what it may ask.

A black-box attack is a generator. It yields images, is sent probabilities, and returns its final images; it
never holds a model, a gradient, a budget or a progress bar. A white-box attack is given an Oracle that answers with
logits and gradients. Both work on a whole block of tasks at once; `owners` says which task of the block each image
is asked for, so that whoever drives the attack can count each task's queries.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from .levels import EIGHT_BITS, Levels


@dataclass(frozen=True)
class Fool:
    """Make unrecognisable images: in each of `runs` independent runs, one image for each class in `targets`.

    Finals are `(runs, len(targets), c, h, w)`. A black-box query is tried on all targets at once, so its owner is its
    run (0..runs-1); a white-box one works on one target, so its owner is `run * len(targets) + position of target`.
    """

    shape: tuple[int, int, int]
    """Channels, height, width."""
    targets: Tensor
    """`(k,)` int64: the classes aimed at."""
    runs: int
    mean: Tensor
    """`(c, h, w)` float32 in [0, 1]: mean of the training images. Its device is the device to work on."""
    levels: Levels = EIGHT_BITS
    """The gray levels that the victim and the judge see every image rounded to."""
    borrowed: Tensor | None = None
    """`(m, runs, len(targets), c, h, w)` float32 in [0, 1], on the levels: images that other attacks on this victim, or
    attacks on other models, made for the same classes; m may be 0. None unless the entry asks for them."""


@dataclass(frozen=True)
class Perturb:
    """Change the label of natural images. Finals are `(t, c, h, w)`, one per image; owners are 0..t-1."""

    images: Tensor
    """`(t, c, h, w)` float32 in [0, 1]. Never written to."""
    labels: Tensor
    """`(t,)` int64: the victim's own label of each image, the one to get away from."""
    donors: Tensor
    """`(m, c, h, w)` float32 in [0, 1]: training images of other content, at least one per class where possible."""
    mean: Tensor
    """`(c, h, w)` float32 in [0, 1]: mean of the training images."""
    targets: Tensor | None = None
    """`(t,)` int64: the class to aim each image at, or None where any other label will do."""
    levels: Levels = EIGHT_BITS
    """The gray levels that the victim and the judge see every image rounded to; the task's own images lie on them."""
    borrowed: Tensor | None = None
    """`(m, t, c, h, w)` float32 in [0, 1], on the levels: images that attacks on other models made of the same images
    within the same limit; m may be 0. None unless the entry asks for them."""


class Query(NamedTuple):
    """A request for answers."""

    images: Tensor
    """`(n, c, h, w)` float32 in [0, 1], n at least 1. The victim sees them rounded to the task's levels. They belong to
    the attack, which may write its next images into the same memory once they are answered: keep copies, write to
    none."""
    owners: Tensor
    """`(n,)` int64: the task each image is asked for, or -1 for what is learnt once for the whole block (charged
    separately, to the attack's set-up)."""


Search = Generator[Query, Tensor, Tensor]
"""Yields a Query of n images, is sent `(n, K)` probabilities in the same order, returns the finals."""

TaskT = TypeVar("TaskT", Fool, Perturb, contravariant=True)


class BlackBox(Protocol[TaskT]):
    """An attack that sees images in and probabilities out. A frozen dataclass: its fields are its parameters."""

    def search(self, task: TaskT, rng: torch.Generator) -> Search:
        """Attack all tasks of the block. `rng` lives on the task's device and is the only source of chance."""
        ...


Objective = Callable[[Tensor, Tensor], Tensor]
"""`(logits (n, K) or (n, K + 1), rows (n,) int64)` -> `(n,)`: what to differentiate, one value an image. `rows` are
the images' positions in the batch that the attack passed, since the batch may be cut up."""


class Ascent(NamedTuple):
    """One differentiated look at the victim."""

    logits: Tensor
    """`(n, K)`, or `(n, K + 1)` when the victim rejects (last column)."""
    values: Tensor
    """`(n,)` the objective."""
    gradients: Tensor
    """`(n, c, h, w)`: of each image's own value."""


class Oracle(Protocol):
    """What a white-box attack may ask. Counts every image; raises OverBudget when the budget is spent."""

    rejects: bool
    """Whether logits carry a last column that means "none of these"."""

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        """`(n, c, h, w)` in [0, 1] -> `(n, K)`, as a black-box attack is answered; rounded to levels first. n queries.

        Not the softmax of the logits, which may be those of a stand-in for what cannot be differentiated.
        """
        ...

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        """Differentiate `objective` at each image, rounded to the task's levels as any other. n gradients."""
        ...

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        """The sign of that gradient, `(n, c, h, w)` in {-1, 0, 1}, new. n gradients.

        `name` stands for the objective at the task's own images: what was differentiated before under that name, by
        another setting of an attack on the same task, may be answered from memory. It is charged all the same.
        """
        ...


class WhiteBox(Protocol[TaskT]):
    """An attack that differentiates. A frozen dataclass: its fields are its parameters."""

    def ascend(self, task: TaskT, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """Attack all tasks of the block and return the finals."""
        ...
