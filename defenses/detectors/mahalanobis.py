"""Rejection by the Mahalanobis distance to the nearest class."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.base import Classifier
from ..parameters import number
from .features import Space, fitted_features
from .gaussians import one_a_class
from .reject import reject_when
from .threshold import CleanImages, Threshold


def mahalanobis(
    inner: Classifier,
    at: Threshold | CleanImages,
    images: Tensor,
    labels: Tensor,
    rng: torch.Generator,
    *,
    features: Space = "logits",
    dimensions: int | None = None,
    shrinkage: float = 0.01,
) -> Classifier:
    """Reject what is far from every class: the score is the least squared Mahalanobis distance to a class's mean, with
    one covariance for all classes (Lee et al. 2018, §2.1, equations 1 and 2).

    Departures: the features are the model's logits, or the images' principal components; theirs are the hidden layers,
    which a Classifier does not show. So there is no weighted sum over layers, and the image is not moved against the
    distance's gradient first (their §2.2). The covariance is shrunk, theirs is not.

    Arguments as in `density`.

    Gradient: exact.

    Raises:
        ValueError: as `density`.
    """
    name = "mahalanobis"
    if shrinkage != 0 or isinstance(shrinkage, bool):
        number(name, "shrinkage", shrinkage, 0, 1)
    seen, points, labels = fitted_features(inner, features, dimensions, images, labels, rng, name)
    model = one_a_class(points, labels, inner.classes, "tied", shrinkage, name).to(inner.device)

    def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
        return model.distances(seen(images, answer)).amin(1).to(images.dtype)

    return reject_when(inner, name, score, at, needs_logits=features == "logits")
