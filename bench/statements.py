"""What a defended victim states of itself (nothing random, exact gradients, logits that are its answers), checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.base import Classifier
from ..models.certificate import certify
from .battery import Battery
from .drive import victim_call
from .examine import Clean
from .seeds import generator

IMAGES = 16
"""How many evaluation images gradients and logits are checked on: the first whose gradient does not vanish."""
TOLERANCE = 0.3
"""Largest median relative error of autograd in float32. Where many kinks lie close together (sorting, clipping) honest
defenses show up to 0.14; the gradient of something else shows about 1."""
STEP = 1e-4
"""Of the finite differences. Shorter than where a model is certified by itself, since sorting has kinks everywhere."""
FLOOR = 1e-3
"""Probabilities are compared in logarithms, those below this as if they were it: rounding owns the rest."""


@dataclass(frozen=True)
class Statement:
    """One statement that does not hold."""

    what: str
    """`deterministic` or `gradient`."""
    finding: str
    """What was found instead, in a clause."""


def false_statements(victim: Classifier, clean: Clean, battery: Battery, *, certified: bool) -> tuple[Statement, ...]:
    """The victim's statements that are not true. Costs about 400 looks at the victim.

    Gradients are checked where they are meant to be exact: nothing random, no declared surrogate, and not vanishing (a
    gradient of 0 has a flag of its own). Not again where the model by itself is the victim, and was `certified` when it
    was loaded, in double precision.
    """
    found = []
    if clean.randomised and not victim.randomised:
        finding = f"it declares nothing random, and two answers to one image differed by {clean.difference:.3g}"
        found.append(Statement("deterministic", finding))
    exact = victim.logits is not None and not victim.surrogates and not clean.randomised
    if exact and not certified and (finding := _gradient(victim, clean, battery)) is not None:
        found.append(Statement("gradient", finding))
    return tuple(found)


def _gradient(victim: Classifier, clean: Clean, battery: Battery) -> str | None:
    ask = victim.logits
    assert ask is not None
    rng = generator(battery.spec.name, "statements", device=victim.device)

    def logits(images: Tensor) -> Tensor:
        return victim_call(ask, images, rng)

    def answered(images: Tensor) -> Tensor:
        probabilities = victim_call(victim.probabilities, images, rng)
        if victim.rejects:
            probabilities = torch.cat([probabilities, 1 - probabilities.sum(1, keepdim=True)], 1)
        return probabilities.clamp_min(FLOOR**2).log()

    assert clean.vanishes is not None
    images = clean.images[~clean.vanishes][:IMAGES].to(torch.float32) / 255
    if len(images) == 0:
        return None
    floor = torch.tensor(FLOOR).log().item()
    found = certify(  # in float32 it takes 1000 times the step
        answered,
        logits,
        images,
        rng,
        floor=floor,
        logit_tolerance=0.05,
        gradient_tolerance=TOLERANCE,
        zero_limit=2.0,
        step=STEP / 1000,
    )
    return f"it declares no surrogate, and {found.reason}" if found.mismatch else None
