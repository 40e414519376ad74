"""What defenses that change the image at random share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.base import Classifier

RandomImages = Callable[[Tensor, torch.Generator], Tensor]
"""`(n, c, h, w)` in [0, 1] and a generator on their device -> the same shape, type, device and range; every image has
draws of its own; differentiable with respect to the images, the draws held fixed."""


def random_preprocess(inner: Classifier, change: RandomImages) -> Classifier:
    """Put a random change in front of a Classifier; `randomised`, with the exact gradient of each draw.

    The change draws first, then the inner Classifier draws on from the same generator, in `probabilities` as in
    `logits`. Where `inner` has no logits the result has none.
    """

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            seen = change(images.detach(), rng)
        return inner.probabilities(seen, rng)

    inner_logits = inner.logits
    if inner_logits is None:
        return inner.defended(probabilities=probabilities, randomised=True)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return inner_logits(change(images, rng), rng)

    return inner.defended(probabilities=probabilities, logits=logits, randomised=True)
