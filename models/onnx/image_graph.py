"""ONNX graphs from images to images: preprocessors of somebody's own."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from ..conditions import Conditions
from ..preprocess import Preprocess
from .check import WrongCount
from .image_function import ImageFunction, load_image_function
from .ports import ANY, Names


def load_image_graph(
    path: Path,
    conditions: Conditions,
    *,
    preprocess: Preprocess,
    names: Names = ANY,
    sha256: str | None = None,
) -> ImageFunction:
    """Load a preprocessor: images in, images of the same shape out, both `(n, c, h, w)` float32 in [0, 1].

    Layout, scale and channels of `preprocess` say what it takes, and what it returns likewise; all else as for
    `load_image_function`.

    Raises ModelFileError: see there; `classes` where what it returns has another shape.
    """
    shape, layout = conditions.shape, preprocess.layout
    back = (shape[1], shape[2], shape[0]) if layout == "nhwc" else shape

    def pictures(out: Tensor) -> Tensor:
        out = out.reshape(len(out), *back)
        out = out.permute(0, 3, 1, 2) if layout == "nhwc" else out
        return (out.flip(1) if preprocess.channels == "bgr" else out) / preprocess.scale

    try:
        return load_image_function(
            path, pictures, math.prod(shape), conditions, preprocess=preprocess, names=names, sha256=sha256
        )
    except WrongCount as error:
        raise WrongCount(
            error.counts,
            f"an image of the same shape as the one put in, {math.prod(shape)} numbers",
            "did you mean role: detector?"
            if 1 in error.counts.values()
            else "make the graph return an image like the one that it takes",
        ) from error
