"""A detector of the researcher's own, given as an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...bench.errors import Failed
from ...models.base import Classifier
from .reject import Score, reject_when
from .threshold import CleanImages, Threshold


def onnx_detector(
    inner: Classifier,
    run: Callable[[Tensor], Tensor],
    at: Threshold | CleanImages,
    differentiable: Callable[[Tensor], Tensor] | None = None,
    name: str = "onnx",
) -> Classifier:
    """Reject what an image-to-score graph finds suspicious.

    Args:
        inner: the Classifier to defend; the graph looks at the same images.
        run: the loaded graph, as ONNX Runtime answers: `(n, c, h, w)` float32 in [0, 1] -> `(n,)` float32, higher is
            more suspicious.
        at: the threshold, or clean images to choose it by.
        differentiable: the same graph in torch, where it is known to agree with `run` and can be differentiated.
        name: what stands in `surrogates` where `differentiable` is None.

    Gradient: that of `differentiable`, which counts as exact; without it the score counts as a constant, so a gradient
    attack does not see the detector move, and `name` is declared a surrogate.

    Raises:
        RuntimeError: when run, the graph returns another shape or a score that is not finite.
    """

    def checked(graph: Callable[[Tensor], Tensor]) -> Score:
        def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
            result = graph(images)
            if result.shape != images.shape[:1]:
                raise Failed(
                    f"the detector {name} to return {len(images)} scores",
                    tuple(result.shape),
                    "make the graph return one number an image",
                )
            if not bool(torch.isfinite(result).all()):
                raise Failed(
                    f"the detector {name} to return finite scores",
                    "NaN or infinity",
                    "look for a division or a logarithm of zero in the graph",
                )
            return result.to(images)

        return score

    value = checked(run)

    def constant(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return value(images.detach(), answer, rng)

    seen = constant if differentiable is None else checked(differentiable)
    return reject_when(inner, name, value, at, differentiable=seen, exact=differentiable is not None)
