"""How many images go through the network at once: the battery's batch, and fewer where memory does not suffice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.base import Answer, Classifier
from ...models.memory import NoRoomError, Room, lack_of_memory
from ..errors import EnvironmentFault, FoolbenchError, Problem


@dataclass
class Memory(Room):
    """The limit of a run, and how far it fell.

    Shared by the threads that work on shards. Without a limit, as many images as the battery says.
    """

    earlier: int = sys.maxsize
    """The fewest that earlier runs asked about at once for what is taken from them. It does not bind this run."""

    def taken(self, batch: int) -> None:
        """Note that something was taken from an earlier run, which asked about so many images at once."""
        self.earlier = min(self.earlier, batch)

    def below(self, batch: int) -> int | None:
        """The fewest that anything was asked with, here or earlier, where that is below a battery's batch."""
        fewest = min(self.at_once(batch), self.earlier)
        return fewest if fewest < batch else None


def sparing(victim: Classifier, memory: Memory) -> Classifier:
    """The same victim, asked about no more images at once than `memory` allows. Gradients are not split here: their
    memory is needed until they are taken (see oracle.py)."""

    def spared(answer: Answer) -> Answer:
        def split(images: Tensor, rng: torch.Generator) -> Tensor:
            if torch.is_grad_enabled() and images.requires_grad:
                return answer(images, rng)
            return memory.answered(images, lambda some: answer(some, rng))

        return split

    logits = None if victim.logits is None else spared(victim.logits)
    return replace(victim, probabilities=spared(victim.probabilities), logits=logits)


@contextmanager
def lack_told(what: str = "to go on") -> Iterator[None]:
    """Lack of memory that escapes becomes an EnvironmentFault (FB403). `what` says what the memory was for."""
    try:
        yield
    except FoolbenchError:
        raise
    except Exception as error:
        lack = lack_of_memory(error)
        if lack is None:
            raise
        what = "for one image at a time" if isinstance(error, NoRoomError) else what
        fix = "close other programs, or use another device; --workers 1 and a small --max-batch need less"
        raise EnvironmentFault(Problem("FB403", f"enough memory {what}", f"too little ({lack})", fix)) from error
