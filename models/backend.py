"""Which implementation answers for a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..bench.errors import one_line
from .certificate import Scorer
from .choices import Backend
from .conditions import Conditions
from .loaded import agree
from .memory import Room, out_of_memory
from .onnx.check import ModelFileError
from .onnx.quiet import quiet

T = TypeVar("T")


def refuse_backend(backend: Backend, got: str) -> ModelFileError:
    """The error for a backend that was asked for by name and cannot speak for the network."""
    return ModelFileError(
        "backend",
        f"the backend {backend} to answer as the network itself does",
        got,
        "leave --backend out, and a backend that does is chosen",
    )


def compiled(scores: Scorer, reference: Scorer, conditions: Conditions) -> Scorer:
    """Compile `scores` with torch.compile and check it on real images.

    Shapes are fixed: a batch is filled up with its last image to the next of a few sizes, each compiled once, here.

    Args:
        scores: images `(n, c, h, w)` -> `(n, columns)`.
        reference: what must come out, within rounding.
        conditions: real images, on the device; the largest number of them to answer at once, where the room allows as
            many. Where memory runs out it halves, and what was compiled for too many is left.

    Raises:
        ModelFileError: backend, where there is no compiler or the network cannot be compiled, or answers otherwise.
    """
    images, room = conditions.images, conditions.room
    fixed = torch.compile(scores, dynamic=False)

    def answer(images: Tensor, batch: int, sizes: list[int]) -> Tensor:
        found = []
        # Not in inference mode: tensors that are made in it are of another kind, for which all is compiled once more.
        with torch.inference_mode(False), torch.no_grad():
            for part in images.split(batch):
                n = len(part)
                size = next(size for size in sizes if size >= n)
                # In a tensor of its own: one that lies in memory in another order would be compiled for once more.
                filled = part.new_empty((size, *part.shape[1:]))
                filled[:n], filled[n:] = part, part[-1:]
                found.append(fixed(filled)[:n].clone())
            return torch.cat(found)

    def trial(batch: int) -> Scorer:
        sizes = sorted({-(-batch // 4**i) for i in range(4)})
        # Every size before any shard starts: shards run in threads, and what is compiled must not depend on order.
        # The limit counts what is compiled of one function for all networks of a process.
        with quiet(), torch._dynamo.config.patch(recompile_limit=1024, accumulated_recompile_limit=4096):
            for size in sizes:
                answer(images[torch.arange(size, device=images.device) % len(images)], batch, sizes)
        return lambda images: answer(images, batch, sizes)

    def attempt() -> Scorer:
        found = room.fitting(conditions.batch, trial)
        check_backend("compiled", found, reference, images, room)
        return found

    return tried("compiled", attempt)


def check_backend(backend: Backend, scores: Scorer, reference: Scorer, images: Tensor, room: Room) -> None:
    """Hold a backend to the network's own answers on real images. Raises ModelFileError (backend)."""

    def check(images: Tensor) -> None:
        truth, other = reference(images), scores(images)
        if not agree(truth, other):
            raise refuse_backend(backend, f"answers that differ by up to {float((truth - other).abs().max()):.3g}")

    with torch.inference_mode():
        room.in_blocks(images, check)


def tried(backend: Backend, attempt: Callable[[], T]) -> T:
    """Do something that a backend may fail in; whatever it raises (but not lack of memory) is a refusal of it."""
    try:
        return attempt()
    except ModelFileError:
        raise
    except Exception as error:  # whatever a compiler raises, or the lack of one
        if out_of_memory(error):
            raise
        raise refuse_backend(backend, one_line(error)) from error
