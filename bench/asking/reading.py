"""What a victim's answers mean: its labels, and which attacks they grant."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...models.answers import labelled


@dataclass(frozen=True)
class Reading:
    """What a victim says of some images. All tensors have one row per image and lie on the victim's device."""

    probabilities: Tensor
    """`(n, K)` float32."""
    label: Tensor
    """`(n,)` int64: the largest class when it exceeds the rejected mass, else -1: rejected."""
    confidence: Tensor
    """`(n,)` float32: the largest class probability."""


def reading_of(probabilities: Tensor) -> Reading:
    """Turn `(n, K)` probabilities into labels: a victim accepts when its largest class exceeds the rejected mass."""
    return Reading(probabilities, *labelled(probabilities))


def hits_fool(probabilities: Tensor, targets: Tensor, tau: float) -> Tensor:
    """`(n, K)`, `(k,)` -> bool `(n, k)`: accepted as the target, with confidence at least τ."""
    reading = reading_of(probabilities)
    accepted = reading.label.unsqueeze(1) == targets.unsqueeze(0)
    return accepted & (probabilities.index_select(1, targets) >= tau)


def hits_perturb(probabilities: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """`(n, K)`, `(n,)` labels to get away from -> bool `(n,)`: accepted, and another label (the target's, if any)."""
    label = reading_of(probabilities).label
    return (label >= 0) & (label != labels) if targets is None else label == targets
