"""Maps of a network's responses as pixels: one cell a window position, where that window's centre stands in the image.

Responses (probabilities) are coloured by their logarithm, since they differ by orders of magnitude; changes of a log
probability by their sign and size. The scales are shared by all maps that are shown together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ramps import Pixels, cividis, signed

FLOOR = 1e-6
"""Smaller probabilities are drawn as this one, below which float32 next to 1 tells nothing."""
GRAY = 150
"""What is not measured: darker than the pale middle of the signed ramp, and without colour."""
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Where the windows of a map stand in its image."""

    height: int
    """Of the image, pixels."""
    width: int
    side: int
    """Of a window, pixels."""
    stride: int
    """Between two windows, pixels."""

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of a map; 0 where no window fits."""
        rows, columns = ((length - self.side) // self.stride + 1 for length in (self.height, self.width))
        return max(rows, 0), max(columns, 0)

    def zoom(self, least: int) -> int:
        """How many pixels a pixel of the image takes, so that the longer side has at least `least` of them and cells
        begin and end on whole ones."""
        zoom = max(1, math.ceil(least / max(self.height, self.width)))
        return zoom + 1 if zoom % 2 and (self.side - self.stride) % 2 else zoom


@dataclass(frozen=True)
class Scales:
    """What the ends of the two colour bars mean."""

    low: float
    """The probability of the darkest colour: a power of ten."""
    high: float
    """The probability of the lightest colour: a power of ten, more than `low`."""
    change: float
    """The change of the log probability at both ends of the signed ramp, above 0."""

    def response(self, probabilities: Map) -> Pixels:
        """`(...)` -> `(..., 3)`."""
        span = math.log10(self.high / self.low)
        return cividis(np.log10(np.maximum(probabilities, self.low) / self.low) / span)

    def activation(self, changes: Map) -> Pixels:
        """`(...)` -> `(..., 3)`; NaN is gray."""
        there = ~np.isnan(changes)
        return np.where(there[..., None], signed(np.where(there, changes, 0) / self.change), np.uint8(GRAY))


def scales(responses: list[Map], changes: list[Map]) -> Scales:
    """Whole decades that hold all responses (never below FLOOR), and a round largest change (NaN: not measured)."""
    low = min((float(m.min()) for m in responses if m.size), default=FLOOR)
    high = max((float(m.max()) for m in responses if m.size), default=1.0)
    bottom = math.floor(math.log10(max(low, FLOOR)) + 1e-6)
    top = math.ceil(math.log10(max(high, FLOOR)) - 1e-6)
    most = max((float(np.abs(there).max()) for m in changes if (there := m[~np.isnan(m)]).size), default=0.0)
    return Scales(10.0**bottom, 10.0 ** max(top, bottom + 1), _round_up(most))


def _round_up(value: float) -> float:
    """The least of 1, 2, 5, 10, ... (and of their tenths, hundredths, ...) that is not below; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def drawn(colours: Pixels, frame: Frame, zoom: int, around: Pixels) -> Pixels:
    """A map's cells `(rows, columns, 3)` in their places on the picture `around` `(height * zoom, width * zoom, 3)`,
    which shows where no window's centre comes; a new array."""
    out = around.copy()
    rows, columns = colours.shape[:2]
    edges = [
        [
            min(max(round(((frame.side - frame.stride) / 2 + i * frame.stride) * zoom), 0), length * zoom)
            for i in range(n + 1)
        ]
        for n, length in ((rows, frame.height), (columns, frame.width))
    ]
    for i in range(rows):
        for j in range(columns):
            out[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]] = colours[i, j]
    return out


def enlarged(image: Pixels, zoom: int) -> Pixels:
    """`(c, h, w)` uint8 with 1 or 3 channels -> `(h * zoom, w * zoom, 3)`, pixel by pixel."""
    picture = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def dimmed(picture: Pixels) -> Pixels:
    """The same in pale gray, so that colours on it stand out."""
    gray = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    return np.repeat(np.rint(200 + gray * (40 / 255))[..., None], 3, -1).astype(np.uint8)


def outlined(picture: Pixels, top: int, left: int, side: int) -> Pixels:
    """A copy with a square of `side` pixels outlined in white within black, so that it is seen on every ground."""
    out = picture.copy()
    bottom, right = min(top + side, out.shape[0]), min(left + side, out.shape[1])
    for inset, colour in ((0, 0), (1, 255), (2, 0)):
        a, b, c, d = top + inset, left + inset, bottom - inset - 1, right - inset - 1
        if a <= c and b <= d:
            out[a, b : d + 1] = out[c, b : d + 1] = colour
            out[a : c + 1, b] = out[a : c + 1, d] = colour
    return out
