"""ONNX graphs from images to images: preprocessors of somebody's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..memory import Room
from .check import WrongCount
from .image_function import ImageFunction, load_image_function


def load_image_graph(
    path: Path,
    *,
    shape: tuple[int, int, int],
    layout: Literal["nchw", "nhwc"],
    scale: float,
    channels: Literal["same", "bgr"],
    input_name: str | None,
    output_name: str | None,
    sha256: str | None,
    device: torch.device,
    images: Tensor,
    threads: int = 1,
    room: Room | None = None,
) -> ImageFunction:
    """Load a preprocessor: images in, images of the same shape out, both `(n, c, h, w)` float32 in [0, 1].

    `layout`, `scale` and `channels` say what it takes, and what it returns likewise. `images` `(m, c, h, w)` float32 in
    [0, 1], m at least 2, are what it is tried on.

    Raises ModelFileError: see `load_image_function`; `classes` where what it returns has another shape.
    """
    back = (shape[1], shape[2], shape[0]) if layout == "nhwc" else shape

    def pictures(out: Tensor) -> Tensor:
        out = out.reshape(len(out), *back)
        out = out.permute(0, 3, 1, 2) if layout == "nhwc" else out
        return (out.flip(1) if channels == "bgr" else out) / scale

    try:
        return load_image_function(
            path,
            pictures,
            math.prod(shape),
            shape=shape,
            layout=layout,
            scale=scale,
            channels=channels,
            input_name=input_name,
            output_name=output_name,
            sha256=sha256,
            device=device,
            images=images,
            threads=threads,
            room=room,
        )
    except WrongCount as error:
        raise WrongCount(
            error.counts,
            f"an image of the same shape as the one put in, {math.prod(shape)} numbers",
            "did you mean role: detector?"
            if 1 in error.counts.values()
            else "make the graph return an image like the one that it takes",
        ) from error
