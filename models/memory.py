"""Lack of memory: how it is told from other failures, and fewer images at once where they do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .onnx.runtime import first_line

T = TypeVar("T")
BLOCK = 2_000_000
"""Pixels (times channels) that are sent through the network at once while it is loaded, at most."""
_SAID = re.compile(
    r"not enough memory|out of memory|can't allocate memory|failed to allocate memory|bad_alloc|bad allocation"
    r"|could not create a primitive(?! desc)|could not execute a primitive",
    re.I,
)
"""What torch on the CPU, oneDNN in it and ONNX Runtime say where CUDA's allocator raises an error of its own."""


class NoRoomError(MemoryError):
    """Not even one image fits; the message is what was said of that one."""


@dataclass
class Room:
    """A limit on the images that are asked about at once. It halves whenever memory runs out, and never grows again.

    Shared by all who ask, threads too.
    """

    limit: int | None = None
    """None: as many as anyone likes."""

    def at_once(self, count: int) -> int:
        """How many of `count` images are asked about at once now, at most."""
        return count if self.limit is None else min(self.limit, count)

    def fitting(self, count: int, work: Callable[[int], T]) -> T:
        """Do `work` with a number of images: `count` within the limit, halved until they fit.

        Raises NoRoomError where one does not fit, and what else `work` raises.
        """
        while True:
            size = self.at_once(count)
            try:
                return work(size)
            except Exception as error:
                lack = lack_of_memory(error)
                if lack is None:
                    raise
                if size == 1:
                    raise NoRoomError(lack) from error
            half = (size + 1) // 2
            self.limit = half if self.limit is None else min(half, self.limit)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def pieces(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """Do `work` on slices that cover `count` rows, each within the limit; one that does not fit is halved.

        Raises like `fitting`.
        """
        done: list[T] = []
        start = 0
        while start < count:
            at = start
            start, part = self.fitting(count - at, lambda size, at=at: (at + size, work(slice(at, at + size))))
            done.append(part)
        return done

    def answered(self, images: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return answers `(n, ...)` to images `(n, ...)`, asked in `pieces`. Raises like `fitting`."""
        parts = self.pieces(len(images), lambda rows: answer(images[rows]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def in_blocks(self, images: Tensor, work: Callable[..., T], *beside: Tensor) -> list[T]:
        """Do `work` on parts of the `blocks` of images, each within the limit, and on the same rows of what is `beside`
        them. Raises like `fitting`."""
        done: list[T] = []
        for block in zip(*(x.split(_a_block(images)) for x in (images, *beside)), strict=True):
            done += self.pieces(len(block[0]), lambda rows, block=block: work(*(x[rows] for x in block)))
        return done


def blocks(images: Tensor) -> Iterator[Tensor]:
    """Cut images into parts of at most BLOCK pixels, one image at least."""
    yield from images.split(_a_block(images))


def _a_block(images: Tensor) -> int:
    return max(1, BLOCK // images[0].numel())


def lack_of_memory(error: BaseException) -> str | None:
    """What an error, or its cause, says of memory that ran out, on any device and in any backend.

    In one line of at most 200 characters; None where something else failed.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return first_line(error)
    # ONNX Runtime's own errors derive from Exception alone, and say this at the end of a long line.
    if isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime"):
        text = " ".join(str(error).split())
        if said := _SAID.search(text):
            return text[said.start() :][:200]
    return None if error.__cause__ is None else lack_of_memory(error.__cause__)


def out_of_memory(error: BaseException) -> bool:
    """Whether it was lack of memory that failed."""
    return lack_of_memory(error) is not None
