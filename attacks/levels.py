"""The gray levels that a battery's data have, and rounding to them: what a victim is asked lies on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..bench.errors import Unexpected

WHITE = 255
"""The largest byte of an 8-bit image: pixel value 1."""


@dataclass(frozen=True)
class Levels:
    """`count` gray levels from black to white in even steps, each at its nearest byte (halves to the even one).

    A level is the pixel value `byte / 255` in float32, so that an image that was rounded here and the same image read
    from 8 bits are equal bit for bit. With 256 levels these are the bytes themselves.
    """

    count: int = 256
    """From 2 to 256."""

    def __post_init__(self) -> None:
        if not 2 <= self.count <= WHITE + 1:
            raise Unexpected("from 2 to 256 gray levels", self.count, "count the gray levels that the data have")

    @property
    def top(self) -> int:
        """The number of the last level, white; black is 0."""
        return self.count - 1

    @cached_property
    def bytes(self) -> tuple[int, ...]:
        """The byte of each level, from 0 to 255."""
        return tuple(round(level * WHITE / self.top) for level in range(self.count))

    @cached_property
    def slack(self) -> float:
        """By how much a whole number of steps may exceed itself once both of its ends are bytes, in pixel values; at
        least half a gray level of 256, which the change of an image loses where it is rounded."""
        beyond, lowest = 0.5, 0.0
        for level, byte in enumerate(self.bytes):
            off = byte - level * WHITE / self.top
            beyond, lowest = max(beyond, off - lowest), min(lowest, off)
        return beyond / WHITE

    def whole(self, change: float) -> int:
        """The number of levels nearest to a change of pixel values in [0, 1].

        Raises Unexpected where they are further from it than half a gray level of 256: no image changes by it.
        """
        steps = round(change * self.top)
        if abs(steps / self.top - change) * WHITE > 0.5 + 1e-6:
            near = max(1, steps)
            raise Unexpected(f"whole gray levels, k/{self.top}", f"{change:g}", f"write {near}/{self.top}")
        return steps

    def rounded(self, images: Tensor) -> Tensor:
        """Images in [0, 1], each value moved to the nearest level (halves to the even one) and into range; new."""
        return self._bytes(images.mul(self.top)).div_(WHITE)

    def to_bytes(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as uint8, rounded as `rounded` does; on the same device. NaN has no byte: replace it."""
        return self._bytes(images.mul(self.top)).to(torch.uint8)

    def moved(self, images: Tensor, steps: Tensor) -> Tensor:
        """Images in [0, 1] moved by so many levels (which broadcast against them), rounded, into range; new."""
        return self._bytes(images * self.top + steps).div_(WHITE)

    def nearest(self, values: Tensor) -> Tensor:
        """Values on the scale 0..255, not beyond it -> pixel values in [0, 1] at the nearest levels; new."""
        return self._bytes(values.mul(self.top / WHITE)).div_(WHITE)

    def at(self, levels: Tensor) -> Tensor:
        """Numbers of levels, whole, from 0 to `top` -> their pixel values in [0, 1], float32; new."""
        return self._bytes(levels.to(torch.float32, copy=True)).div_(WHITE)

    def _bytes(self, levels: Tensor) -> Tensor:
        """Numbers of levels -> the bytes of the nearest ones, as floats, in the same memory; NaN stays."""
        levels.round_().clamp_(0, self.top)
        if self.top == WHITE:
            return levels
        # By a tensor: some devices multiply by a number's inverse instead, and a half would fall on the wrong side.
        return levels.mul_(WHITE).div_(levels.new_full((), self.top)).round_()


EIGHT_BITS = Levels()
"""Every byte is a level."""
