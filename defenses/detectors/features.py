"""What density and distance detectors look at: an image's principal components, or the model's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.base import Classifier
from ..images.pca import principal
from ..images.preprocess import whole_number

Space = Literal["pixels", "logits"]
Features = Callable[[Tensor, Tensor], Tensor]
"""`(images (n, c, h, w), answer (n, K))` -> `(n, d)` float64, differentiable."""
DIMENSIONS = 30
"""Principal components, where none are asked for; or as many as pixels, where those are fewer."""
_IMAGES_AT_ONCE = 250


def fitted_features(
    inner: Classifier,
    space: Space,
    dimensions: int | None,
    images: Tensor,
    labels: Tensor,
    rng: torch.Generator,
    name: str,
) -> tuple[Features, Tensor, Tensor]:
    """The features and the training images in them, `(m, d)` float64 and `(m,)` labels, both on the CPU.

    In float64 throughout: a density squares small differences of large numbers.

    Raises ValueError: see `density`.
    """
    if tuple(images.shape[1:]) != tuple(inner.shape) or len(images) != len(labels) or len(images) < 2:
        raise Unexpected(
            f"at least 2 images of shape {tuple(inner.shape)} with a label each to fit {name} to",
            f"{tuple(images.shape)} and {tuple(labels.shape)}",
            "pass the training images of the same battery",
        )
    if space == "logits":
        if dimensions is not None:
            raise Unexpected(f"no dimensions for {name} of logits", dimensions, "leave it out")
        return _class_logits, _asked(inner, images, rng, name), labels.cpu()
    most = min(len(images), images[0].numel())
    kept = min(DIMENSIONS, most) if dimensions is None else whole_number(name, "dimensions", dimensions, 1, most)
    mean, directions = (x.double().to(inner.device) for x in principal(images, kept))

    def components(images: Tensor, answer: Tensor) -> Tensor:
        return (images.flatten(1).double() - mean) @ directions.T

    return components, components(images.to(inner.device), images).cpu(), labels.cpu()


def _class_logits(images: Tensor, answer: Tensor) -> Tensor:
    return answer.double()


def _asked(inner: Classifier, images: Tensor, rng: torch.Generator, name: str) -> Tensor:
    if inner.logits is None:
        raise Unexpected(
            f"a model with logits for {name}", f"one without ({inner.no_gradient})", "use `pixels` as its features"
        )
    with torch.no_grad():
        answers = [inner.logits(part.to(inner.device), rng) for part in images.split(_IMAGES_AT_ONCE)]
    return torch.cat(answers)[:, : inner.classes].double().cpu()
