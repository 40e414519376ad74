"""Maps of a network's responses as pixels: a square for each window, where its centre stands in the image.

Responses (probabilities) are coloured by their logarithm, since they differ by orders of magnitude; changes of a log
probability by their sign and size. Squares have the very colours of their scale, and the image is seen between them: a
blend of both would read as other numbers. The scales are shared by all maps that are shown together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ramps import Pixels, cividis, signed

FLOOR = 1e-6
"""Smaller probabilities are drawn as this one, below which float32 next to 1 tells nothing."""
EDGE = 40
"""The gray of a square's outline, which sets it off from every image, and strikes through what is not measured."""
_SHARE = 0.5
"""Of the step between two windows, how much a square is wide."""
_PALE = 90
"""The darkest gray of an image under a map."""
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
        """How many pixels a pixel of the image takes, so that the longer side has at least `least` of them."""
        return max(1, math.ceil(least / max(self.height, self.width)))

    def square(self, row: int, column: int, zoom: int) -> tuple[slice, slice]:
        """The pixels of a window's square, around its centre; at least one."""
        half = max(1, round(_SHARE * self.stride * zoom)) / 2
        middles = ((i * self.stride + self.side / 2) * zoom for i in (row, column))
        top, left = (max(0, math.floor(middle - half + 0.5)) for middle in middles)
        return slice(top, top + round(2 * half)), slice(left, left + round(2 * half))


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
        """`(...)` -> `(..., 3)`; NaN as no change, which `drawn` leaves out."""
        return signed(np.where(np.isnan(changes), 0, changes) / self.change)


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


def drawn(
    colours: Pixels, frame: Frame, zoom: int, ground: Pixels, unmeasured: NDArray[np.bool_] | None = None
) -> Pixels:
    """A map's colours `(rows, columns, 3)` as outlined squares on the picture `ground`
    `(height * zoom, width * zoom, 3)`.

    Of windows that are `unmeasured` `(rows, columns)` the outline alone, struck through: empty ones would look like
    no change where the picture is white. Squares too small for an outline have none. A new array.
    """
    out = ground.copy()
    for row, column in np.ndindex(colours.shape[:2]):
        y, x = frame.square(row, column, zoom)
        if y.stop - y.start > 3:
            around = slice(max(0, y.start - 1), y.stop + 1), slice(max(0, x.start - 1), x.stop + 1)
            out[around] = EDGE
        if unmeasured is not None and unmeasured[row, column]:
            out[y, x] = ground[y, x]
            steps = np.arange(min(out[y, x].shape[:2]))
            out[y, x][steps, steps] = EDGE
        else:
            out[y, x] = colours[row, column]
    return out


def enlarged(image: Pixels, zoom: int) -> Pixels:
    """`(c, h, w)` uint8 with 1 or 3 channels -> `(h * zoom, w * zoom, 3)`, pixel by pixel."""
    picture = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def pale(picture: Pixels) -> Pixels:
    """The same in 16 light grays, as the ground of a map; more would only weigh more."""
    gray = np.rint(picture.astype(np.float64) @ (0.299, 0.587, 0.114) / 17)
    return np.repeat(np.rint(_PALE + gray * ((255 - _PALE) / 15))[..., None], 3, -1).astype(np.uint8)


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
