"""Detection by feature squeezing."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.base import Classifier
from ..images.bit_depth import bit_depth
from ..images.median import median
from .reject import Score, ask, reject_when
from .threshold import CleanImages, Threshold


def feature_squeezing(
    inner: Classifier, at: Threshold | CleanImages, bits: int | None = None, size: int | None = None
) -> Classifier:
    """Reject where squeezing the image moves the answer (Xu, Evans, Qi 2018, §V): the score is the L1 distance between
    the softmax of the image and that of the squeezed image, of two squeezers the larger one (their joint
    detection).

    `bits` is the bit depth of one squeezer, `size` the median window of the other; None leaves it out. Over the real
    classes alone. Departure: the paper's third squeezer, non-local means, is not there.

    Gradient: the median's is exact; rounding to a bit depth is declared straight-through.

    Cost: one more query of `inner` for each squeezer.

    Raises:
        ValueError: both are None; see `bit_depth`, `median` and `reject_when`.
    """
    squeezers = [] if bits is None else [bit_depth(inner, bits)]
    squeezers += [] if size is None else [median(inner, size)]
    if not squeezers:
        raise Unexpected("bits or size for feature_squeezing", "neither", "give at least one squeezer")

    def scoring(differentiable: bool) -> Score:
        def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
            own = answer.softmax(1)
            moved = [(own - ask(squeezed, images, rng, differentiable).exp()).abs().sum(1) for squeezed in squeezers]
            return torch.stack(moved).amax(0)

        return score

    return reject_when(inner, "feature_squeezing", scoring(False), at, differentiable=scoring(True), exact=bits is None)
