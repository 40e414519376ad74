"""The rows of defenses.py as docs/defenses.md holds them: one table a network, each with its bare model first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from defenses_rows import RANKED

Row = dict[str, Any]
HEADS = ("evolution", "CPPN", "Deepception", "one pixel", "FGSM", "ascent")


def markdown(rows: list[Row]) -> str:
    """The tables. Proportions and scores stand with their 95% intervals; what was not measured with a dash."""
    tables = []
    for model in dict.fromkeys(r["model"] for r in rows):
        mine = [r for r in rows if r["model"] == model]
        tables.append("\n".join(_table(model, mine)))
    return "\n\n".join(tables) + "\n"


def _table(model: str, rows: list[Row]) -> Iterator[str]:
    yield f"### {model}, {rows[0]['battery']}, {rows[0]['tier']} tier"
    yield ""
    yield f"| defense | clean accuracy | {' | '.join(HEADS)} | robust score | difference | ms an image | flags |"
    yield "|---|" + "---|" * 11
    measured = [r for r in rows if r["error"] is None]
    if measured:
        first = measured[0]
        score = _scored(first["bare_robust_score"], first["intervals"]["bare_robust_score"])
        ratios = " | ".join(_ratio(first["bare_fooling_ratios"][name]) for name in RANKED)
        accuracy = _share(first["bare_clean_accuracy"], *first["intervals"]["bare_clean_accuracy"])
        yield f"| *none* | {accuracy} | {ratios} | {score} | | | {_flags(first['bare_flags'])} |"
    for r in rows:
        yield _line(r)


def _line(r: Row) -> str:
    name = r["defense"]
    if r["planted"]:
        name = f"*{name}* (false, {'caught' if r['caught'] else 'skipped' if r.get('skipped') else '**not caught**'})"
    elif r["false_alarm"]:
        name = f"{name} (**false alarm**)"
    if r["error"] is not None:
        return f"| {name} |{' – |' * 7} – | – | – | {r['error']} |"
    ratios = " | ".join(_ratio(r["fooling_ratios"][attack]) for attack in RANKED)
    score, difference = _scored(r["robust_score"], r["intervals"]["robust_score"]), f"{r['difference']:+.1f}"
    return (
        f"| {name} | {_share(r['clean_accuracy'], *r['intervals']['clean_accuracy'])} | {ratios} | {score} | "
        f"{difference} ({r['low']:+.1f} to {r['high']:+.1f}) | {_cost(r['overhead_ms'])} | {_flags(r['flags'])} |"
    )


def _ratio(ratio: dict[str, Any]) -> str:
    if ratio["value"] is None:
        return "–"
    return _share(ratio["value"], ratio["low"], ratio["high"]) + ("" if ratio["mode"] != "surrogate" else " ˢ")


def _share(value: float, low: float, high: float) -> str:
    """In percent, since a wide table is read digit by digit."""
    return f"{value:.0%} ({100 * low:.0f}–{100 * high:.0f})"


def _scored(value: float, interval: list[float]) -> str:
    return f"{value:.1f} ({interval[0]:.1f}–{interval[1]:.1f})"


def _cost(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:.4f}"


def _flags(codes: list[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)
