"""Any ONNX graph of images that is no classifier: answered by ONNX Runtime, differentiated through torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..conditions import Conditions
from ..head import Head
from ..loaded import agree
from ..memory import out_of_memory
from ..preprocess import Preprocess
from .check import checked_onnx
from .convert import NoCopyError, torch_copy
from .opened import open_file
from .ports import ANY, Names, input_port
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
    conditions: Conditions,
    *,
    preprocess: Preprocess,
    names: Names = ANY,
    sha256: str | None = None,
) -> ImageFunction:
    """Load a graph with `columns` numbers an image; `read` makes of its output, `(n, columns)` float32, what is wanted.

    `preprocess` says what it takes, `names` which input and output, where there are several. It is tried on the images
    of `conditions`, 2 at least, whose room bounds how many are asked about at once, without gradients ever after.
    Raises ModelFileError, and like `load_onnx` where memory does not suffice.
    """
    room = conditions.room
    model = checked_onnx(path, sha256)
    port = input_port(model, names.input, preprocess, conditions.shape)
    head = Head(columns, "logits")
    step = preprocess.on(conditions.shape[0], conditions.device)

    def numbers(run: Raw, images: Tensor) -> Tensor:
        return run(port.shaped(step(images))).to(images.device, torch.float32).reshape(len(images), columns)

    def function(run: Raw) -> Function:
        return lambda images: read(numbers(run, images))

    some = conditions.images[:TRIAL_IMAGES].to(conditions.device)
    with torch.no_grad():
        trial = port.shaped(step(some))
        opened = open_file(model, path.parent, port, head, names.output, trial, room)
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
