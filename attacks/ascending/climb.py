"""The ascent itself: many images at once, each to a class of its own, and on to another start where one is dead."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..answers import label_of, of_class
from ..base import Fool, Oracle
from .kept import Kept
from .odds import Kind, log_odds, objective_of
from .starts import Starts


class Look(NamedTuple):
    """What a step goes by, a row an image."""

    rows: Tensor
    """`(n,)` int64: which tasks."""
    offsets: Tensor
    """`(n, c, h, w)`: from the mean, of the images before they were rounded."""
    gradients: Tensor
    """`(n, c, h, w)`."""
    squares: Tensor
    """`(n,)` float64: the gradients' squared lengths, which are neither 0 nor infinite."""
    log_p: Tensor
    """`(n,)` float64: of the class."""
    log_rest: Tensor
    """`(n,)` float64: log(1 - p)."""

    def of(self, chosen: Tensor) -> Look:
        """Some of the rows."""
        return Look(*(values[chosen] for values in self))


class Step(Protocol):
    """A rule by which an image moves along its gradient."""

    def __call__(self, look: Look) -> Tensor:
        """The images' new offsets from the mean, `(n, c, h, w)`."""
        ...

    def restart(self, rows: Tensor) -> None:
        """Forget what was learnt of these tasks: they start anew."""
        ...


def climb(
    task: Fool, oracle: Oracle, starts: Starts, kept: Kept, *, kind: Kind, step: Step, steps: int, certain: float
) -> Tensor:
    """Ascend all runs and targets together, one gradient a step each; `(runs, targets, c, h, w)`, each on the levels.

    Iterates are rounded to the task's levels before they are asked (the offset itself is kept in floating point), so
    that what chooses among them is what the judge will see. An image whose gradient vanishes, at its start or on its
    way, goes on from its next start, within the same `steps`; one that was dead at all its starts in a row, or whose
    class is certain (1 - p at most `certain`), stops and leaves the batch.
    """
    aims = task.targets.repeat(task.runs)
    left = torch.arange(len(aims), device=aims.device)
    offsets, moved = starts.first(), torch.zeros(len(aims), dtype=torch.bool, device=aims.device)
    for _ in range(steps):
        if not len(left):
            break
        here = aims[left]
        images = (task.mean + offsets[left]).clamp_(0, 1)
        asked = task.levels.rounded(images)
        seen = oracle.gradient(asked, left, objective_of(kind, here))
        log_p, log_rest = log_odds(seen.logits, here)
        _offer(kept, left, asked, seen.logits, here, log_p - log_rest, oracle.rejects)

        squares = seen.gradients.flatten(1).double().square().sum(1)
        uncertain = log_rest.exp() > certain
        alive = (squares > 0) & squares.isfinite()
        moving = uncertain & alive
        look = Look(left, images - task.mean, seen.gradients, squares, log_p, log_rest).of(moving)
        offsets[look.rows], moved[look.rows] = step(look), True
        stuck = (uncertain & ~alive).nonzero()[:, 0]
        if len(stuck):
            more, fresh = starts.next(left[stuck], moved[left[stuck]])
            again = stuck[more]
            offsets[left[again]], moved[left[again]] = fresh, False
            step.restart(left[again])
            moving[again] = True
        left = left[moving]
    return kept.images.unflatten(0, (task.runs, -1))


def _offer(kept: Kept, rows: Tensor, images: Tensor, logits: Tensor, aims: Tensor, odds: Tensor, rejects: bool) -> None:
    """Offer what was just looked at. Its label and confidence are those that the logits give in float32."""
    answers = logits.softmax(1)
    answers = answers[:, :-1] if rejects else answers
    kept.offer(rows, images, label_of(answers) == aims, of_class(answers, aims), odds)
