"""How the checks of defenses ask a defended model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..models.answers import with_rejected
from ..models.base import Answer, Classifier
from .toy import hold, seeded

NEAR = 1e-3
"""How far two probabilities may be apart that are the same but for rounding; and what may be missing from 1."""
DRAWS = 16
"""How often something randomised is asked for a mean."""
APART = 0.1
"""Total variation that two such means may be apart, beyond twice that of two means of the same."""
DIRECTIONS = 8
"""Finite differences of each image."""
STEP = 5e-5
"""Of the finite differences, in units of the pixel range: short, since sorting and clipping have kinks everywhere."""
ROUNDING = 5e-7
"""What float32 may do to the difference of two logits, as a share of the largest one."""


def calls(victim: Classifier) -> list[Answer]:
    """Its probabilities and, where it has any, its logits; without autograd."""
    return [torch.no_grad()(ask) for ask in (victim.probabilities, victim.logits) if ask is not None]


def shares(victim: Classifier) -> list[Answer]:
    """The same as shares of 1, the rejected one last: `(n, K)`, or `(n, K + 1)` where it rejects."""

    def answered(images: Tensor, rng: torch.Generator) -> Tensor:
        own = victim.probabilities(images, rng)
        return with_rejected(own) if victim.rejects else own

    logits = victim.logits
    said = [] if logits is None else [lambda images, rng: logits(images, rng).softmax(1)]
    return [torch.no_grad()(ask) for ask in (answered, *said)]


def slopes(victim: Classifier, images: Tensor, rng: torch.Generator) -> Tensor:
    """The gradient of each image's weighted sum of logits (`weighted`), like `images`."""
    assert victim.logits is not None
    leaf = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = victim.logits(leaf, rng)
        hold(logits.requires_grad, "logits that torch can differentiate with respect to the images")
        (found,) = torch.autograd.grad(weighted(logits).sum(), leaf, allow_unused=True)
    hold(found is not None, "logits that depend on the images, for torch's autograd")
    return found


def weighted(logits: Tensor) -> Tensor:
    """`(n, columns)` -> `(n,)` float64: their sum with one fixed weight a column."""
    weights = torch.randn(logits.shape[1], generator=seeded(6), dtype=torch.float64)
    return logits.double() @ weights.to(logits.device)


def same(
    victim: Classifier, one: Callable[[torch.Generator], Tensor], other: Callable[[torch.Generator], Tensor]
) -> bool:
    """Whether two ways to ask it give the same shares; on average, where it is randomised."""

    def mean(way: Callable[[torch.Generator], Tensor], first: int) -> Tensor:
        return torch.stack([way(seeded(first + i, victim.device)) for i in range(DRAWS)]).mean(0)

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().sum(1).mean() / 2)

    if not victim.randomised:
        return close(*(way(seeded(0, victim.device)) for way in (one, other)))
    usual = mean(other, 0)
    return apart(mean(one, 0), usual) <= 2 * apart(mean(other, DRAWS), usual) + APART


def close(one: Tensor, other: Tensor) -> bool:
    """Whether shares are the same but for rounding."""
    return one.shape == other.shape and bool(((one - other).abs() <= NEAR).all())


@contextmanager
def global_streams(seed: int, device: torch.device) -> Iterator[None]:
    """Python's, NumPy's and torch's own streams at a seed; afterwards where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def settings() -> tuple[bool, torch.dtype, int]:
    """Whether torch takes gradients, its default type, and its number of threads."""
    return torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()


@contextmanager
def settings_kept() -> Iterator[None]:
    """Afterwards, set torch back to what it was set to."""
    grad, dtype, threads = settings()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def slope_error(victim: Classifier, images: Tensor) -> Tensor:
    """`(n,)`: the median over directions of how wrong each image's gradient is."""
    logits, rng = calls(victim)[1], seeded(3, images.device)
    found = slopes(victim, images, seeded(0, images.device)).double()
    moved, expected, largest = [], [], 0.0
    for _ in range(DIRECTIONS):
        way = STEP * torch.randn(images.shape, generator=rng, device=images.device)
        up, down = (logits(x, seeded(0, images.device)) for x in (images + way, images - way))
        moved.append(weighted(up) - weighted(down))
        expected.append((found * ((images + way).double() - (images - way).double())).sum((1, 2, 3)))
        largest = max(largest, float(up.abs().max()))
    move, right = torch.stack(moved, 1), torch.stack(expected, 1)
    usual = torch.maximum(move.abs().median(1).values, right.abs().median(1).values)
    wrong = ((move - right).abs().median(1).values - ROUNDING * largest).clamp_min(0)
    return torch.where(wrong == 0, 0.0, wrong / usual)


def sound(victim: Classifier, images: Tensor) -> None:
    """See `answers`."""
    given = images.clone()
    for what, ask, columns in zip(
        ("probabilities", "logits"), calls(victim), (victim.classes, victim.classes + victim.rejects), strict=False
    ):
        answer = ask(given, seeded(0, images.device))
        hold(torch.equal(given, images), "the images to be left as they are: change a copy of them")
        expected = (len(images), columns)
        hold(tuple(answer.shape) == expected, f"{what} of shape {expected}, got {tuple(answer.shape)}")
        hold(answer.dtype == torch.float32, f"{what} in float32, got {answer.dtype}")
        hold(answer.device.type == images.device.type, f"{what} on {images.device}, got {answer.device}")
        hold(bool(answer.isfinite().all()), f"{what} that are finite")
    answer = victim.probabilities(images.clone().requires_grad_(), seeded(0, images.device))
    hold(not answer.requires_grad, "probabilities that take no part in autograd: ask under torch.no_grad()")
    low, sums = float(answer.min()), answer.sum(1)
    hold(low >= 0, f"probabilities of at least 0, got {low:g}")
    hold(float(sums.max()) <= 1 + NEAR, f"rows of probabilities that sum to at most 1, got {float(sums.max()):g}")
    whole = victim.rejects or float(sums.min()) >= 1 - NEAR
    hold(whole, f"rows of probabilities that sum to 1, or rejects=True, got {float(sums.min()):g}")
    if victim.logits is not None:
        slopes(victim, images, seeded(0, images.device))
