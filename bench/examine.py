"""Before any attack: what the victim says of the clean images, and what follows from it (τ, who can be attacked)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.base import Classifier
from .battery import Battery
from .data import Data
from .drive import answers, victim_call
from .judge import Reading, read
from .seeds import generator

NOWHERE = 0.99
"""Share of images with a vanishing gradient from which on a victim counts as having none."""
SAME = 1e-6
"""Answers of one image that differ by more than this between two calls make a victim `randomised`."""


@dataclass(frozen=True)
class Clean:
    """The victim on the evaluation images. Tensors on the victim's device, one row an image."""

    images: Tensor
    """`(n, c, h, w)` uint8."""
    truth: Tensor
    """`(n,)` int64."""
    reading: Reading
    tau: float | None
    """The confidence that a fooling image must reach; None when no clean image is accepted and right."""
    randomised: bool
    difference: float
    """The largest difference between two answers to the same image."""
    zero_gradient_share: float | None
    """Share of images whose input gradient (of the label against all else) vanishes; None without gradients."""

    @property
    def accepted(self) -> Tensor:
        """`(n,)` bool."""
        return self.reading.label >= 0

    @property
    def right(self) -> Tensor:
        """`(n,)` bool: accepted, and the true class."""
        return self.reading.label == self.truth

    @property
    def least_likely(self) -> Tensor:
        """`(n,)` int64: the class that the victim finds least likely."""
        return self.reading.probabilities.argmin(1)


def examine(victim: Classifier, battery: Battery, data: Data) -> Clean:
    """Ask the victim about every evaluation image, twice."""
    images = torch.tensor(data.images).to(victim.device)
    truth = torch.tensor(data.labels).to(victim.device)
    rng = generator(battery.spec.name, "clean", device=victim.device)
    pixels = images.to(torch.float32) / 255
    first = answers(victim, pixels, rng, battery.spec.batch)
    second = answers(victim, pixels, rng, battery.spec.batch)
    difference = float((first - second).abs().max())
    reading = read(first)
    right = reading.label == truth
    tau = tau_of(reading.confidence[right], battery.spec.judge.tau_quantile)
    randomised = victim.randomised or difference > SAME
    share = None if victim.logits is None else _zero_gradient_share(victim, pixels, rng, battery.spec.gradient_batch)
    return Clean(images, truth, reading, tau, randomised, difference, share)


def blinded(victim: Classifier, clean: Clean) -> Classifier:
    """The victim as white-box attacks may use it: one whose gradient vanishes nearly everywhere has none."""
    if clean.zero_gradient_share is None or clean.zero_gradient_share < NOWHERE:
        return victim
    reason = f"its gradient vanishes on {clean.zero_gradient_share:.0%} of the evaluation images"
    return replace(victim, logits=None, no_gradient=reason)


def _zero_gradient_share(victim: Classifier, pixels: Tensor, rng: torch.Generator, batch: int) -> float:
    assert victim.logits is not None
    vanished = 0
    for start in range(0, len(pixels), batch):
        leaf = pixels[start : start + batch].clone().requires_grad_(True)
        with torch.enable_grad():
            logits = victim_call(victim.logits, leaf, rng)
            top = logits.topk(2, dim=1).values
            (gradient,) = torch.autograd.grad(
                (top[:, 0] - top[:, 1]).sum(), leaf, allow_unused=True, materialize_grads=True
            )
        size = gradient.flatten(1).abs().amax(1)
        vanished += int(((size == 0) | ~size.isfinite()).sum())
    return vanished / len(pixels)


def tau_of(confidence: Tensor, quantile: float) -> float | None:
    """The `quantile` of the confidences, rounded down to one of them: at most that share lies below it."""
    if len(confidence) == 0:
        return None
    return float(confidence.double().sort().values[int(quantile * len(confidence))])
