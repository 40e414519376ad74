"""The ranked rows in the report: what the robust score is the mean of."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ...leaderboard.record.record import Record, RowResult
from ...leaderboard.record.rows import RankedRow
from ...leaderboard.record.words import DASH, percent, printable, share_interval, signed
from .report_table import Section


def ranked_rows(record: Record) -> RenderableType:
    """One line a row, and beneath them what must be known before comparing them."""
    table = Section(
        "Ranked rows",
        "in %: endurance, how long tasks hold out (the robust score is its mean); survival at the full budget",
        ("at 0.99", "over"),
    )
    table.add_column("row")
    for name in ("endurance", "95%", "at 0.99", "survival", "lift"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("over", no_wrap=True)
    notes = []
    for row in record.battery.ranked:
        result, title = record.rows.get(row.name), printable(row.title, 60)
        table.add_row(Text(title), *_cells(result), Text(_over(row), "dim"))
        if result is not None and (result.words or result.endurance.value is None):
            notes.append(f" {title}: {result.words or result.endurance.reason}")
    return Group(table, Text("\n".join(notes), "yellow")) if notes else table


def _cells(result: RowResult | None) -> list[str]:
    if result is None or result.endurance.value is None:
        return [DASH, "", "", DASH, ""]
    flat, survival, lift = result.endurance_99, result.survival.value, result.lift
    return [
        percent(result.endurance.value),
        share_interval(result.endurance),
        "" if flat is None or flat.value is None else percent(flat.value),
        DASH if survival is None else percent(survival),
        "" if lift is None else signed(lift, 100),
    ]


def _over(row: RankedRow) -> str:
    if row.curve:
        return f"ε 0 to {row.curve[-1]:.3g}"
    return f"{row.first:,} to {row.budget:,} passes"
