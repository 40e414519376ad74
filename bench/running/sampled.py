"""A few of a shard's own queries with the answers they got, kept to be asked again of a victim built anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...models.base import Classifier
from ...models.levels import to_bytes

GROWTH = 1.5
"""A query is kept whenever so many times as many images were asked about as when the one before was: the first, and
then early and late ones alike, about 20 of 50,000."""


class Sample:
    """One image of a query now and then, and its answer. Belongs to one shard, so it needs no lock."""

    def __init__(self, victim: Classifier, rng: torch.Generator) -> None:
        """`rng` lives on the CPU."""
        self._victim, self._rng = victim, rng
        self._asked, self._next = 0, 1
        self._images: list[Tensor] = []
        self._answers: list[Tensor] = []

    @property
    def watched(self) -> Classifier:
        """The victim, whose answers are sampled; its gradients are not."""
        return replace(self._victim, probabilities=self._ask)

    def _ask(self, images: Tensor, rng: torch.Generator) -> Tensor:
        answers = self._victim.probabilities(images, rng)
        self._asked += len(images)
        if self._asked >= self._next:
            row = int(torch.randint(len(images), (1,), generator=self._rng))
            self._images.append(to_bytes(images[row]).cpu())
            self._answers.append(answers[row].detach().float().cpu())
            self._next = max(self._asked + 1, int(self._asked * GROWTH))
        return answers

    def arrays(self) -> dict[str, np.ndarray]:
        """`sampled` `(s, c, h, w)` uint8 and `sampled_answers` `(s, K)` float32; s may be 0."""
        images = torch.zeros((0, *self._victim.shape), dtype=torch.uint8)
        answers = torch.zeros((0, self._victim.classes))
        return {
            "sampled": torch.stack(self._images).numpy() if self._images else images.numpy(),
            "sampled_answers": torch.stack(self._answers).numpy() if self._answers else answers.numpy(),
        }
