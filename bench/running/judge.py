"""The judge: rounds final images to the levels, checks range and limit, re-queries the victim, and alone decides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...attacks.entry import Limit
from ...attacks.levels import Levels
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.answers import checked_answers
from ..asking.reading import hits_perturb, reading_of
from ..battery.ground import Asking

SLACK = 1e-4
"""How far outside [0, 1] an attack's float arithmetic may stray before the judge calls the image out of range."""

_AT_ONCE = 64
"""Images rounded at once: float copies of a whole set of large images would fill the memory."""


@dataclass(frozen=True)
class Verdicts:
    """What the judge says of a block's final images, one row each, on the CPU."""

    images: Tensor
    """`(t, c, h, w)` uint8: what was judged."""
    fooled: Tensor
    """`(t,)` bool: on more than half of the draws, and not refused."""
    fooled_flat: Tensor
    """`(t,)` bool: the same at the flat confidence (Fool; for Perturb equal to `fooled`)."""
    label: Tensor
    """`(t,)` int64; -1: rejected. Of the first draw."""
    confidence: Tensor
    """`(t,)` float32: of the target (Fool) or of the label; mean over draws."""
    share: Tensor
    """`(t,)` float32: share of draws on which it fooled."""
    size: Tensor
    """`(t,)` float64: change in the limit's unit; NaN for Fool."""
    refused: list[str]
    """Why an image was refused; empty where it was not."""


def judge_fool(
    victim: Classifier,
    finals: Tensor,
    targets: Tensor,
    *,
    tau: float,
    flat: float,
    draws: int,
    how: Asking,
    rng: torch.Generator,
) -> Verdicts:
    """Judge fooling images `(t, c, h, w)`, one target class each `(t,)`."""
    images, refused = _to_bytes(finals, how.levels)
    fooled, flats, first, confidence = [], [], None, []
    rows = torch.arange(len(images), device=victim.device)
    for _ in range(draws):
        probabilities = _answers(victim, images, rng, how)
        reading = reading_of(probabilities)
        first = first or reading
        of_target = probabilities[rows, targets]
        accepted = reading.label == targets
        fooled.append(accepted & (of_target >= tau))
        flats.append(accepted & (of_target >= flat))
        confidence.append(of_target)
    assert first is not None
    size = torch.full((len(images),), float("nan"), dtype=torch.float64)
    return _verdicts(images, fooled, flats, first.label, confidence, size, refused)


def judge_perturb(
    victim: Classifier,
    finals: Tensor,
    originals: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    *,
    limit: Limit,
    draws: int,
    how: Asking,
    rng: torch.Generator,
) -> Verdicts:
    """Judge perturbed images `(t, c, h, w)` against their uint8 originals and the victim's own clean labels."""
    images, refused = _to_bytes(finals, how.levels)
    size = limit.sizes(originals, images)
    for i in (~limit.kept(size, how.levels)).nonzero().flatten().tolist():
        refused[i] = refused[i] or f"changed by {float(size[i]):.4g}, limit {limit}"
    fooled, first, confidence = [], None, []
    for _ in range(draws):
        reading = reading_of(_answers(victim, images, rng, how))
        first = first or reading
        fooled.append(hits_perturb(reading.probabilities, labels, targets))
        confidence.append(reading.confidence)
    assert first is not None
    return _verdicts(images, fooled, fooled, first.label, confidence, size, refused)


def _to_bytes(finals: Tensor, levels: Levels) -> tuple[Tensor, list[str]]:
    low, high = finals.flatten(1).aminmax(dim=1)
    sound = (low >= -SLACK) & (high <= 1 + SLACK)  # false for NaN
    refused = [
        "" if kept else f"pixels from {lowest:.4g} to {highest:.4g}, limit 0 to 1"
        for kept, lowest, highest in zip(sound.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
    images = torch.empty(finals.shape, dtype=torch.uint8, device=finals.device)
    for part, rounded in zip(finals.split(_AT_ONCE), images.split(_AT_ONCE), strict=True):
        rounded.copy_(levels.to_bytes(torch.nan_to_num(part)))
    return images, refused


def _answers(victim: Classifier, images: Tensor, rng: torch.Generator, how: Asking) -> Tensor:
    """The answers to `(n, c, h, w)` uint8 images, which become floats a batch at a time."""
    parts = [checked_answers(victim, from_bytes(part), rng, how) for part in images.split(how.batch)]
    return torch.cat(parts)


def _verdicts(
    images: Tensor,
    fooled: list[Tensor],
    flats: list[Tensor],
    label: Tensor,
    confidence: list[Tensor],
    size: Tensor,
    refused: list[str],
) -> Verdicts:
    allowed = torch.tensor([not reason for reason in refused], dtype=torch.bool)
    share = torch.stack(fooled).float().mean(0).cpu() * allowed
    flat_share = torch.stack(flats).float().mean(0).cpu() * allowed
    mean = torch.stack(confidence).mean(0).cpu()
    return Verdicts(images.cpu(), share > 0.5, flat_share > 0.5, label.cpu(), mean, share, size.cpu(), refused)
