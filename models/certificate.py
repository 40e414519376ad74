"""Whether a torch copy may speak for a network: same logits, and gradients that finite differences confirm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from .memory import Room, blocks
from .slopes import (
    EIGHT_BITS,
    LEAST_COSINE,
    Scorer,
    Slopes,
    compared,
    directions,
    gradient_of,
    joined,
    log_odds,
    other_classes,
    signs,
    vanishes,
)

_LEVEL = 1 / 255
LOGIT_TOLERANCE = 1e-3
"""Largest difference of a logit allowed between two implementations, as a share of the logits' spread."""


@dataclass(frozen=True)
class AtLevels:
    """How a gradient is held to what a network answers at whole gray levels; see models/slopes.py."""

    steps: tuple[float, ...] = EIGHT_BITS
    """How far pixel values move, in units of [0, 1]."""
    answers: Scorer | None = None
    """What is asked; None: the reference."""
    rounded: Callable[[Tensor], Tensor] | None = None
    """Moves images to the gray levels that are asked about; None: they are asked about as they are."""
    saturates: bool = False
    """Whether the answers are of probabilities, of which nothing is seen where they are 0 or 1."""
    least_cosine: float = LEAST_COSINE


@dataclass(frozen=True)
class Certificate:
    """What was measured when a network was loaded. What was not measured is None."""

    agrees: bool
    """Whether there are gradients that may be used."""
    mismatch: bool = False
    """Whether torch and the reference disagree, or autograd and finite differences do; of a network that rounds, in its
    exact copy."""
    images: int = 0
    """How many images logits and vanishing were measured on; gradients on fewer of them."""
    max_logit_difference: float | None = None
    """Largest absolute difference of a logit to the reference's; of a log-probability where that is what is given."""
    logit_spread: float | None = None
    """Highest minus lowest reference logit: what the difference is judged against."""
    gradient_error: float | None = None
    """Median over images of autograd's relative error against central finite differences."""
    gradient_error_max: float | None = None
    gradient_precision: str | None = None
    """"float64" where the finite differences were taken of a float64 copy, else "float32"."""
    zero_gradient_share: float | None = None
    """Share of images on which the gradient of the log-odds of all classes but the largest is exactly 0 everywhere, or
    not finite."""
    hidden_slope_share: float | None = None
    """Share of the stepped images where that gradient is exactly 0 and yet the answers' log-odds move when pixels move
    by a few gray levels: a rounding or a threshold hides a slope."""
    slope_cosine: float | None = None
    """Median over images of the cosine between what autograd foretells and what the answers do when pixels move by a
    few gray levels, at the step where it is lowest. None where no answer moves."""
    slope_factor: float | None = None
    """How many times too long, or too short, the gradient is for that, on the median image."""
    straight_through: bool = False
    """Whether it is of a float copy of a network that rounds, whose gradient is a stand-in and whose logits are only
    close to the network's, since its exact copy could not be certified."""
    reason: str | None = None
    """Where the network's own gradient is not used: why, in a sentence."""

    def as_json(self) -> dict[str, bool | int | float | str | None]:
        """Return the fields as JSON values; numbers that are not finite become null."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}
        return finite


def certify(
    reference: Scorer,
    logits: Scorer,
    images: Tensor,
    rng: torch.Generator,
    *,
    room: Room | None = None,
    precise: Scorer | None = None,
    rejects: bool = False,
    floor: float | None = None,
    logit_tolerance: float = LOGIT_TOLERANCE,
    gradient_tolerance: float = 0.05,
    zero_limit: float = 0.99,
    gradient_images: int | None = None,
    fine_directions: int = 4,
    step: float = 1e-6,
    levels: AtLevels | None = None,
) -> Certificate:
    """Compare a differentiable copy with the network it is a copy of, and its gradients with finite differences.

    Args:
        reference: the network itself, without gradients.
        logits: the copy, differentiable, float32.
        images: `(m, c, h, w)` float32 in [0, 1], m at least 1: real images, on the copy's device.
        rng: where jitter and directions are drawn from; on the images' device.
        room: bounds the images that are asked about at once, halved where memory runs out; None: one of its own.
        precise: the copy in float64, for finite differences without rounding noise; None: `logits` in float32, with
            steps 1000 times as large.
        rejects: whether the last column is a rejection.
        floor: log-probabilities are compared only down to here; where the outputs are probabilities, those below e.g.
            1e-6 carry no digits. None: logits are compared as they are.
        logit_tolerance: largest difference allowed, as a share of the spread of the reference's logits. Float32
            implementations differ by about 1e-6 of it, TF32 by 1e-4; one wrong weight by more.
        gradient_tolerance: largest median relative error of autograd. Honest nets show about 1e-6 in float64, 1e-2 in
            float32; a wrong gradient shows about 1.
        zero_limit: share of vanished gradients from which there is nothing left to use.
        gradient_images: how many images the gradient is checked on, spread evenly; None: 16, and fewer of large ones,
            down to 4, since float64 is slow.
        fine_directions: random directions an image at infinitesimal steps; the error is their median, so that one kink
            of a ReLU does not count.
        step: half the distance of the two points of a central difference, in each pixel's own units.
        levels: how the gradient is held to the answers at whole gray levels; None: as for 8-bit images.

    What is differentiated is what FGSM and its kin ascend: the log-odds of every class but the largest.

    Infinitesimal steps are taken at real images moved by up to one gray level to a random point nearby: at the images
    themselves ties of max-pooling on plain background and clipping at 0 and 1 are common, and have no derivative. Whole
    gray levels are stepped from the images themselves, those first whose gradient does not vanish. No image that is
    asked about leaves [0, 1].
    """
    room, levels = room or Room(), levels or AtLevels()
    difference, spread = _apart(reference, logits, images, floor, room)
    side = partial(other_classes, rejects=rejects)
    zero = torch.cat(room.in_blocks(images, lambda block: vanishes(gradient_of(logits, block, side)[1])))
    zero_share = float(zero.double().mean())

    wanted = gradient_images or min(16, max(4, 200_000 // images[0].numel()))
    some = _spread(images, wanted)
    fine = (precise, step, torch.float64) if precise else (logits, 1e3 * step, torch.float32)
    # All chance is drawn before anything is asked, so that it does not depend on how many images fit.
    drawn = [(_jittered(block, rng, fine[1]), signs(block, rng, fine_directions)) for block in blocks(some)]
    points, along = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    error = torch.cat(room.in_blocks(points, lambda x, v: _error(logits, fine, side, x, v), along))
    median, worst = float(error.median()), float(error.max())

    alive = _spread(images[~zero], wanted)
    stepped = torch.cat([alive, _spread(images[zero], wanted - len(alive))])
    ways = torch.cat([directions(block, rng, levels.steps) for block in blocks(stepped)])
    asked = levels.answers or reference

    def at_levels(images: Tensor, ways: Tensor) -> Slopes:
        return compared(asked, logits, images, ways, levels.steps, side, levels.rounded, levels.saturates)

    slopes = joined(room.in_blocks(stepped, at_levels, ways))
    hidden = slopes.vanishes & (slopes.moved > logit_tolerance * spread)
    hidden_share = float(hidden.double().mean())

    mismatch = nothing = None
    if not difference <= logit_tolerance * spread:
        mismatch = f"torch and the network itself differ by {difference:.3g} in a logit, of a spread of {spread:.3g}"
    elif not median <= gradient_tolerance:
        mismatch = f"autograd is off from finite differences by {100 * median:.3g}% on the median image"
    elif zero_share >= zero_limit:
        why = ", though the outputs do move with the pixels: a rounding, a threshold or saturation hides the slope"
        nothing = f"the gradient is exactly 0 on {100 * zero_share:.3g}% of images{why if hidden_share > 0 else ''}"
    elif (wrong := slopes.wrong(levels.least_cosine)) is not None:
        mismatch = wrong
    elif slopes.median() is None:
        nothing = "the outputs are saturated: no few gray levels move them, so that nothing holds the gradient to them"
    return Certificate(
        agrees=mismatch is None and nothing is None,
        mismatch=mismatch is not None,
        images=len(images),
        max_logit_difference=difference,
        logit_spread=spread,
        gradient_error=median,
        gradient_error_max=worst,
        gradient_precision="float64" if precise else "float32",
        zero_gradient_share=zero_share,
        hidden_slope_share=hidden_share,
        slope_cosine=slopes.median(),
        slope_factor=slopes.largest_factor(),
        reason=mismatch or nothing,
    )


def _apart(reference: Scorer, logits: Scorer, images: Tensor, floor: float | None, room: Room) -> tuple[float, float]:
    """The largest difference of a logit, and the spread of the reference's."""
    expected = _all(reference, images, room)
    with torch.no_grad():
        own = _all(logits, images, room).to(expected)
    if floor is not None:
        expected, own = (x.log_softmax(1).clamp_min(floor) for x in (expected, own))
    return float((expected - own).abs().max()), float(expected.max() - expected.min())


def _spread(images: Tensor, most: int) -> Tensor:
    """At most so many of the images, spread evenly over them."""
    return images[torch.linspace(0, len(images) - 1, min(most, len(images))).round().long()]


def _error(
    logits: Scorer,
    fine: tuple[Scorer, float, torch.dtype],
    side: Callable[[Tensor], Tensor],
    images: Tensor,
    along: Tensor,
) -> Tensor:
    """The gradient's relative error against infinitesimal differences, `(n,)`."""
    scores, step, dtype = fine
    chosen, gradient = gradient_of(logits, images, side)
    slopes, quotients, noise = [], [], []
    for direction in along.unbind(1):
        slopes.append((gradient.double() * direction).flatten(1).sum(1))
        quotient, doubt = _quotient(scores, images, direction, chosen, step, dtype)
        quotients.append(quotient)
        noise.append(doubt)
    return _relative_error(torch.stack(slopes), torch.stack(quotients), torch.stack(noise))


def _all(scores: Scorer, images: Tensor, room: Room) -> Tensor:
    return torch.cat(room.in_blocks(images, lambda block: scores(block).detach()))


def _jittered(images: Tensor, rng: torch.Generator, margin: float) -> Tensor:
    """Moved by up to a gray level to a random point, `margin` or more away from black and white."""
    edge = 1.01 * margin + _LEVEL  # a little more, for rounding
    noise = torch.rand(images.shape, generator=rng, device=images.device)
    return images.clamp(edge, 1 - edge) + (2 * noise - 1) * _LEVEL


def _quotient(
    scores: Scorer, images: Tensor, direction: Tensor, side: Tensor, step: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the log-odds' central difference quotient along a direction, and how far rounding may have moved it.

    Both `(n,)` float64.
    """
    images, direction = images.to(dtype), direction.to(dtype)
    with torch.no_grad():
        ahead, behind = (scores(images + s * direction) for s in (step, -step))
    noise = 8 * torch.finfo(dtype).eps * ahead.abs().amax(1).double() / step
    return (log_odds(ahead, side) - log_odds(behind, side)) / (2 * step), noise


def _relative_error(slopes: Tensor, quotients: Tensor, noise: Tensor) -> Tensor:
    """`(directions, n)` each -> `(n,)`: median error over directions, against the size slopes have on that image.

    What rounding explains is no error. A slope or a quotient that is not finite is an infinite one, since nothing was
    compared.
    """
    told = slopes.isfinite() & quotients.isfinite() & noise.isfinite()
    apart = ((slopes - quotients).abs() - noise).clamp_min(0)
    error = torch.where(told, apart, math.inf).quantile(0.5, dim=0)
    size = torch.maximum(*(x.nan_to_num(0, 0, 0).square().mean(0).sqrt() for x in (slopes, quotients)))
    return torch.where(error > 0, error / size.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
