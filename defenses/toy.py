"""An example of a defense to check, and the small model, the other defense and the images to check it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..bench.errors import Unexpected
from ..models.base import Classifier
from ..models.levels import rounded
from .packaged import packaged

Shape = tuple[int, int, int]
_HIDDEN = 16


def seeded(seed: int, device: torch.device | None = None) -> torch.Generator:
    """A stream of random numbers on a device, by default the CPU."""
    return torch.Generator(device or "cpu").manual_seed(seed)


def toy(
    shape: Shape,
    classes: int,
    device: torch.device,
    *,
    rejects: bool = False,
    noisy: bool = False,
    within: tuple[float, float] = (0.0, 1.0),
) -> Classifier:
    """A smooth network of two layers that checks what it is asked about.

    It computes in double precision, so that an answer has the same bits whatever other images are in the batch.

    Args:
        shape: channels, height, width.
        classes: how many it tells apart.
        device: where it lives.
        rejects: whether one more column takes probability away from the classes.
        noisy: whether its logits are moved by noise from the generator of the call.
        within: the lowest and the highest pixel value that it may be asked about.

    Its callables raise AssertionError where the images are not `(n, *shape)` float32 on the device and in that range,
    n at least 1, or where the generator is not one on the device.
    """
    weights, pixels = seeded(1), math.prod(shape)
    first = (4 * torch.randn(pixels, _HIDDEN, generator=weights) / pixels**0.5).double().to(device)
    second = torch.randn(_HIDDEN, classes + rejects, generator=weights).double().to(device)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        _check_question(images, rng, shape, device, within)
        scores = torch.tanh((images.flatten(1).double() - 0.5) @ first) @ second
        if noisy:
            scores = scores + torch.randn(scores.shape, generator=rng, device=device)
        return scores.float()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return logits(images, rng).softmax(1)[:, :classes]

    return Classifier(shape, classes, device, probabilities, logits, rejects=rejects, randomised=noisy)


def _check_question(
    images: Tensor, rng: torch.Generator, shape: Shape, device: torch.device, within: tuple[float, float]
) -> None:
    hold(images.dtype == torch.float32, f"images for the model in float32, got {images.dtype}")
    hold(images.device.type == device.type, f"images for the model on {device}, got {images.device}")
    fits = tuple(images.shape[1:]) == tuple(shape) and len(images) > 0
    hold(fits, f"images for the model of shape (n, {', '.join(map(str, shape))}), got {tuple(images.shape)}")
    low, high = float(images.detach().min()), float(images.detach().max())
    hold(0 <= low <= high <= 1, f"images for the model in [0, 1], got {low:g} to {high:g}")
    hold(
        within[0] <= low <= high <= within[1],
        f"what stands behind the defense to be asked, which shows the model images in {list(within)}, and not the "
        f"model itself, which got {low:g} to {high:g}",
    )
    hold(
        isinstance(rng, torch.Generator) and rng.device.type == device.type,
        "the generator of the call to be handed on to the model",
    )


def contrast(inner: Classifier) -> Classifier:
    """An honest defense that shows the model images of half the contrast: `x` becomes `x / 2 + 1 / 4`."""
    ask = inner.logits

    def halved(images: Tensor) -> Tensor:
        return images / 2 + 0.25

    return inner.defended(
        probabilities=lambda images, rng: inner.probabilities(halved(images), rng),
        logits=None if ask is None else lambda images, rng: ask(halved(images), rng),
    )


def usual_images(shape: Shape) -> Tensor:
    """Four images of noise and four of smooth waves, `(8, *shape)` float32, rounded to 8 bits."""
    c, h, w = shape
    noise = torch.rand((4, *shape), generator=seeded(2))
    y, x = torch.meshgrid(torch.linspace(0, math.pi, h), torch.linspace(0, math.pi, w), indexing="ij")
    waves = [torch.sin((i + 1) * x / 2 + k) * torch.cos((4 - i) * y / 2 - k) for i in range(4) for k in range(c)]
    smooth = 0.5 + 0.45 * torch.stack(waves).view(4, *shape)
    return rounded(torch.cat([noise, smooth]))


def extreme_images(shape: Shape) -> Tensor:
    """A black, a white, a gray and a chequered image, `(4, *shape)` float32."""
    board = (torch.arange(shape[1])[:, None] + torch.arange(shape[2])) % 2
    plain = torch.tensor([0.0, 1.0, 128 / 255]).view(3, 1, 1, 1).expand(3, *shape)
    return torch.cat([plain, board.float().expand(1, *shape)])


def hold(kept: bool, expected: str) -> None:
    """Raise AssertionError("expected ...") unless `kept`."""
    if not kept:
        raise AssertionError(f"expected {expected}")


# what is checked


@dataclass(frozen=True)
class Example:
    """A defense to check, with arguments: what `{kind: package, name: NAME, args: ARGS}` puts in front of a model."""

    name: str
    """What its checks are called by."""
    factory: Callable[..., Classifier]
    """`factory(inner, **args) -> Classifier`. It is called about 30 times a shape: what takes long to fit or to load is
    better done once, outside."""
    args: Mapping[str, Any] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ((1, 8, 8), (3, 12, 9))
    """Channels, height and width of the images that it is checked on."""
    classes: int = 4
    """Of the model that it is put in front of."""
    images: Tensor | None = None
    """`(n, c, h, w)` float32 in [0, 1] of one of the shapes, n about 10, to ask about as well. A detector that was
    fitted elsewhere needs some that it accepts: it may reject all images of the checks."""

    def __post_init__(self) -> None:
        if self.images is not None and tuple(self.images.shape[1:]) not in self.shapes:
            raise Unexpected(
                f"images of one of the shapes {self.shapes}", tuple(self.images.shape), "set `shapes` to theirs"
            )


@dataclass(frozen=True)
class Case:
    """What a check runs on: an example, images of one shape, a device."""

    example: Example
    shape: Shape
    device: torch.device

    def model(
        self, *, rejects: bool = False, noisy: bool = False, within: tuple[float, float] = (0.0, 1.0)
    ) -> Classifier:
        """A model by itself, see `toy`."""
        return toy(self.shape, self.example.classes, self.device, rejects=rejects, noisy=noisy, within=within)

    def defended(self, inner: Classifier) -> Classifier:
        """The defense in front of it, built as an evaluation builds it."""
        try:
            return packaged(inner, self.example.name, self.example.factory, self.example.args)
        except Unexpected as error:
            raise AssertionError(str(error)) from error

    def usual(self) -> Tensor:
        """The example's own images and a few of noise and of waves."""
        own = self.example.images
        fitting = [] if own is None or tuple(own.shape[1:]) != self.shape else [own]
        return torch.cat([*fitting, usual_images(self.shape)]).to(self.device)

    def images(self) -> Tensor:
        """The usual ones, then extreme ones."""
        return torch.cat([self.usual(), extreme_images(self.shape).to(self.device)])

    def rng(self, seed: int = 0) -> torch.Generator:
        """A generator on the device."""
        return seeded(seed, self.device)
