"""What is ascended so that an image is accepted with another label: values of logits, larger is nearer to it.

A victim that rejects has a last column of logits, which is never what may win.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..base import Objective

Loss = Literal["probability", "dlr"]
SMALLEST = 1e-12
"""Keeps the scale of `dlr` from 0 where all logits are equal."""


class Aim(NamedTuple):
    """What each image of a run is to be taken for; a row an image."""

    labels: Tensor
    """`(n,)` int64: what it is not to be taken for."""
    classes: Tensor | None
    """`(n,)` int64: the class that is to win; None: any but its label."""
    over_all: bool
    """Whether that class must win over all others, and not just over the label and the rejection."""
    rejects: bool
    """Whether logits have a last column for the rejection."""

    def of(self, rows: Tensor) -> Aim:
        """That of some images: their numbers, or `(n,)` bool."""
        return self._replace(labels=self.labels[rows], classes=None if self.classes is None else self.classes[rows])

    def sides(self, columns: int) -> tuple[Tensor, Tensor]:
        """`(n, columns)` bool twice: which of the logits' columns are to win, and over which."""
        lose = torch.zeros((len(self.labels), columns), dtype=torch.bool, device=self.labels.device)
        lose[:, -1] = self.rejects
        lose.scatter_(1, self.labels[:, None], True)
        if self.classes is None:
            return ~lose, lose
        win = torch.zeros_like(lose).scatter_(1, self.classes[:, None], True)
        return win, ~win if self.over_all else lose & ~win


def objective_of(loss: Loss, aim: Aim) -> Objective:
    """What an Oracle differentiates; `aim` has a row for each image that it is asked about."""
    value = _probability if loss == "probability" else _dlr
    return lambda logits, rows: value(logits, *aim.of(rows).sides(logits.shape[1]))


def _probability(logits: Tensor, win: Tensor, lose: Tensor) -> Tensor:
    """Log of the summed probability of what is to win; see Fgsm for why it is not the label's cross-entropy."""
    return logits.log_softmax(1).masked_fill(~win, -torch.inf).logsumexp(1)


def _dlr(logits: Tensor, win: Tensor, lose: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, section 4): the best that is to win less the best that is to lose,
    divided by the largest logit less the third, so that scaling logits changes nothing.

    With two columns there is no third: then the difference itself, since a ratio of it to itself has no slope.
    """
    winner, loser = (logits.masked_fill(~side, -torch.inf).amax(1) for side in (win, lose))
    ahead = winner - loser
    if logits.shape[1] < 3:
        return ahead
    top = logits.topk(3, 1).values
    return ahead / (top[:, 0] - top[:, 2] + SMALLEST)
