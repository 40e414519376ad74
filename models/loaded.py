"""A network that is ready to be evaluated, and how one is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bench.errors import Unexpected
from .base import Classifier
from .certificate import Certificate, Scorer
from .conditions import Conditions
from .head import Head
from .onnx.check import ModelFileError

MOST_IMAGES, MOST_PIXELS, FEWEST_IMAGES = 200, 6_000_000, 50
"""How many evaluation images a network is checked on when it is loaded: 200, but no more than make 6 million pixels
(times channels), though 50 in any case. So ImageNet's, which are slow, are 50."""
STRAIGHT_THROUGH = "the network's own rounding"
"""What stands in `Classifier.surrogates` where the network rounds and its gradient is a float copy's."""
SAME = 1e-3
"""Two answers are the same if they differ by at most this share of the spread of all answers."""


@dataclass(frozen=True)
class Loaded:
    """A network as a Classifier, with what was found out about it on the way."""

    classifier: Classifier
    certificate: Certificate
    backend: str
    """What answers come from: "onnxruntime-cpu", "onnxruntime-cpu (exported)", "onnxruntime-cuda", "torch (onnx2fx)",
    "torch (compiled)" or "torch"."""
    reference: Callable[[Tensor], Tensor]
    """Images `(n, c, h, w)` -> logits `(n, columns)`, of the network run just as it is, without gradients."""


def taken(conditions: Conditions) -> Tensor:
    """Return the evaluation images to check a network on, spread evenly, on the device: 200 at most.

    Raises ValueError where there are none or they have another shape than the battery's.
    """
    images, shape = conditions.images, conditions.shape
    if images.ndim != 4 or len(images) == 0 or tuple(images.shape[1:]) != tuple(shape):
        wanted = ", ".join(map(str, shape))
        raise Unexpected(f"images (m, {wanted})", tuple(images.shape), "pass the battery's evaluation images")
    most = min(len(images), MOST_IMAGES, max(FEWEST_IMAGES, MOST_PIXELS // images[0].numel()))
    chosen = torch.linspace(0, len(images) - 1, most).round().long()
    return images[chosen.to(images.device)].to(conditions.device, torch.float32)


def assembled(
    conditions: Conditions,
    head: Head,
    probabilities: Scorer,
    logits: Scorer | None,
    certificate: Certificate,
) -> Classifier:
    """Put a Classifier together, with logits only where the certificate allows."""
    certified = logits if certificate.agrees else None
    return Classifier(
        shape=conditions.shape,
        classes=head.classes,
        device=conditions.device,
        probabilities=lambda images, rng: probabilities(images),
        logits=None if certified is None else lambda images, rng: certified(images),
        rejects=head.reject_index is not None,
        surrogates=(STRAIGHT_THROUGH,) if certified is not None and certificate.straight_through else (),
        no_gradient=None if certified is not None else certificate.reason,
    )


def inferring(logits: Scorer, classes: int) -> Scorer:
    """Return probabilities `(n, K)` from logits in torch; ordinary tensors, though computed in inference mode."""

    def probabilities(images: Tensor) -> Tensor:
        with torch.inference_mode():
            answer = logits(images).softmax(1)[:, :classes]
        return answer.clone()

    return probabilities


def agree(truth: Tensor, other: Tensor) -> bool:
    """Whether two answers to the same images differ by no more than rounding. NaN agrees with nothing."""
    return truth.shape == other.shape and float((truth - other).abs().max()) <= SAME * float(truth.max() - truth.min())


def refuse_change(first: Tensor, second: Tensor) -> None:
    """Refuse a network that answers the same images differently the second time. Raises ModelFileError (changing)."""
    if bool(first.isfinite().all()) and not agree(first, second):
        difference = float((first - second).abs().max())
        raise ModelFileError(
            "changing",
            "the same answers to the same images twice",
            f"outputs that differ by {difference:.3g}",
            "take random operators and training-time dropout out of the network; randomness belongs in a defense",
        )
