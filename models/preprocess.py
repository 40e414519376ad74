"""From the battery's pixels to what a network expects of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.errors import Unexpected
from .onnx.check import ModelFileError

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Preprocess:
    """What a network expects of `[0, 1]` pixels, in this order: resize, crop, scale, BGR, normalise, layout.

    A pixel becomes `(scale * x - mean) / std`. Every step that changes nothing is skipped. Gray and RGB are never
    turned into each other: which of the many ways was meant is not ours to guess.
    """

    size: tuple[int, int] | None = None
    """Height and width the network takes; None: those of the images."""
    mean: tuple[float, ...] = (0.0,)
    """One value, or one a channel in the network's own order (so blue first where `channels` is "bgr"), in units of the
    scaled pixel."""
    std: tuple[float, ...] = (1.0,)
    """Like `mean`; positive."""
    scale: float = 1.0
    """What pixels are multiplied by before mean and std: 1, or 255 for networks that take 0-255."""
    channels: Literal["same", "bgr"] = "same"
    """Whether the network wants blue first."""
    layout: Literal["nchw", "nhwc", "flat"] = "nchw"
    """"flat": the row-major pixels of each image, `(n, c * h * w)`; a loader gives them the shape its network has."""
    resize: int | None = None
    """Scale the short side to this (the long side in proportion, rounded down), then cut `size` from the centre.
    None: scale straight to `size`, without regard to proportions."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    """Antialiased, but for "nearest". Bicubic overshoot is cut off at 0 and 1."""

    def __post_init__(self) -> None:
        if not all(s > 0 for s in self.std):
            raise Unexpected("a positive std", self.std, "divide by the standard deviation or by 1")
        if self.resize is not None and (self.size is None or self.resize < max(self.size)):
            raise Unexpected(
                "resize to be at least the size cut from it",
                f"resize {self.resize} and size {self.size}",
                "give both, resize the larger",
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Images `(n, c, h, w)` in [0, 1] -> what the network takes, on the same device and dtype, differentiable.

        Raises ModelFileError (input) where mean, std or BGR are for another number of channels than the images'.
        """
        return self.on(images.shape[1], images.device, images.dtype)(images)

    def on(self, channels: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Step:
        """Build the same function for one number of channels, device and dtype, its constants made only once."""
        steps = (self._sampling(), self._affine(channels, device, dtype), self._order(channels))
        chosen = [step for step in steps if step is not None]

        def run(images: Tensor) -> Tensor:
            for step in chosen:
                images = step(images)
            return images

        return run

    def _sampling(self) -> Step | None:
        if self.size is None:
            return None
        height, width = self.size

        def sample(images: Tensor) -> Tensor:
            h, w = images.shape[2:]
            if self.resize is None:
                return self._scaled(images, height, width)
            short = min(h, w)
            images = self._scaled(images, h * self.resize // short, w * self.resize // short)
            # rounded as torchvision's CenterCrop does, which most networks were measured with
            top, left = round((images.shape[2] - height) / 2), round((images.shape[3] - width) / 2)
            return images[:, :, top : top + height, left : left + width]

        return sample

    def _scaled(self, images: Tensor, height: int, width: int) -> Tensor:
        if images.shape[2:] == (height, width):
            return images
        if self.interpolation == "nearest":
            return F.interpolate(images, (height, width), mode="nearest-exact")
        images = F.interpolate(images, (height, width), mode=self.interpolation, antialias=True)
        return images.clamp(0.0, 1.0) if self.interpolation == "bicubic" else images

    def _affine(self, channels: int, device: torch.device, dtype: torch.dtype) -> Step | None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ModelFileError(
                    "input",
                    f"{name} to have 1 value or one for each of {channels} channels",
                    len(values),
                    "gray and RGB are not turned into each other, use a network made for these images",
                )
        gains = {self.scale / s for s in self.std}
        shifts = {-m / s for m, s in zip(_spread(self.mean, channels), _spread(self.std, channels), strict=True)}
        if gains == {1.0} and shifts == {0.0}:
            return None
        if len(gains) == len(shifts) == 1:
            gain, offset = gains.pop(), torch.tensor(shifts.pop(), device=device, dtype=dtype)
            return lambda images: torch.add(offset, images, alpha=gain)
        mean, std = (
            torch.tensor(_spread(values, channels), dtype=torch.float64).view(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        if self.channels == "bgr":  # channels are turned round afterwards, so that gray-like constants stay scalars
            mean, std = mean.flip(1), std.flip(1)
        factor, shift = (self.scale / std).to(device, dtype), (-mean / std).to(device, dtype)
        return lambda images: torch.addcmul(shift, images, factor)

    def _order(self, channels: int) -> Step | None:
        if self.channels == "bgr" and channels != 3:
            raise ModelFileError("input", "3 channels for bgr", channels, "say channels: same")
        flip: Step = (lambda x: x.flip(1)) if self.channels == "bgr" else (lambda x: x)
        match self.layout:
            case "nhwc":
                return lambda x: flip(x).permute(0, 2, 3, 1)
            case "flat":
                return lambda x: flip(x).flatten(1)
            case "nchw":
                return flip if self.channels == "bgr" else None


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values
