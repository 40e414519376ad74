"""Whether a torch copy may speak for a network: same logits, and gradients that finite differences confirm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .memory import Room, blocks

Scorer = Callable[[Tensor], Tensor]
"""Images `(n, c, h, w)` in [0, 1] -> logits `(n, columns)`."""

LOGIT_TOLERANCE = 1e-3
"""Largest difference of a logit allowed between two implementations, as a share of the logits' spread."""


@dataclass(frozen=True)
class Certificate:
    """What was measured when a network was loaded. What was not measured is None."""

    agrees: bool
    """Whether gradients may be used: no mismatch, and they do not vanish nearly everywhere."""
    mismatch: bool = False
    """Whether torch and the reference disagree, or autograd and finite differences do."""
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
    """Share of images on which the gradient of top logit minus second logit is exactly 0 everywhere, or not finite."""
    hidden_slope_share: float | None = None
    """Share of the gradient check's images where that gradient is exactly 0 and yet the reference's margin moves when
    pixels move by a few gray levels: a rounding or a threshold hides a slope."""
    reason: str | None = None
    """Where it does not agree: why, in a sentence."""

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
    floor: float | None = None,
    logit_tolerance: float = LOGIT_TOLERANCE,
    gradient_tolerance: float = 0.05,
    zero_limit: float = 0.99,
    gradient_images: int | None = None,
    directions: int = 4,
    step: float = 1e-6,
    coarse_step: float = 4 / 255,
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
        floor: log-probabilities are compared only down to here; where the outputs are probabilities, those below e.g.
            1e-6 carry no digits. None: logits are compared as they are.
        logit_tolerance: largest difference allowed, as a share of the spread of the reference's logits. Float32
            implementations differ by about 1e-6 of it, TF32 by 1e-4; one wrong weight by more.
        gradient_tolerance: largest median relative error of autograd. Honest nets show about 1e-6 in float64, 1e-2 in
            float32; a wrong gradient shows about 1.
        zero_limit: share of vanished gradients from which there is nothing left to use.
        gradient_images: how many images the gradient is checked on, spread evenly; None: 16, and fewer of large ones,
            down to 4, since float64 is slow.
        directions: random directions an image; the error is their median, so that one kink of a ReLU does not count.
        step: half the distance of the two points of a central difference, in each pixel's own units.
        coarse_step: the same for the search for hidden slopes, a few gray levels.

    The gradient is checked at real images moved by up to one gray level to a random point nearby: at the images
    themselves ties of max-pooling on plain background and clipping at 0 and 1 are common, and have no derivative.
    """
    room = room or Room()
    reference_logits = _all(reference, images, room)
    with torch.no_grad():
        own = _all(logits, images, room).to(reference_logits)
    if floor is not None:
        reference_logits, own = (x.log_softmax(1).clamp_min(floor) for x in (reference_logits, own))
    difference = float((reference_logits - own).abs().max())
    spread = float(reference_logits.max() - reference_logits.min())
    zero = torch.cat(room.in_blocks(images, lambda block: _vanishes(_margin_gradient(logits, block)[1])))
    zero_share = float(zero.double().mean())

    fine, fine_step, fine_type = (precise, step, torch.float64) if precise else (logits, 1e3 * step, torch.float32)
    wanted = gradient_images or min(16, max(4, 200_000 // images[0].numel()))
    some = images[torch.linspace(0, len(images) - 1, min(wanted, len(images))).round().long()]
    # All chance is drawn before anything is asked, so that it does not depend on how many images fit.
    drawn = [(_jittered(block, rng), _directions(block, directions, rng)) for block in blocks(some)]
    points, along = (torch.cat(parts) for parts in zip(*drawn, strict=True))

    def checked(images: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient's error, and whether it is 0 where the reference's margin moves, `(n,)` each."""
        pair, gradient = _margin_gradient(logits, images)
        vanished = _vanishes(gradient)
        slopes, quotients, noise, moves = [], [], [], torch.zeros_like(vanished)
        for direction in along.unbind(1):
            slopes.append((gradient.double() * direction).flatten(1).sum(1))
            quotient, doubt = _quotient(fine, images, direction, pair, fine_step, fine_type)
            quotients.append(quotient)
            noise.append(doubt)
            coarse, _ = _quotient(reference, images, direction, pair, coarse_step, torch.float32)
            moves |= coarse.abs() * coarse_step > logit_tolerance * spread
        return _relative_error(torch.stack(slopes), torch.stack(quotients), torch.stack(noise)), vanished & moves

    found = room.in_blocks(points, checked, along)
    error, hidden = (torch.cat(parts) for parts in zip(*found, strict=True))
    hidden_share = float(hidden.double().mean())
    median, worst = float(error.median()), float(error.max())

    mismatch = zero_out = None
    if not difference <= logit_tolerance * spread:
        mismatch = f"torch and the network itself differ by {difference:.3g} in a logit, of a spread of {spread:.3g}"
    elif not median <= gradient_tolerance:
        mismatch = f"autograd is off from finite differences by {100 * median:.3g}% on the median image"
    elif zero_share >= zero_limit:
        why = ", though the outputs do move with the pixels: a rounding, a threshold or saturation hides the slope"
        zero_out = f"the gradient is exactly 0 on {100 * zero_share:.3g}% of images{why if hidden_share > 0 else ''}"
    return Certificate(
        agrees=mismatch is None and zero_out is None,
        mismatch=mismatch is not None,
        images=len(images),
        max_logit_difference=difference,
        logit_spread=spread,
        gradient_error=median,
        gradient_error_max=worst,
        gradient_precision="float64" if precise else "float32",
        zero_gradient_share=zero_share,
        hidden_slope_share=hidden_share,
        reason=mismatch or zero_out,
    )


def _all(scores: Scorer, images: Tensor, room: Room) -> Tensor:
    return torch.cat(room.in_blocks(images, lambda block: scores(block).detach()))


def _margin(scores: Tensor, pair: Tensor) -> Tensor:
    top, second = scores.gather(1, pair).unbind(1)
    return top - second


def _margin_gradient(logits: Scorer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two top classes `(n, 2)` and the gradient of their difference, like the images."""
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        scores = logits(images)
        pair = scores.detach().topk(2, dim=1).indices
        if not scores.requires_grad:
            return pair, torch.zeros_like(images)
        (gradient,) = torch.autograd.grad(_margin(scores, pair).sum(), images, allow_unused=True)
    return pair, torch.zeros_like(images) if gradient is None else gradient


def _vanishes(gradient: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    return ~flat.isfinite().all(1) | (flat == 0).all(1)


def _jittered(images: Tensor, rng: torch.Generator) -> Tensor:
    level = 1 / 255
    noise = torch.rand(images.shape, generator=rng, device=images.device)
    return images.clamp(level, 1 - level) + (2 * noise - 1) * level


def _directions(images: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`(n, c, h, w)` -> `(n, count, c, h, w)`, each entry -1 or 1."""
    signs = [torch.randint(0, 2, images.shape, generator=rng, device=images.device) for _ in range(count)]
    return torch.stack(signs, 1) * 2.0 - 1.0


def _quotient(
    scores: Scorer, images: Tensor, direction: Tensor, pair: Tensor, step: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the margin's central difference quotient along a direction, and how far rounding may have moved it.

    Both `(n,)` float64.
    """
    images, direction = images.to(dtype), direction.to(dtype)
    with torch.no_grad():
        ahead, behind = (scores(images + s * direction) for s in (step, -step))
    noise = 8 * torch.finfo(dtype).eps * ahead.abs().amax(1).double() / step
    return (_margin(ahead.double(), pair) - _margin(behind.double(), pair)) / (2 * step), noise


def _relative_error(slopes: Tensor, quotients: Tensor, noise: Tensor) -> Tensor:
    """`(directions, n)` each -> `(n,)`: median error over directions, against the size slopes have on that image.

    What rounding explains is no error; a slope that is not finite is an infinite one.
    """
    size = torch.maximum(slopes.square().mean(0).sqrt(), quotients.square().mean(0).sqrt())
    error = ((slopes - quotients).abs() - noise).clamp_min(0).nan_to_num(nan=math.inf).quantile(0.5, dim=0)
    return torch.where(error > 0, error / size.clamp_min(torch.finfo(torch.float64).tiny), 0.0).nan_to_num(nan=math.inf)
