"""Charts as SVG files, drawn once for light and once for dark pages. Altair is imported only when a chart is drawn.

Colours are Okabe & Ito's, and each line has its own marker; dashes mean "uses gradients"; labels stand beside the
lines, so no chart needs its colours to be read. Every chart has a table twin on its page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...bench.errors import Unexpected
from ..record.record import AttackResult, Measure
from ..record.words import printable

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_LIGHT = (*_HUES, "#1c1e21", "#56B4E9")
_DARK = ("#56B4E9", *_HUES[1:], "#e8e6e1", "#0072B2")


def _lines(colours: Sequence[str]) -> dict[str, str]:
    return {f"line{i}": colour for i, colour in enumerate(colours)}


THEMES: dict[str, dict[str, str]] = {
    "light": _lines(_LIGHT)
    | {"ink": "#1c1e21", "muted": "#5c6066", "grid": "#e4e2dc", "paper": "#fdfcf9", "accent": "#0072B2"},
    "dark": _lines(_DARK)
    | {"ink": "#e8e6e1", "muted": "#a3a7ad", "grid": "#33373c", "paper": "#16181b", "accent": "#56B4E9"},
}
"""Theme -> what a colour is for -> the colour. Charts are composed with the names and painted once a theme. The lines'
colours are `line0` to `line6`."""

_SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"),
    "M0,-1L0.29,-0.4L0.95,-0.31L0.48,0.15L0.59,0.81L0,0.5L-0.59,0.81L-0.48,0.15L-0.95,-0.31L-0.29,-0.4Z",  # star
    "M-0.9,-0.9L0.9,-0.9L0,0L0.9,0.9L-0.9,0.9L0,0Z",  # hourglass
    "M-0.5,-0.87L0.5,-0.87L1,0L0.5,0.87L-0.5,0.87L-1,0Z",  # hexagon
    "M-0.9,-0.9L-0.9,0.9L0,0L0.9,0.9L0.9,-0.9L0,0Z",  # bow tie
)
_LEAST_GAP = 18.0
"""Pixels between the baselines of two labels."""


def _spread(wanted: Sequence[float], least: float, top: float, bottom: float) -> list[float]:
    """Positions as near to `wanted` as `least` apart allows, within [top, bottom] where they fit; input order."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    placed = [wanted[i] for i in order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + least)
    limit = bottom
    for i in reversed(range(len(placed))):
        placed[i] = max(min(placed[i], limit), top + least * i)
        limit = placed[i] - least
    out = [0.0] * len(wanted)
    for position, i in zip(placed, order, strict=True):
        out[i] = position
    return out


def _steps(attack: AttackResult) -> list[tuple[float, float]]:
    """`(queries, share fooled)` of a success curve from the first query to the budget; x starts at 1 for the log."""
    n = attack.fooling_ratio.n or max((fooled for _, fooled in attack.curve), default=0)
    if not n:
        return []
    points = [(1.0, 0.0)]
    points += [(max(1.0, float(queries)), fooled / n) for queries, fooled in sorted(attack.curve)]
    points.append((max(points[-1][0], float(attack.budget), 1.0), points[-1][1]))
    return points


def fooled_by(attack: AttackResult, queries: float) -> float | None:
    """The share fooled within so many queries; None beyond the budget, or where there is no curve."""
    if not attack.curve or queries > max(attack.budget, max(q for q, _ in attack.curve)):
        return None
    return max((y for x, y in _steps(attack) if x <= queries), default=0.0)


@dataclass(frozen=True)
class Line:
    """One attack's curve."""

    name: str
    title: str
    attack: AttackResult
    place: int
    """Of the attack in its battery, from 0: it decides colour and marker, alike on all pages of a board."""

    @property
    def colour(self) -> str:
        """By its name in THEMES. Colours come again after seven, never with the same marker in the first 84."""
        return f"~line{self.place % len(_LIGHT)}"

    @property
    def shape(self) -> str:
        """Vega's name of the marker, or its outline."""
        return _SHAPES[self.place % len(_SHAPES)]

    @property
    def double(self) -> bool:
        """Whether it is drawn as two strokes, since its colour came before."""
        return self.place >= len(_LIGHT)


def _label(title: str) -> list[str]:
    """An attack's title in two short lines where it has a part in brackets."""
    first, bracket, rest = printable(title, 60).partition(" (")
    return [first, f"({rest}"] if bracket else [first]


def _paint(spec: Any, colours: Mapping[str, str]) -> Any:
    """The spec with every colour's name replaced by the colour; data stay as they are, whatever they say."""
    if isinstance(spec, dict):
        return {k: v if k in ("data", "datasets") else _paint(v, colours) for k, v in spec.items()}
    if isinstance(spec, list):
        return [_paint(v, colours) for v in spec]
    return colours.get(spec[1:], spec) if isinstance(spec, str) and spec.startswith("~") else spec


def _spec(layers: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Vega-Lite with colours by name. `texts` stand at the right edge; their width depends on the reader's fonts, so
    room is left for wide ones."""
    padding = {"left": 2, "right": 6 + round(1.6 * max(map(len, texts))), "top": 6, "bottom": 2}
    return (
        layers.configure(font=FONT, background="transparent", padding=padding)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="~muted",
            titleColor="~ink",
            titleFontWeight="normal",
            titleFontSize=13,
            labelFontSize=12,
            labelFlush=False,
            gridColor="~grid",
            domainColor="~muted",
            tickColor="~muted",
            titlePadding=10,
        )
        .to_dict()
    )


def svgs(layers: Any, texts: Sequence[str]) -> dict[str, str]:
    """Theme -> SVG of an Altair chart whose colours are `~` and a name in THEMES; `texts` stand at its right edge."""
    import vl_convert

    spec = _spec(layers, texts)
    return {
        name: vl_convert.vegalite_to_svg(_paint(spec, colours), allowed_base_urls=[])
        for name, colours in THEMES.items()
    }


def png(layers: Any, texts: Sequence[str], scale: float = 2.0) -> bytes:
    """The light form of such a chart as PNG on its paper, `scale` pixels to the CSS pixel."""
    import vl_convert

    spec = _paint(_spec(layers, texts), THEMES["light"])
    spec["config"]["background"] = THEMES["light"]["paper"]
    return vl_convert.vegalite_to_png(spec, scale=scale, allowed_base_urls=[])


def size(svg: str) -> tuple[int, int]:
    """Width and height of a chart in CSS pixels, so that a page can keep its place."""
    found = re.match(r'<svg[^>]*? width="(\d+)" height="(\d+)"', svg)
    if found is None:
        raise Unexpected("an SVG with width and height", f"{svg[:80]!r}", "check the installed vl-convert")
    return int(found[1]), int(found[2])


def success_curves(lines: Sequence[Line], width: int = 320, height: int = 230) -> dict[str, str]:
    """Theme -> SVG of the share of tasks fooled against the queries spent on a task, one line an attack; empty where no
    attack has a curve."""
    import altair as alt

    curves = [(line, steps) for line in lines if (steps := _steps(line.attack)) and line.attack.curve]
    if not curves:
        return {}
    top = max(steps[-1][0] for _, steps in curves)
    decades = range(math.ceil(math.log10(max(top, 10))) + 1)
    paths, marks, ends = _traced(curves, decades, height)
    scale = alt.Scale(type="log", domain=[1, max(top, 10)], nice=False)
    x = alt.X("x:Q", title="queries per task (log scale)", scale=scale)
    x = x.axis(values=[10.0**d for d in decades], format="~s", grid=False)
    y = alt.Y("y:Q", title="fooled", scale=alt.Scale(domain=[0, 1]))
    y = y.axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], domain=False, ticks=False)
    drawn = [line for line, _ in curves]
    names = [line.name for line in drawn]
    colour = alt.Color("a:N", scale=alt.Scale(domain=names, range=[line.colour for line in drawn]), legend=None)
    dashes = alt.StrokeDash("d:N", scale=alt.Scale(domain=[False, True], range=[[1, 0], [5, 3]]), legend=None)
    shapes = alt.Shape("a:N", scale=alt.Scale(domain=names, range=[line.shape for line in drawn]), legend=None)
    double = {line.name for line in drawn if line.double}
    plain, wide = ([p for p in paths if (p["a"] in double) is twice] for twice in (False, True))
    strokes = [alt.Chart(alt.Data(values=plain)).mark_line(interpolate="step-after", strokeWidth=2)] * bool(plain)
    strokes += [alt.Chart(alt.Data(values=wide)).mark_line(interpolate="step-after", strokeWidth=4.4)] * bool(wide)
    gap = alt.Chart(alt.Data(values=wide)).mark_line(interpolate="step-after", strokeWidth=1.6, color="~paper")
    ending = alt.Chart(alt.Data(values=ends))
    layers = alt.layer(
        ending.mark_rule(color="~muted", strokeWidth=0.8, strokeDash=[1, 3]).encode(
            x=x, y=y, x2=alt.value(width + 10), y2="to:Q"
        ),
        *(stroke.encode(x=x, y=y, color=colour, strokeDash=dashes, order="i:Q") for stroke in strokes),
        *([gap.encode(x=x, y=y, detail="a:N", order="i:Q")] * bool(wide)),
        alt.Chart(alt.Data(values=marks))
        .mark_point(filled=True, size=46, opacity=1, stroke="~paper", strokeWidth=1)
        .encode(x=x, y=y, color=colour, shape=shapes),
        ending.mark_point(filled=True, size=46, opacity=1).encode(
            x=alt.value(width + 17), y=alt.Y("to:Q"), color=colour, shape=shapes
        ),
        ending.mark_text(align="left", baseline="middle", fontSize=12.5, lineHeight=15, color="~ink").encode(
            x=alt.value(width + 26), y=alt.Y("to:Q"), text="t:N"
        ),
    ).properties(width=width, height=height)
    return svgs(layers, [part for line in drawn for part in _label(line.title)])


def _traced(curves: Sequence[tuple[Line, Any]], decades: range, height: int) -> tuple[list[Any], list[Any], list[Any]]:
    """The rows of a chart of success curves: the corners of every line, its marks at each power of ten, and its end
    with a label, which keeps clear of the others'."""
    paths, marks, ends = [], [], []
    labels = _spread([height * (1 - steps[-1][1]) for _, steps in curves], 2 * _LEAST_GAP, 6, height - 6)
    for (line, steps), label in zip(curves, labels, strict=True):
        name, dash = line.name, line.attack.mode == "gradient"
        paths += [{"a": name, "d": dash, "i": i, "x": x, "y": y} for i, (x, y) in enumerate(steps)]
        stops = [10.0**d for d in decades if 10.0**d < steps[-1][0]] + [steps[-1][0]]
        seen = [(x, max(y for q, y in steps if q <= x)) for x in stops]
        marks += [{"a": name, "x": x, "y": y} for x, y in seen if y > 0 or x == stops[-1]]
        end, told = steps[-1], _label(line.title)
        ends.append({"a": name, "x": end[0], "y": end[1], "to": 1 - label / height, "t": told})
    return paths, marks, ends


@dataclass(frozen=True)
class Point:
    """One entry of the overview."""

    name: str
    clean: Measure
    """0 to 1."""
    robust: Measure
    """0 to 100."""
    ranked: bool


def overview(points: Sequence[Point], width: int = 520, height: int = 300, labels: int = 12) -> dict[str, str]:
    """Theme -> SVG of robust score against clean accuracy with 95% whiskers, the first `labels` points named; empty
    below two points."""
    import altair as alt

    rows = [row for p in points if (row := _row(p)) is not None]
    if len(rows) < 2:
        return {}
    low = max(0.0, math.floor(min(r["x0"] for r in rows) / 5) * 5)
    high = min(100.0, math.ceil(max(r["y1"] for r in rows) / 10) * 10)
    named = rows[:labels]
    for row, place in zip(
        named, _spread([height * (1 - r["y"] / high) for r in named], _LEAST_GAP, 0, height), strict=True
    ):
        row["to"] = high * (1 - place / height)
    x = alt.X("x:Q", title="clean accuracy, %", scale=alt.Scale(domain=[low, 100], nice=False)).axis(tickCount=6)
    y = alt.Y("y:Q", title="robust score", scale=alt.Scale(domain=[0, high], nice=False))
    y = y.axis(domain=False, tickCount=5, ticks=False)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    texts = alt.Chart(alt.Data(values=named))
    fill = alt.condition("datum.ranked", alt.value("~accent"), alt.value("~paper"))
    layers = alt.layer(
        texts.mark_rule(color="~muted", strokeWidth=0.6, strokeDash=[2, 3]).encode(
            x=x, y=y, x2=alt.value(width + 12), y2="to:Q"
        ),
        base.mark_rule(color="~muted").encode(x=alt.X("x0:Q"), x2="x1:Q"),
        base.mark_rule(color="~muted").encode(y=alt.Y("y0:Q"), y2="y1:Q"),
        base.mark_point(size=70, opacity=1, strokeWidth=1.8, stroke="~accent").encode(
            fill=fill, shape=alt.condition("datum.ranked", alt.value("circle"), alt.value("square"))
        ),
        texts.mark_text(align="left", baseline="middle", fontSize=12.5, color="~ink").encode(
            x=alt.value(width + 16), y=alt.Y("to:Q"), text="name:N"
        ),
    ).properties(width=width, height=height)
    return svgs(layers, [r["name"] for r in named])


def _row(point: Point) -> dict[str, Any] | None:
    clean, robust = point.clean, point.robust
    if clean.value is None or robust.value is None:
        return None
    return {
        "name": printable(point.name, 30),
        "ranked": point.ranked,
        "x": 100 * clean.value,
        "x0": 100 * (clean.low if clean.low is not None else clean.value),
        "x1": 100 * (clean.high if clean.high is not None else clean.value),
        "y": robust.value,
        "y0": robust.low if robust.low is not None else robust.value,
        "y1": robust.high if robust.high is not None else robust.value,
    }
