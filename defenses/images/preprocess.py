"""What all defenses that change the image share: putting a function of images in front of a Classifier.

The gradient is that of an adaptive attacker (Athalye, Carlini, Wagner 2018, §4.1, BPDA): the true value in the forward
pass, and in the backward pass the derivative of a stand-in where the function itself has none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.answers import value_of
from ...models.base import Classifier

Images = Callable[[Tensor], Tensor]
"""`(n, c, h, w)` float32 in [0, 1] -> the same shape, type, device and range, argument left as it was."""


def straight_through(images: Tensor) -> Tensor:
    """Return the images themselves: the stand-in of a function that declares none (its derivative is 1)."""
    return images


def preprocess(
    inner: Classifier, name: str, forward: Images, *, backward: Images = straight_through, exact: bool = False
) -> Classifier:
    """Put `forward` in front of a Classifier.

    Args:
        inner: what sees the changed images.
        name: what stands in `surrogates` unless the gradient is exact.
        forward: the change. Its value is what `probabilities` and `logits` see, to the bit.
        backward: the differentiable function whose derivative `logits` uses. The default passes the gradient straight
            through; where it is `forward` itself, autograd runs through `forward` and no second function is evaluated.
        exact: whether the derivative of `backward` is that of `forward` wherever that has one.

    Returns:
        The defended Classifier: same shape, classes, device and rejection. Where `inner` has no logits it has none.
    """

    def value(images: Tensor) -> Tensor:
        with torch.no_grad():
            return forward(images.detach())

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return inner.probabilities(value(images), rng)

    inner_logits = inner.logits
    if inner_logits is None:
        return inner.defended(probabilities=probabilities)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        if not (torch.is_grad_enabled() and images.requires_grad):
            return inner_logits(value(images), rng)
        if backward is forward:
            return inner_logits(forward(images), rng)
        return inner_logits(value_of(backward(images), value(images)), rng)

    surrogates = inner.surrogates if exact else (*inner.surrogates, name)
    return inner.defended(probabilities=probabilities, logits=logits, surrogates=surrogates)


def whole_number(defense: str, parameter: str, value: int, low: int, high: int) -> int:
    """Return `value` if it is an int in low..high.

    Raises:
        ValueError: it is not (bool and float are not whole numbers here, even 3.0).
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Unexpected(
            f"{parameter} of {defense} to be a whole number from {low} to {high}",
            f"{value!r}",
            "choose one in that range",
        )
    return value
