"""Any ONNX graph of images that is no classifier: answered by ONNX Runtime, differentiated through torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..head import Head
from ..loaded import agree
from ..memory import Room, out_of_memory
from ..preprocess import Preprocess
from .check import checked_onnx
from .convert import NoCopyError, torch_copy
from .opened import open_file
from .ports import input_port
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
    room: Room | None = None,
) -> ImageFunction:
    """Load a graph with `columns` numbers an image; `read` makes of its output, `(n, columns)` float32, what is wanted.

    `layout`, `scale` and `channels` say what it takes. `images` `(m, c, h, w)` float32 in [0, 1], m at least 2, are
    what it is tried on. `room` bounds how many images are asked about at once, without gradients ever after.
    Raises ModelFileError, and like `load_onnx` where memory does not suffice.
    """
    room = room or Room()
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
        opened = open_file(model, path.parent, port, head, output_name, trial, threads, room)
        tried = room.answered(some, lambda images: numbers(opened.run, images))

    @torch.no_grad()
    def own(images: Tensor) -> Tensor:
        return room.answered(images, function(opened.run))

    def slopes(images: Tensor) -> tuple[Tensor, Tensor]:
        leaf = images.clone().requires_grad_(True)
        answers = copy(leaf)
        (gradient,) = torch.autograd.grad(answers.sum(), leaf, allow_unused=True, materialize_grads=True)
        return answers.detach(), gradient

    try:
        copied = torch_copy(opened, "logits", trial[:1], room)
        copy = function(in_batches_of(opened.batch, copied.run) if opened.batch else copied.run)
        found = room.pieces(len(some), lambda rows: slopes(some[rows]))
    except (NoCopyError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        return ImageFunction(own, None, tried)
    answered, gradient = (torch.cat(parts) for parts in zip(*found, strict=True))
    usable = agree(read(tried), answered) and bool(gradient.isfinite().all()) and bool((gradient != 0).any())
    return ImageFunction(own, copy if usable else None, tried)
