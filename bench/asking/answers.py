"""Asking a victim: rounded to the battery's levels, in batches of its size, and with sense, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.base import Classifier
from ...models.memory import out_of_memory
from ..battery.ground import Asking
from ..errors import ModelFailure, Problem, one_line


def checked_answers(victim: Classifier, images: Tensor, rng: torch.Generator, how: Asking) -> Tensor:
    """`(n, c, h, w)` in [0, 1] -> `(n, K)` probabilities, asked in batches of the fixed size, checked for sense.

    Images are rounded to the levels first, a batch at a time, since a whole query would not fit into the cache.

    Raises ModelFailure when the model raises, or answers with NaN or with rows that sum to more than 1.
    """
    out = torch.empty(len(images), victim.classes, dtype=torch.float32, device=images.device)
    for start in range(0, len(images), how.batch):
        part = slice(start, start + how.batch)
        out[part] = victim_call(victim.probabilities, how.levels.rounded(images[part]), rng)
    if not bool((out.sum(1) <= 1.001).all()) or not bool((out >= 0).all()):  # NaN fails the first comparison
        raise nonsense(out)
    return out


def victim_call(call: Callable[[Tensor, torch.Generator], Tensor], images: Tensor, rng: torch.Generator) -> Tensor:
    """Ask the model or a defense; whatever it raises becomes a ModelFailure (but not lack of memory)."""
    try:
        return call(images, rng)
    except Exception as error:
        if out_of_memory(error):
            raise
        expected = f"answers from the model for {len(images)} images"
        fix = "run the model by itself on images of that shape; check `input` and the defenses"
        raise ModelFailure(Problem("FB301", expected, one_line(error), fix)) from error


def nonsense(part: Tensor) -> ModelFailure:
    """What to raise for answers or logits `(n, K)` that are none."""
    if bool(part.isnan().any()):
        came = f"{int(part.isnan().any(1).sum())} of {len(part)} rows with NaN"
    else:
        came = f"rows that sum to up to {float(part.sum(1).max()):.6g}, with entries from {float(part.min()):.6g}"
    fix = "check the model's weights, `output` (logits or probabilities?) and `input`"
    return ModelFailure(Problem("FB300", "probabilities that are at least 0 and sum to at most 1", came, fix))
