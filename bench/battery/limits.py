"""The limits of the Perturb attacks, which the judge holds every final image to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

HALF_GRAY_LEVEL = 0.5 / 255
"""What rounding to 8 bits may add to a change."""


@dataclass(frozen=True)
class Limit:
    """How far a final image may be from its original: a largest change, or a number of pixels."""

    kind: Literal["linf", "pixels"]
    value: float
    """linf: in units of the pixel range [0, 1]. pixels: how many positions may differ in any channel."""

    def sizes(self, originals: Tensor, finals: Tensor) -> Tensor:
        """`(t, c, h, w)` 8-bit images (uint8) twice -> `(t,)` float64: each image's change in the limit's own unit."""
        change = (finals.to(torch.int16) - originals.to(torch.int16)).abs()
        if self.kind == "pixels":
            return (change.amax(1) > 0).flatten(1).sum(1).double()
        return change.flatten(1).amax(1).double() / 255

    def kept(self, sizes: Tensor) -> Tensor:
        """`(t,)` bool: which sizes are within the limit."""
        slack = HALF_GRAY_LEVEL + 1e-9 if self.kind == "linf" else 0.0
        return sizes <= self.value + slack

    def __str__(self) -> str:
        if self.kind == "linf":
            return f"L∞ ≤ {self.value:g}"
        return f"{self.value:g} pixel{'s' if self.value != 1 else ''}"
