"""What every attack and every defense sees of a network: the Classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import torch
from torch import Tensor

Answer = Callable[[Tensor, torch.Generator], Tensor]
"""Images `(n, c, h, w)` float32 in [0, 1] and the generator for whatever is random -> `(n, ...)` float32."""


class Changes(TypedDict, total=False):
    """What a defense changes of the Classifier that it is put in front of; see there."""

    probabilities: Answer
    logits: Answer | None
    rejects: bool
    randomised: bool
    surrogates: tuple[str, ...]
    no_gradient: str | None
    alone: Classifier | None


@dataclass(frozen=True)
class Classifier:
    """A network with its preprocessing inside, or such a network behind defenses (then: a Victim).

    Immutable, so that a defense is a plain function from Classifier to Classifier
    (`dataclasses.replace` of the two callables).
    """

    shape: tuple[int, int, int]
    """Channels, height, width of the images it takes: those of the battery."""
    classes: int
    """K, the number of real classes; "none of these" is not one of them."""
    device: torch.device
    """Where images must lie and where answers come back."""
    probabilities: Answer
    """-> `(n, K)` float32, each row summing to at most 1; what is missing from 1 is the rejected mass. Takes no
    part in autograd."""
    logits: Answer | None
    """-> `(n, K)`, or `(n, K + 1)` when `rejects` (the last column is the rejection), differentiable with respect
    to the images by torch autograd; softmax of it gives `probabilities` and the rejected mass. None where there is
    no gradient at all."""
    rejects: bool = False
    """Whether rows of `probabilities` may sum to less than 1."""
    randomised: bool = False
    """Whether two calls on the same image are meant to differ."""
    surrogates: tuple[str, ...] = ()
    """Names of non-differentiable parts whose gradient in `logits` is a declared stand-in (BPDA)."""
    no_gradient: str | None = None
    """Where `logits` is None: the reason, in a sentence."""
    behind: Classifier | None = None
    """What the outermost defense was put in front of; None of a model by itself."""
    alone: Classifier | None = None
    """The outermost defense in front of the model alone, where it was built so as well, to be looked at by itself."""

    def defended(self, **changes: Unpack[Changes]) -> Classifier:
        """Return this Classifier behind one more defense, which changes the named fields."""
        return replace(replace(self, behind=self, alone=None), **changes)

    def innermost(self) -> Classifier:
        """Return the model behind all defenses."""
        return self if self.behind is None else self.behind.innermost()
