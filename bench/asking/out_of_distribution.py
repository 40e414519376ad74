"""Out-of-distribution images, asked about before any attack, since attacks leave the clean ones behind."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...models.answers import rejected_mass
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..battery.ground import Asking
from ..machine.memory import Memory
from .answers import checked_answers

COUNT = 50
"""Images of each of the three kinds."""


def out_of_distribution(images: Tensor, rng: torch.Generator) -> Tensor:
    """`(m, c, h, w)` uint8 evaluation images -> `(150, c, h, w)` float32 in [0, 1]: uniform noise, evaluation images
    whose every pixel value moves by up to 1 … 128 gray levels of 256, and even mixtures of two of them. They lie
    between the battery's levels, and are asked rounded to them, as all images are."""
    device, shape = images.device, images.shape[1:]
    clean = from_bytes(images[torch.arange(COUNT, device=device) % len(images)])
    noise = torch.rand((COUNT, *shape), generator=rng, device=device)
    reach = torch.logspace(0, 7, COUNT, base=2.0, device=device).view(-1, 1, 1, 1) / 255
    moved = clean + reach * (2 * torch.rand((COUNT, *shape), generator=rng, device=device) - 1)
    mixed = (clean + clean[torch.randperm(COUNT, generator=rng, device=device)]) / 2
    return torch.cat([noise, moved.clamp_(0, 1), mixed])


def asked(victim: Classifier, images: Tensor, rng: torch.Generator, how: Asking) -> Tensor:
    """`checked_answers` to images in an odd number of calls, so that an answer by the parity of the calls differs from
    one such pass to the next. Raises ModelFailure."""
    answered = checked_answers(victim, images, rng, how)
    if math.ceil(len(images) / how.batch) % 2 == 0:
        checked_answers(victim, images[: how.batch], rng, how)
    return answered


def twice(
    victim: Classifier, images: Tensor, rng: torch.Generator, how: Asking, memory: Memory
) -> tuple[Tensor, Tensor]:
    """`asked`, two times in batches of the same size: had memory run out between the two, their last bits would differ.
    Raises ModelFailure."""
    while True:
        limit = memory.limit
        pair = asked(victim, images, rng, how), asked(victim, images, rng, how)
        if memory.limit == limit:
            return pair


def most_rejected(answered: Tensor) -> float:
    """The largest mass that a row of probabilities `(n, K)` keeps from the classes."""
    return float(rejected_mass(answered).amax())
