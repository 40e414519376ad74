"""How many images go through the network at once: the battery's batch, and fewer where memory does not suffice."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..models.base import Answer, Classifier

T = TypeVar("T")
_SAID = re.compile(r"not enough memory|can't allocate memory|failed to allocate memory|bad_alloc|bad allocation", re.I)
"""What torch on the CPU and ONNX Runtime say where CUDA raises an error of its own."""


@dataclass
class Memory:
    """A limit on the images that are asked about at once. It halves whenever memory runs out, and never grows again.

    Shared by the threads that work on shards.
    """

    limit: int | None = None
    """None: as many as the battery says."""
    earlier: int = sys.maxsize
    """The fewest that earlier runs asked about at once for what is taken from them. It does not bind this run."""

    def at_once(self, batch: int) -> int:
        """How many images are asked about at once now, at most, where a battery's batch is `batch`."""
        return batch if self.limit is None else min(self.limit, batch)

    def taken(self, batch: int) -> None:
        """Note that something was taken from an earlier run, which asked about so many images at once."""
        self.earlier = min(self.earlier, batch)

    def below(self, batch: int) -> int | None:
        """The fewest that anything was asked with, here or earlier, where that is below a battery's batch."""
        fewest = min(self.at_once(batch), self.earlier)
        return fewest if fewest < batch else None

    def pieces(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """Do `work` on slices that cover `count` rows, each within the limit; a slice that does not fit is halved.

        Raises what `work` raises, lack of memory too where a single row does not fit.
        """
        done: list[T] = []
        start = 0
        while start < count:
            size = count - start if self.limit is None else min(self.limit, count - start)
            try:
                done.append(work(slice(start, start + size)))
                start += size
                continue
            except Exception as error:
                if size == 1 or not out_of_memory(error):
                    raise
            half = (size + 1) // 2
            self.limit = half if self.limit is None else min(half, self.limit)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return done


def out_of_memory(error: BaseException) -> bool:
    """Whether it was lack of memory that failed, on any device and in any backend."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None
    return said or (error.__cause__ is not None and out_of_memory(error.__cause__))


def sparing(victim: Classifier, memory: Memory) -> Classifier:
    """The same victim, asked about no more images at once than `memory` allows. Gradients are not split here: their
    memory is needed until they are taken (see drive.py)."""

    def spared(answer: Answer) -> Answer:
        def split(images: Tensor, rng: torch.Generator) -> Tensor:
            if torch.is_grad_enabled() and images.requires_grad:
                return answer(images, rng)
            parts = memory.pieces(len(images), lambda rows: answer(images[rows], rng))
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return split

    logits = None if victim.logits is None else spared(victim.logits)
    return replace(victim, probabilities=spared(victim.probabilities), logits=logits)
