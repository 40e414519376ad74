"""Pictures for one's own folder, as PNG: an image with its maps, and an image that loses copy after copy of its motif.

Texts are in the font that comes with Pillow, in ASCII, so that the same numbers give the same bytes on every machine
with the same Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .charts import png
from .maps import Frame, Map, Scales, drawn, enlarged, outlined, pale
from .ramps import Pixels, cividis, signed
from .repetition import Curves, curves_chart

PAPER, INK, MUTED = (253, 252, 249), (28, 30, 33), (92, 96, 102)
_PANEL = 224
_GAP = 24
_LINE = 20
_BAR = 14
_TITLE = 17


@dataclass(frozen=True)
class MappedImage:
    """One image and its maps; see attacks/responses/psychophysics.py for what was measured."""

    image: Pixels
    """`(c, h, w)` uint8."""
    other: Pixels
    """`(c, h, w)` uint8: the image that `activation` was measured on."""
    local: Map
    """`(rows, columns)`, as are the next two."""
    spatial: Map
    activation: Map
    threshold: float
    """Of |activation|; places beyond it are marked with a dot. NaN where not measured, as are places."""


def maps_figure(mapped: MappedImage, frame: Frame, scale: Scales, title: str, notes: Sequence[str]) -> bytes:
    """The image with its strongest window outlined, beside it the three maps, the first two over it and the third over
    the image that it was measured on; their colour bars below.

    `notes` stand under the four panels, one each.
    """
    zoom = frame.zoom(_PANEL)
    picture = enlarged(mapped.image, zoom)
    ground, other = pale(picture), pale(enlarged(mapped.other, zoom))
    top, left = (int(i) * frame.stride * zoom for i in np.unravel_index(mapped.local.argmax(), mapped.local.shape))
    activation = drawn(scale.activation(mapped.activation), frame, zoom, other, np.isnan(mapped.activation))
    panels = [
        outlined(picture, top, left, frame.side * zoom),
        drawn(scale.response(mapped.local), frame, zoom, ground),
        drawn(scale.response(mapped.spatial), frame, zoom, ground),
        _dotted(activation, np.abs(mapped.activation) > mapped.threshold, frame, zoom),
    ]
    heads = ("image, strongest window outlined", "local", "spatial", "activation-inhibition, other image")
    height, width = picture.shape[:2]
    step = max(width, _PANEL) + _GAP
    sheet = _Sheet(4 * step + _GAP, 3 * _GAP + 5 * _LINE + height + _BAR)
    sheet.write(_GAP, _GAP, title, _TITLE)
    y = _GAP + 2 * _LINE
    share = np.broadcast_to(np.linspace(0, 1, width), (_BAR, width))
    ramps = (None, cividis(share), cividis(share), signed(2 * share - 1))
    probability, change = ("p", f"{scale.low:g}", f"{scale.high:g}"), ("change of ln p", f"-{scale.change:g}", "")
    ends = (None, probability, probability, (change[0], change[1], f"+{scale.change:g}"))
    for i, (panel, head, note, ramp, end) in enumerate(zip(panels, heads, notes, ramps, ends, strict=True)):
        x = _GAP + i * step
        sheet.write(x, y, head)
        sheet.paste(x, y + _LINE, panel)
        below = y + _LINE + height + _GAP // 3
        sheet.write(x, below, note, colour=MUTED)
        if ramp is not None and end is not None:
            sheet.paste(x, below + _LINE + 4, ramp)
            words, low, high = end
            under = below + _LINE + _BAR + 8
            sheet.write(x, under, low, colour=MUTED)
            sheet.write(x + width // 2, under, words, colour=MUTED, anchor="ma")
            sheet.write(x + width, under, high, colour=MUTED, anchor="ra")
    return sheet.png()


def removal_figure(
    images: Sequence[Pixels], labels: Sequence[str], corners: NDArray[np.integer], side: int, title: str
) -> bytes:
    """A row of images `(c, h, w)` uint8 with a label under each: the whole one, its copies outlined at `corners`
    `(k, 2)`, then what is left after each removal."""
    zoom = max(1, -(-140 // max(images[0].shape[1:])))
    first = enlarged(images[0], zoom)
    for row, column in corners.tolist():
        first = outlined(first, row * zoom, column * zoom, side * zoom)
    pictures = [first, *(enlarged(image, zoom) for image in images[1:])]
    height, width = first.shape[:2]
    columns = min(len(pictures), max(1, 1160 // (width + _GAP)))
    rows = -(-len(pictures) // columns)
    step = height + _LINE + _GAP
    wide = max(columns * (width + _GAP), round(ImageFont.load_default(_TITLE).getlength(_plain(title))) + _GAP)
    sheet = _Sheet(wide + _GAP, 2 * _GAP + _LINE + rows * step)
    sheet.write(_GAP, _GAP, title, _TITLE)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = _GAP + (i % columns) * (width + _GAP), 2 * _GAP + _LINE + (i // columns) * step
        sheet.paste(x, y, picture)
        sheet.write(x, y + height + 4, label, colour=MUTED)
    return sheet.png()


def added_chart(ranked: Curves, random: Curves) -> bytes | None:
    """The response to 1, 2, ... copies of each image's patch, at the best and at random positions."""
    names = ("best positions", "random positions")
    chart = curves_chart(ranked, random, names=names, x="copies of the patch", y="p (log scale)", first=1, log=True)
    return None if chart is None else png(chart, names)


def removed_chart(removed: Curves, control: Curves) -> bytes | None:
    """The confidence after 0, 1, ... removals: copies of the motif `(n, k + 1)`, and random windows likewise."""
    names = ("copies of the motif", "random windows")
    chart = curves_chart(removed, control, names=names, x="windows removed", y="confidence", first=0, log=False)
    return None if chart is None else png(chart, names)


def _plain(text: str) -> str:
    """The text with what Pillow's own font cannot draw replaced by question marks."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _dotted(picture: Pixels, marked: NDArray[np.bool_], frame: Frame, zoom: int) -> Pixels:
    """A copy with a black dot in the middle of each marked square."""
    out = picture.copy()
    for row, column in np.argwhere(marked):
        y, x = frame.square(int(row), int(column), zoom)
        inset = max(0, (y.stop - y.start - 1) * 3 // 8)
        out[y.start + inset : y.stop - inset, x.start + inset : x.stop - inset] = 0
    return out


class _Sheet:
    """A page to draw on."""

    def __init__(self, width: int, height: int) -> None:
        self._picture = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._picture)

    def write(
        self, x: int, y: int, text: str, size: int = 13, colour: tuple[int, int, int] = INK, anchor: str = "la"
    ) -> None:
        self._draw.text((x, y), _plain(text), colour, ImageFont.load_default(size), anchor)

    def paste(self, x: int, y: int, pixels: Pixels) -> None:
        self._picture.paste(Image.fromarray(np.ascontiguousarray(pixels)), (x, y))

    def png(self) -> bytes:
        out = io.BytesIO()
        self._picture.save(out, "PNG", optimize=True)
        return out.getvalue()
