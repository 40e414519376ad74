"""A defense that changes the image."""

from __future__ import annotations

from foolbench.defenses.images.preprocess import preprocess
from foolbench.models.base import Classifier
from torch import Tensor


def gamma(inner: Classifier, exponent: float = 2.0) -> Classifier:
    """Raise every pixel value to a power of at least 1 (below, the slope at black is infinite). Gradient: exact.

    Raises ValueError for a smaller exponent.
    """
    if exponent < 1:
        raise ValueError(f"expected an exponent of at least 1, got {exponent}: choose a larger one")

    def power(images: Tensor) -> Tensor:
        return (images.double() ** exponent).to(images.dtype)  # float32's power has other last bits in other batches

    return preprocess(inner, "gamma", power, backward=power, exact=True)
