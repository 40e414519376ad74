"""ONNX graphs from images to images: preprocessors of somebody's own, answered by ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .check import checked_onnx
from .convert import NoCopyError, torch_copy
from .head import Head
from .loaded import agree
from .opened import open_file
from .ports import input_port
from .preprocess import Preprocess
from .runtime import Raw, in_batches_of

Images = Callable[[Tensor], Tensor]
TRIAL_IMAGES = 32


@dataclass(frozen=True)
class ImageGraph:
    """A graph that takes images and returns images of the same shape, both `(n, c, h, w)` float32 in [0, 1]."""

    run: Images
    """As ONNX Runtime answers; no gradient."""
    differentiable: Images | None
    """The same in torch, where it agrees on real images and lets a gradient through; else None."""


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
) -> ImageGraph:
    """Load a preprocessor. `layout`, `scale` and `channels` say what it takes, and what it returns likewise.

    `images` `(m, c, h, w)` float32 in [0, 1], m at least 2, are what it is tried on. Raises ModelFileError.
    """
    model = checked_onnx(path, sha256)
    prepare = Preprocess(scale=scale, channels=channels, layout=layout)
    port = input_port(model, input_name, prepare, shape)
    head = Head(math.prod(shape), "logits")
    step = prepare.on(shape[0], device)
    back = (shape[1], shape[2], shape[0]) if layout == "nhwc" else shape

    def images_of(run: Raw) -> Images:
        def answered(images: Tensor) -> Tensor:
            out = run(port.shaped(step(images))).to(images.device, torch.float32).reshape(len(images), *back)
            out = out.permute(0, 3, 1, 2) if layout == "nhwc" else out
            return (out.flip(1) if channels == "bgr" else out) / scale

        return answered

    some = images[:TRIAL_IMAGES].to(device)
    with torch.no_grad():
        trial = port.shaped(step(some))
        opened = open_file(model, path.parent, port, head, output_name, trial, threads)
        truth = images_of(opened.run)(some)
    try:
        size = opened.batch or 3
        copied = torch_copy(
            opened.model, opened.output, "logits", opened.folder, port.dtype, trial[:1].expand(size, *trial.shape[1:])
        )
        copy = images_of(in_batches_of(opened.batch, copied.run) if opened.batch else copied.run)
        leaf = some.clone().requires_grad_(True)
        answered = copy(leaf)
        (gradient,) = torch.autograd.grad(answered.sum(), leaf, allow_unused=True, materialize_grads=True)
    except (NoCopyError, RuntimeError):
        return ImageGraph(torch.no_grad()(images_of(opened.run)), None)
    usable = agree(truth, answered.detach()) and bool(gradient.isfinite().all()) and bool((gradient != 0).any())
    return ImageGraph(torch.no_grad()(images_of(opened.run)), copy if usable else None)
