"""Charts of curves over copies: responses as copies of a patch are added, confidence as copies of a motif go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .charts import _LEAST_GAP, _spread, svgs
from .maps import FLOOR

Curves = NDArray[np.float32]
"""`(n, k)`, NaN at the end of a row that is shorter."""


@dataclass(frozen=True)
class Step:
    """All curves at one number of copies."""

    copies: int
    low: float
    middle: float
    high: float
    """Quartiles over the images."""
    images: int


def quartiles(curves: Curves, first: int) -> list[Step]:
    """The quartiles of each column over the rows that reach it; columns that none reaches are left out. The first
    column stands for `first` copies."""
    steps = []
    for column in range(curves.shape[1]):
        values = curves[:, column]
        values = values[~np.isnan(values)].astype(np.float64)
        if len(values):
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
            steps.append(Step(first + column, low, middle, high, len(values)))
    return steps


def curves_chart(
    ranked: Curves,
    random: Curves,
    *,
    names: tuple[str, str],
    x: str,
    y: str,
    first: int,
    log: bool,
    width: int = 320,
    height: int = 230,
) -> Any:
    """An Altair chart of two families of curves: medians as lines (the second dashed), quartiles as bands, and the name
    of each at its end. None where no column has a value."""
    import altair as alt

    families = {name: steps for name, c in zip(names, (ranked, random), strict=True) if (steps := quartiles(c, first))}
    if not families:
        return None
    floor = FLOOR if log else 0.0
    rows = [
        {"f": name, "x": s.copies, "y": max(s.middle, floor), "a": max(s.low, floor), "b": max(s.high, floor)}
        for name, steps in families.items()
        for s in steps
    ]
    if log:
        low = 10.0 ** math.floor(math.log10(min(r["a"] for r in rows)))
        scale = alt.Scale(type="log", domain=[low, 1.0], nice=False)
        decades = range(round(math.log10(low)), 1)
        ticks = [10.0**d for d in decades if (d - decades[0]) % max(1, math.ceil(len(decades) / 7)) == 0 or d == 0]
    else:
        low, scale, ticks = 0.0, alt.Scale(domain=[0, 1]), [0, 0.25, 0.5, 0.75, 1]

    def place(value: float) -> float:
        share = math.log10(value / low) / -math.log10(low) if log else value
        return height * (1 - share)

    def value(position: float) -> float:
        share = 1 - position / height
        return low ** (1 - share) if log else share

    last = {name: [r for r in rows if r["f"] == name][-1] for name in families}
    labels = _spread([place(r["y"]) for r in last.values()], _LEAST_GAP, 6, height - 6)
    ends = [r | {"to": value(label)} for r, label in zip(last.values(), labels, strict=True)]
    most = max(r["x"] for r in rows)
    across = alt.X("x:Q", title=x, scale=alt.Scale(domain=[first - 0.1, max(most, first + 1) + 0.1], nice=False))
    across = across.axis(values=list(range(first, most + 1)), format="d", grid=False)
    up = alt.Y("y:Q", title=y, scale=scale).axis(values=ticks, format="~g" if log else ".2f", domain=False, ticks=False)
    order = list(names)
    colour = alt.Color("f:N", scale=alt.Scale(domain=order, range=["~accent", "~line1"]), legend=None)
    dash = alt.StrokeDash("f:N", scale=alt.Scale(domain=order, range=[[1, 0], [5, 3]]), legend=None)
    shape = alt.Shape("f:N", scale=alt.Scale(domain=order, range=["circle", "square"]), legend=None)
    base = alt.Chart(alt.Data(values=rows))
    ending = alt.Chart(alt.Data(values=ends))
    return alt.layer(
        base.mark_area(opacity=0.16).encode(x=across, y=alt.Y("a:Q"), y2="b:Q", color=colour),
        base.mark_line(strokeWidth=2).encode(x=across, y=up, color=colour, strokeDash=dash),
        base.mark_point(filled=True, size=46, opacity=1, stroke="~paper", strokeWidth=1).encode(
            x=across, y=up, color=colour, shape=shape
        ),
        ending.mark_text(align="left", baseline="middle", fontSize=12.5, color="~ink").encode(
            x=alt.value(width + 12), y=alt.Y("to:Q"), text="f:N"
        ),
    ).properties(width=width, height=height)


def repetition_curves(ranked: Curves, random: Curves) -> dict[str, str]:
    """Theme -> SVG of the response to 1, 2, ... copies of each image's patch, at the best and at random positions;
    empty without a curve."""
    names = ("best positions", "random positions")
    chart = curves_chart(ranked, random, names=names, x="copies of the patch", y="p (log scale)", first=1, log=True)
    return {} if chart is None else svgs(chart, names)


def removal_curves(removed: Curves, control: Curves) -> dict[str, str]:
    """Theme -> SVG of the confidence after 0, 1, ... removals: copies of the motif, and random windows likewise; empty
    without a curve."""
    names = ("copies of the motif", "random windows")
    chart = curves_chart(removed, control, names=names, x="windows removed", y="confidence", first=0, log=False)
    return {} if chart is None else svgs(chart, names)
