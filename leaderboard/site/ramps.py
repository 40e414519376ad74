"""Colours for numbers: one even ramp for sizes, one with a pale middle for signs. The colour-blind can read both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CIVIDIS = np.array(
    [
        [-4.54, -35.34, 2381.73, -6402.7, 7024.72, -2710.57],
        [32.49, 170.73, 52.82, -131.46, 176.58, -67.37],
        [81.24, 442.36, -2482.43, 6167.24, -6614.94, 2475.67],
    ]
)
"""Red, green and blue as polynomials: the fit of d3-scale-chromatic to Nuñez, Anderton & Renslow 2018."""
_PUOR = ["2d004b", "542788", "8073ac", "b2abd2", "d8daeb", "f7f7f7", "fee0b6", "fdb863", "e08214", "b35806", "7f3b08"]
"""ColorBrewer's PuOr, turned round."""
Pixels = NDArray[np.uint8]


def cividis(share: NDArray[np.floating]) -> Pixels:
    """`(...)` in [0, 1] (clipped) to `(..., 3)` uint8: dark blue through gray to yellow, evenly lighter."""
    powers = np.clip(np.asarray(share, np.float64), 0, 1)[..., None] ** np.arange(6)
    return np.rint(np.clip(powers @ _CIVIDIS.T, 0, 255)).astype(np.uint8)


def signed(value: NDArray[np.floating]) -> Pixels:
    """`(...)` in [-1, 1] (clipped) to `(..., 3)` uint8: purple below 0, near white at 0, orange above."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in _PUOR], np.float64)
    at = (np.clip(np.asarray(value, np.float64), -1, 1) + 1) / 2 * (len(anchors) - 1)
    steps = np.arange(len(anchors))
    return np.rint(np.stack([np.interp(at, steps, anchors[:, i]) for i in range(3)], -1)).astype(np.uint8)
