"""Any ONNX graph of images that is no classifier: answered by ONNX Runtime, differentiated through torch."""

from __future__ import annotations

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

Function = Callable[[Tensor], Tensor]
TRIAL_IMAGES = 32


@dataclass(frozen=True)
class ImageFunction:
    """A graph that takes images `(n, c, h, w)` float32 in [0, 1] and returns float32 tensors `(n, ...)`."""

    run: Function
    """As ONNX Runtime answers; no gradient."""
    differentiable: Function | None
    """The same in torch, where it agrees on real images and lets a gradient through; else None."""
    trial: Tensor
    """`(m, columns)` float32: what the graph gave, just as it is, for the images that it was tried on."""


def load_image_function(
    path: Path,
    read: Function,
    columns: int,
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
) -> ImageFunction:
    """Load a graph with `columns` numbers an image; `read` makes of its output, `(n, columns)` float32, what is wanted.

    `layout`, `scale` and `channels` say what it takes. `images` `(m, c, h, w)` float32 in [0, 1], m at least 2, are
    what it is tried on. Raises ModelFileError.
    """
    model = checked_onnx(path, sha256)
    prepare = Preprocess(scale=scale, channels=channels, layout=layout)
    port = input_port(model, input_name, prepare, shape)
    head = Head(columns, "logits")
    step = prepare.on(shape[0], device)

    def numbers(run: Raw, images: Tensor) -> Tensor:
        return run(port.shaped(step(images))).to(images.device, torch.float32).reshape(len(images), columns)

    def function(run: Raw) -> Function:
        return lambda images: read(numbers(run, images))

    some = images[:TRIAL_IMAGES].to(device)
    with torch.no_grad():
        trial = port.shaped(step(some))
        opened = open_file(model, path.parent, port, head, output_name, trial, threads)
        tried = numbers(opened.run, some)
    own = torch.no_grad()(function(opened.run))
    try:
        size = opened.batch or 3
        copied = torch_copy(
            opened.model, opened.output, "logits", opened.folder, port.dtype, trial[:1].expand(size, *trial.shape[1:])
        )
        copy = function(in_batches_of(opened.batch, copied.run) if opened.batch else copied.run)
        leaf = some.clone().requires_grad_(True)
        answered = copy(leaf)
        (gradient,) = torch.autograd.grad(answered.sum(), leaf, allow_unused=True, materialize_grads=True)
    except (NoCopyError, RuntimeError):
        return ImageFunction(own, None, tried)
    usable = agree(read(tried), answered.detach()) and bool(gradient.isfinite().all()) and bool((gradient != 0).any())
    return ImageFunction(own, copy if usable else None, tried)
