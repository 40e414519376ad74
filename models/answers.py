"""What a row of probabilities says: whether an image is accepted, as which class, and what mass is rejected; and an
answer with the gradient of another.

The one home of the accept rule for bench, models and defenses. Attacks, which see nothing of a victim but such rows,
have the same in `attacks/answers.py`; a test holds the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rejected_mass(probabilities: Tensor) -> Tensor:
    """`(n, K)` -> `(n,)`: the mass of "none of the classes", which is what is missing from 1; rounding may leave a
    hair below 0."""
    return 1 - probabilities.sum(1)


def with_rejected(probabilities: Tensor) -> Tensor:
    """`(n, K)` -> `(n, K + 1)`: the same, and the rejected mass as the last column."""
    return torch.cat([probabilities, rejected_mass(probabilities)[:, None]], 1)


def accepts(probabilities: Tensor) -> Tensor:
    """`(n, K)` -> `(n,)` bool: a victim accepts an image when its largest class exceeds the rejected mass."""
    return probabilities.amax(1) > rejected_mass(probabilities)


def label_of(probabilities: Tensor, *, rejected: int = -1) -> Tensor:
    """`(n, K)` -> `(n,)` int64: the largest class (of equals the first) of an accepted image; `rejected` of another."""
    return labelled(probabilities, rejected=rejected)[0]


def labelled(probabilities: Tensor, *, rejected: int = -1) -> tuple[Tensor, Tensor]:
    """`label_of`, and the confidence: the largest class probability, accepted or not, `(n,)`."""
    confidence, largest = probabilities.max(1)
    return torch.where(confidence > rejected_mass(probabilities), largest, rejected), confidence


def value_of(stand_in: Tensor, value: Tensor) -> Tensor:
    """Return exactly `value`, with the gradient going to `stand_in`, of the same shape (BPDA: Athalye, Carlini, Wagner
    2018, §4.1)."""
    return _ValueOf.apply(stand_in, value)  # pyright: ignore[reportReturnType]


class _ValueOf(torch.autograd.Function):
    """Not the usual `stand_in + (value - stand_in).detach()`, whose sum is a rounding error away from `value`."""

    @staticmethod
    def forward(ctx, stand_in: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
