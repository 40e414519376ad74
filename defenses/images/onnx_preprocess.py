"""A preprocessor of the researcher's own, given as an ONNX graph."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bench.errors import Failed
from ...models.base import Classifier
from .clip import clip
from .preprocess import Images, preprocess, straight_through


def onnx_preprocess(
    inner: Classifier, run: Images, differentiable: Images | None = None, name: str = "onnx"
) -> Classifier:
    """Put an image-to-image graph in front of a Classifier. What it returns is clipped to [0, 1].

    Args:
        inner: what sees the graph's images.
        run: the loaded graph, as ONNX Runtime answers. Any layout or scaling is undone inside it: images `(n, c, h, w)`
            float32 in [0, 1] in, the same shape out.
        differentiable: the same graph in torch, where it is known to agree with `run` and can be differentiated.
        name: what stands in `surrogates` where `differentiable` is None.

    Gradient: that of `differentiable`, which counts as exact; without it, declared straight-through. Where
    clipping changes a value it passes no gradient; a value of exactly 0 or 1 keeps its own.

    Raises:
        RuntimeError: when run, the graph returns another shape, another type, or a value that is not finite.
    """

    def checked(graph: Images) -> Images:
        def clipped(images: Tensor) -> Tensor:
            result = graph(images)
            if result.shape != images.shape or result.dtype != images.dtype:
                raise Failed(
                    f"the preprocessor {name} to return images {tuple(images.shape)} {images.dtype}",
                    f"{tuple(result.shape)} {result.dtype}",
                    "make the graph's output like its input",
                )
            if not bool(torch.isfinite(result).all()):
                raise Failed(
                    f"the preprocessor {name} to return finite values",
                    "NaN or infinity",
                    "look for a division or a logarithm of zero in the graph",
                )
            return clip(result.to(images.device))

        return clipped

    if differentiable is None:
        return preprocess(inner, name, checked(run), backward=straight_through)
    return preprocess(inner, name, checked(run), backward=checked(differentiable), exact=True)
