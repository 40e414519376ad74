"""What a randomised victim answers in the mean: what an attack on it must climb, since the judge asks many times."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ...models.base import Answer, Classifier


def expected(victim: Classifier, draws: int) -> Classifier:
    """The victim whose every answer is the mean over `draws` draws: probabilities, and logits where no gradient is
    taken (there, the logarithm of the mean softmax). A search that is shown single draws keeps its luckiest images,
    which the judge, who asks again, then refuses; random parts would look like robustness. Gradients are averaged by
    the driver and are left as they are.
    """

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return torch.stack([victim.probabilities(images, rng) for _ in range(draws)]).mean(0)

    def through(ask: Answer) -> Answer:
        def logits(images: Tensor, rng: torch.Generator) -> Tensor:
            if torch.is_grad_enabled() and images.requires_grad:
                return ask(images, rng)
            scores = torch.stack([ask(images, rng).log_softmax(1) for _ in range(draws)])
            return scores.logsumexp(0) - math.log(draws)

        return logits

    logits = None if victim.logits is None else through(victim.logits)
    return replace(victim, probabilities=probabilities, logits=logits)
