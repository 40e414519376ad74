"""What a victim built anew is asked, laid down before it is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.answers import checked_answers
from ..battery.ground import Asking
from ..machine.seeds import generator


@dataclass(frozen=True)
class Question:
    """Some images, asked about in one order, as often as `draws`."""

    images: np.ndarray
    """`(n, c, h, w)` uint8."""
    stream: tuple[str | int, ...]
    """Of the victim's chance (machine/seeds.py)."""
    how: Asking
    draws: int = 1


def answers_to(victim: Classifier, questions: Sequence[Question]) -> list[np.ndarray]:
    """`(draws, n, K)` float32 of each question, asked one after the other. Raises ModelFailure."""
    return [_answer(victim, question) for question in questions]


def _answer(victim: Classifier, question: Question) -> np.ndarray:
    rng = generator(*question.stream, device=victim.device)
    images = torch.from_numpy(question.images)

    def draw() -> Tensor:
        parts = [
            checked_answers(victim, from_bytes(part.to(victim.device)), rng, question.how).cpu()
            for part in images.split(question.how.batch)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, victim.classes)

    return torch.stack([draw() for _ in range(question.draws)]).numpy()
