"""What discrimination.py measured as docs/discrimination.md holds it, which reads well on a screen too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from discrimination_measure import CEILING, FLOOR, MOST, SCORES

HEADS = {
    "endurance": "endurance at τ",
    "endurance_99": "endurance at 0.99",
    "survival": "survival at τ",
    "survival_99": "survival at 0.99",
}


def markdown(found: dict[str, Any]) -> str:
    """The tables of discrimination_measure.table_of."""
    tables = [_scores(found), _rows(found), _submissions(found), _beside(found)]
    return "\n\n".join("\n".join(table) for table in map(list, tables) if table) + "\n"


def _scores(found: dict[str, Any]) -> Iterator[str]:
    order = found["agreement"]
    n = len(found["submissions"])
    yield f"### {found['battery']}, {found['tier']} tier: {n} submissions, {n * (n - 1) // 2} pairs"
    yield ""
    yield "| score | pairs told apart | share |" + (
        " agreement with the outside order (Kendall's τ) |" if order else ""
    )
    yield "|---|---|---|" + ("---|" if order else "")
    for score in SCORES:
        pairs = found["pairs"][score]
        line = f"| {score} | {pairs['separated']} of {pairs['pairs']} | {pairs['share']:.2f} |"
        if order:
            line += f" {_number(order[score]['tau'], 2)} over {order[score]['n']} |"
        yield line


def _rows(found: dict[str, Any]) -> Iterator[str]:
    yield "| ranked row | | least | median | most | at its ceiling | at its floor |"
    yield "|---|---|---|---|---|---|---|"
    for row in found["rows"]:
        for key, head in HEADS.items():
            if (spread := row[key]) is not None:
                perturb = row["endurance_99"] is None
                values = " | ".join(f"{spread[name]:.2f}" for name in ("min", "median", "max"))
                ends = " | ".join(_end(spread[name]) for name in ("ceiling", "floor"))
                yield f"| {row['title']} | {head.split(' at ')[0] if perturb else head} | {values} | {ends} |"
    yield ""
    yield (
        f"At its ceiling: from {CEILING} of clean accuracy on; at its floor: {FLOOR} at most; in bold where that holds "
        "for more than half of the submissions. By endurance, which ranks, that is: "
        + ("; ".join(f"{s['row']} at its {s['end']} ({HEADS[s['of']]})" for s in found["stuck"]) or "no row")
        + "."
    )


def _end(share: float) -> str:
    return f"**{share:.0%}**" if share > MOST else f"{share:.0%}"


def _submissions(found: dict[str, Any]) -> Iterator[str]:
    outside = found["agreement"] is not None
    yield f"| submission | clean accuracy | τ | {' | '.join(SCORES)} |{' outside |' if outside else ''} doubt |"
    yield "|---|---|---|" + "---|" * (len(SCORES) + 1 + outside)
    for s in sorted(found["submissions"], key=lambda s: -s["scores"][SCORES[1]]):
        scores = " | ".join(f"{s['scores'][name]:.1f}" for name in SCORES)
        beside = f" {_number(s['outside'], 3)} |" if outside else ""
        clean = f"{s['clean_accuracy']:.3f} | {_number(s['tau'], 3)}"
        yield f"| {s['name']} | {clean} | {scores} |{beside} {s['doubt'] or ''} |"


def _beside(found: dict[str, Any]) -> Iterator[str]:
    for left in found["left_out"]:
        yield f"- {left['name']} has no score and is left out: {left['reason']}"
    if found["not_ordered"]:
        yield f"- Not in the outside order: {', '.join(found['not_ordered'])}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
