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


def rejected_mass(probabilities: Tensor) -> Tensor:
    """`(..., K)` -> `(...)`, at least 0: the mass of "none of the classes", which is what is missing from 1."""
    return (1 - probabilities.sum(-1)).clamp_min(0)


def of_class(probabilities: Tensor, classes: Tensor) -> Tensor:
    """`(n, K)`, `(n,)` -> `(n,)`: each row's probability of its own class."""
    return probabilities.gather(1, classes[:, None])[:, 0]
