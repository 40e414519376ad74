"""Whether a gradient says how answers change when pixels move by whole gray levels, which is all an attack can do.

An infinitesimal step sees the tread of a staircase: a network that rounds and adds a faint linear term has, at such
steps, exactly the gradient that autograd gives, and nothing that this gradient says of it holds a gray level further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Scorer = Callable[[Tensor], Tensor]
"""Images `(n, c, h, w)` in [0, 1] -> logits, or logarithms of probabilities, `(n, columns)`."""


EIGHT_BITS = (1 / 255, 4 / 255, 8 / 255)
"""How far pixel values of 8-bit images move: 1, 4 and 8 gray levels, in units of [0, 1]."""
LONGEST = 0.5
"""Euclidean length of a move: of larger images a share of the values moves, the more so by long steps. A gradient is a
first-order statement, and what it leaves out grows with the length of the move: further out a deep network is no longer
straight, however honest (MobileNetV1 on ImageNet, moves of 8 gray levels: a cosine of 0.8 at a length of 0.5, 0.4 at
1; SqueezeNet, all values by 4 levels, which is 6.9 long: 0.23). A rounding is found all the same: whether a value
crosses its treads depends on how many levels it moves, not on how many others move with it, and what a faint decoy
foretells shrinks with the length as what the answers do shrinks."""
DIRECTIONS = 24
"""Of ±1 in every pixel value. Without any relation the cosine of 24 pairs is 0.2 by chance, its median over 16 images
0.06."""
LEAST_COSINE = 0.35
"""Median over images below which a gradient is that of something else. Measured: honest networks
0.66 to 1.00; a rounding behind a faint linear term and a dynamically quantised network below 0."""
LARGEST_FACTOR = 10.0
"""How many times too long or too short a gradient may be on the median image; honest networks show up to 2.1."""
SATURATED = 80.0
"""Logarithm of odds from where on probabilities in float32 are 0 or 1, so that nothing they do can be seen."""
NEGLIGIBLE = 1e-4
"""Sum of a gradient's absolute values up to which it is rounding: honest networks show 10 and more."""
_ROUNDING = 16 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Slopes:
    """What `compared` found. All `(n, ...)`, one row an image."""

    cosine: Tensor
    """`(n, steps)` float64: between what autograd foretells and what the answers do, over the directions. 0 where they
    do not move or are not finite though a move is foretold; NaN where there is nothing to compare."""
    factor: Tensor
    """`(n, steps)` float64: how many times as long as the answers' moves the foretold ones are; NaN likewise."""
    moved: Tensor
    """`(n,)` float64: the largest move of the answers' log-odds in any direction."""
    vanishes: Tensor
    """`(n,)` bool: the gradient is 0, not finite, or foretells no more than rounding."""

    @property
    def informative(self) -> Tensor:
        """`(n,)` bool: whether there is something to compare."""
        return ~self.cosine.isnan().all(1)

    def median(self) -> float | None:
        """The median cosine over images at the step where it is lowest; None where nothing can be compared."""
        found = self._medians()
        return float(found.min()) if len(found) else None

    def best(self) -> float | None:
        """The same at the step where it is highest."""
        found = self._medians()
        return float(found.max()) if len(found) else None

    def _medians(self) -> Tensor:
        """The median cosine of each step at which something can be compared."""
        found = self.cosine[self.informative]
        medians = found.nanmedian(0).values if len(found) else found.new_zeros(0)
        return medians[~medians.isnan()]

    def largest_factor(self) -> float | None:
        """How many times too long, or too short, the gradient is on the median image at the worst of the steps."""
        found = self.factor[self.informative]
        factor = found.nanmedian(0).values if len(found) else found.new_full((1,), torch.nan)
        factor = factor[~factor.isnan()]
        return float(torch.maximum(factor, 1 / factor).max()) if len(factor) else None

    def wrong(self, least: float = LEAST_COSINE) -> str | None:
        """What is wrong with the gradient, in words; None where nothing is, or nothing can be compared."""
        median, factor = self.median(), self.largest_factor()
        if median is not None and not median >= least:
            return (
                "autograd does not say how the answers change when pixels move by a few gray levels: along random "
                f"directions the two have a cosine of {median:.2f} on the median image (at least {least:g} is asked)"
            )
        if factor is not None and not factor <= LARGEST_FACTOR:
            return (
                f"autograd is {factor:.3g} times too long or too short for how the answers change when pixels move by "
                "a few gray levels"
            )
        return None


def whole_steps(top: int) -> tuple[float, ...]:
    """The steps for data whose last gray level, white, is `top`: those of 8 bits where there are so many, else one and
    two levels. In units of [0, 1]."""
    return EIGHT_BITS if top == 255 else (1 / top, 2 / top)


def log_odds(scores: Tensor, side: Tensor) -> Tensor:
    """`(n, columns)` logits or logarithms of probabilities -> `(n,)` float64: the logarithm of the odds of the columns
    that are True in `side`, `(n, columns)` bool, against the others.

    It does not saturate where a softmax does.
    """
    scores = scores.double()
    return scores.masked_fill(~side, -torch.inf).logsumexp(1) - scores.masked_fill(side, -torch.inf).logsumexp(1)


def other_classes(scores: Tensor, rejects: bool) -> Tensor:
    """`(n, columns)`, the rejection last where there is one -> bool: every class but the largest.

    Their log-odds are an increasing function of what FGSM and its kin ascend on an image of that class: the logarithm
    of the other real classes' summed probability.
    """
    real = scores[:, :-1] if rejects else scores
    side = torch.ones_like(scores, dtype=torch.bool).scatter_(1, real.argmax(1, keepdim=True), False)
    if rejects:
        side[:, -1] = False
    return side


def gradient_of(logits: Scorer, images: Tensor, side: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The side `(n, columns)` bool that `side` takes of an image's logits, and the gradient of its log-odds, like the
    images and in their dtype."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        scores = logits(leaf)
        chosen = side(scores.detach())
        if not scores.requires_grad:
            return chosen, torch.zeros_like(leaf)
        (gradient,) = torch.autograd.grad(log_odds(scores, chosen).sum(), leaf, allow_unused=True)
    return chosen, torch.zeros_like(leaf) if gradient is None else gradient


def vanishes(gradient: Tensor) -> Tensor:
    """`(n, c, h, w)`, of log-odds -> `(n,)` bool: not finite somewhere, or as good as 0: all pixel values together
    could not move the log-odds by more than float32 may round them."""
    flat = gradient.flatten(1).double()
    return ~flat.isfinite().all(1) | (flat.abs().sum(1) <= NEGLIGIBLE)


def signs(images: Tensor, rng: torch.Generator, count: int) -> Tensor:
    """`(n, c, h, w)` -> `(n, count, c, h, w)` int8, each entry -1 or 1."""
    return _drawn(images, rng, count, 1.0)


def directions(images: Tensor, rng: torch.Generator, steps: Sequence[float]) -> Tensor:
    """`(n, c, h, w)` -> `(n, steps, DIRECTIONS, c, h, w)` int8, each entry -1 or 1, and 0 where it is not of the share
    that moves by a step (see LONGEST)."""
    size = images[0].numel()
    return torch.stack([_drawn(images, rng, DIRECTIONS, min(1.0, LONGEST**2 / (s**2 * size))) for s in steps], 1)


def _drawn(images: Tensor, rng: torch.Generator, count: int, share: float) -> Tensor:
    def one() -> Tensor:
        drawn = torch.rand(images.shape, generator=rng, device=images.device)
        return (drawn < share / 2).to(torch.int8) - ((drawn >= share / 2) & (drawn < share)).to(torch.int8)

    return torch.stack([one() for _ in range(count)], 1)


def compared(
    answers: Scorer,
    logits: Scorer,
    images: Tensor,
    ways: Tensor,
    steps: Sequence[float],
    side: Callable[[Tensor], Tensor],
    rounded: Callable[[Tensor], Tensor] | None = None,
    saturates: bool = False,
) -> Slopes:
    """Hold the gradient of some columns' log-odds to what the answers do at whole gray levels.

    Args:
        answers: what the victim answers, without autograd, as logits or as logarithms of probabilities.
        logits: what is differentiated.
        images: `(n, c, h, w)` float32 in [0, 1].
        ways: `(n, steps, count, c, h, w)`: the `directions` of the steps.
        steps: how far pixel values move, in units of [0, 1].
        side: which columns; see `other_classes`.
        rounded: moves images to the gray levels that the victim is asked on; None: they are asked as they are.
        saturates: whether the answers are of probabilities in float32. Where those are 0 or 1 nothing is compared.

    Both ends of a difference stay within [0, 1]: a pixel that stands at the edge moves one way alone, and autograd is
    asked about exactly the move that was made.
    """
    chosen, gradient = gradient_of(logits, images, side)
    slope = gradient.double().nan_to_num(0, 0, 0)
    said, seen, noise = [], [], torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for step, along in zip(steps, ways.unbind(1), strict=True):
        for direction in along.unbind(1):
            up, down = ((images + way * step * direction).clamp(0, 1) for way in (1, -1))
            if rounded is not None:
                up, down = rounded(up), rounded(down)
            with torch.no_grad():
                there, back = answers(up), answers(down)
            ahead, behind = log_odds(there, chosen), log_odds(back, chosen)
            far = saturates & (torch.maximum(ahead.abs(), behind.abs()) >= SATURATED)
            seen.append(torch.where(far, torch.nan, ahead - behind))
            foretold = (slope * (up.double() - down.double())).flatten(1).sum(1)
            said.append(torch.where(far, torch.nan, foretold))
            size = there.double().nan_to_num(0, 0, 0).abs().amax(1).clamp_min(1)
            noise = torch.maximum(noise, _ROUNDING * size)
    shape = ways.shape[:3]
    said, seen = (torch.stack(x, 1).view(shape) for x in (said, seen))
    return _slopes(said, seen, noise, vanishes(gradient))


def _slopes(said: Tensor, seen: Tensor, noise: Tensor, dead: Tensor) -> Slopes:
    """From `(n, steps, directions)` foretold and seen moves, NaN in the first where nothing can be seen, and `(n,)`
    what rounding may do and where there is no gradient."""
    unseen = said.isnan()
    said, seen = (torch.where(unseen, 0.0, x) for x in (said, seen))
    broken = ~seen.isfinite().all(2)
    seen = seen.nan_to_num(0, 0, 0)
    foretold, moved = said.abs().amax((1, 2)), seen.abs().amax((1, 2))
    dead = dead | (~unseen.all((1, 2)) & (foretold <= noise))
    moves = ~broken & (seen.abs().amax(2) > noise[:, None])
    # A step too short for float32 to show what a faint gradient foretells says nothing, where the answers stay still.
    still = ~broken & ~moves & (said.abs().amax(2) <= noise[:, None])
    nothing = dead[:, None] | unseen.all(2) | still
    length, way = said.norm(dim=2), seen.norm(dim=2)
    tiny = torch.finfo(torch.float64).tiny
    cosine = torch.where(moves, (said * seen).sum(2) / (length * way).clamp_min(tiny), 0.0)
    factor = (length / way.clamp_min(tiny)).masked_fill(~moves, torch.nan)
    return Slopes(cosine.masked_fill(nothing, torch.nan), factor.masked_fill(nothing, torch.nan), moved, dead)


def joined(parts: Sequence[Slopes]) -> Slopes:
    """Those of several blocks of images as one."""
    return Slopes(
        torch.cat([part.cosine for part in parts]),
        torch.cat([part.factor for part in parts]),
        torch.cat([part.moved for part in parts]),
        torch.cat([part.vanishes for part in parts]),
    )
