"""The odds of a class, exact at both ends, and the objectives that an ascent may differentiate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..base import Objective

Kind = Literal["softmax", "logit", "log_odds"]


def log_odds(logits: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of each row's class, `(n,)` float64, without cancellation at either end."""
    scores = logits.double().log_softmax(1)
    own = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, aims[:, None], True)
    return scores.gather(1, aims[:, None]).squeeze(1), scores.masked_fill(own, -torch.inf).logsumexp(1)


def objective_of(kind: Kind, aims: Tensor) -> Objective:
    """What is ascended, for images aimed at the classes `aims` `(n,)`: the class's probability, its logit, or its
    log-odds. Of a softmax over all logits, "none of these" included where the victim rejects."""

    def objective(logits: Tensor, rows: Tensor) -> Tensor:
        if kind == "log_odds":
            log_p, log_rest = log_odds(logits, aims[rows])
            return log_p - log_rest
        # In float32 the softmax's own gradient would be lost to rounding long before p is certain.
        values = logits if kind == "logit" else logits.double().softmax(1)
        return values.gather(1, aims[rows, None]).squeeze(1)

    return objective
