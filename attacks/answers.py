"""What an attack reads in the probabilities that it is answered: acceptance, labels, and what is rejected.

The accept rule as attacks use it. Attacks import nothing of the house, so it stands in `models/answers.py` too; a test
holds the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def label_of(probabilities: Tensor) -> Tensor:
    """`(..., K)` -> `(...)` int64: the largest class (of equals the first) where it exceeds the rejected mass, that is
    where the victim accepts the image; else -1."""
    confidence, largest = probabilities.max(-1)
    return torch.where(confidence > 1 - probabilities.sum(-1), largest, -1)


def mislabelled(probabilities: Tensor, labels: Tensor) -> Tensor:
    """`(..., K)`, `(...)` labels to get away from -> `(...)` bool: accepted, and as another class."""
    label = label_of(probabilities)
    return (label >= 0) & (label != labels)


def label_alone(probabilities: Tensor) -> Tensor:
    """`(n, K)` -> `(n, K)` float32: what is left of an answer for those who are told the label alone: 1 at the
    accepted label and 0 elsewhere; nothing but 0 where the image is rejected. Its `label_of` is that of the answer."""
    label = label_of(probabilities)
    shown = torch.zeros_like(probabilities, dtype=torch.float32)
    return shown.scatter_(1, label.clamp_min(0)[:, None], (label >= 0).float()[:, None])


def rejected_mass(probabilities: Tensor) -> Tensor:
    """`(..., K)` -> `(...)`, at least 0: the mass of "none of the classes", which is what is missing from 1."""
    return (1 - probabilities.sum(-1)).clamp_min(0)


def of_class(probabilities: Tensor, classes: Tensor) -> Tensor:
    """`(n, K)`, `(n,)` -> `(n,)`: each row's probability of its own class."""
    return probabilities.gather(1, classes[:, None])[:, 0]


def margins(probabilities: Tensor, labels: Tensor) -> Tensor:
    """`(n, K)`, `(n,)` -> `(n,)`: how far each image is from being accepted as another class; below 0 it is.

    max(p_y, rejected mass) - max over j != y of p_j. The rejected mass stands in the first term because an image must
    be accepted to count: a victim that merely turns the image away has not been fooled. For a victim that never
    rejects this is the plain margin p_y - max p_j. Of classes that tie the first is the label, so a tie may fool too:
    it is as little below 0 as a float32 can be.
    """
    held, others = _held_and_others(probabilities, labels)
    label = label_of(probabilities)
    return _below(held - others, (label >= 0) & (label != labels))


def log_margins(probabilities: Tensor, labels: Tensor) -> Tensor:
    """`margins` between logarithms of probabilities (of 0 the smallest float's stands in), which are differences of
    logits where nothing is rejected: they still tell images apart where the label's probability rounds to 1."""
    held, others = (
        part.clamp_min(torch.finfo(part.dtype).tiny).log() for part in _held_and_others(probabilities, labels)
    )
    return held - others


def targeted_margins(probabilities: Tensor, targets: Tensor) -> Tensor:
    """`(n, K)`, `(n,)` -> `(n,)`: max(max over j != t of p_j, rejected mass) - p_t; below 0 it is accepted as t. A tie
    is treated as in `margins`."""
    others = probabilities.scatter(1, targets[:, None], -torch.inf)
    margin = torch.maximum(others.amax(1), rejected_mass(probabilities)) - of_class(probabilities, targets)
    return _below(margin, label_of(probabilities) == targets)


def _below(margin: Tensor, fooled: Tensor) -> Tensor:
    """A margin that is below 0 where the image fools."""
    return torch.where(fooled, margin.clamp(max=-torch.finfo(margin.dtype).tiny), margin)


def _held_and_others(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    others = probabilities.scatter(1, labels[:, None], -torch.inf)
    return torch.maximum(of_class(probabilities, labels), rejected_mass(probabilities)), others.amax(1)
