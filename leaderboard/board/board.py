"""What a board's page shows: the rows of its table, its notes, its controls, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..record.describe import authors_of, date_of, defenses_of, model_of, name_of
from ..record.record import Measure, Record
from ..record.words import printable, score, score_interval
from .columns import Column, columns_of
from .rank import Board, Standing


@dataclass(frozen=True)
class Cell:
    """One number of one row."""

    column: Column
    measure: Measure
    text: str
    interval: str
    note: int | None
    """Where it was not measured: the number of the note that says why."""
    surrogate: bool


@dataclass(frozen=True)
class Row:
    """One entry of the table."""

    standing: Standing
    page: str
    name: str
    authors: str
    model: str
    defenses: list[str]
    date: str
    cells: tuple[Cell, ...]
    flags: tuple[str, ...]
    opens_tier: bool
    """Whether it is the first of a tier below the first."""


@dataclass(frozen=True)
class Control:
    """What a control reached over all entries of the board."""

    title: str
    k: int
    n: int
    entries: int
    worst: str
    worst_k: int
    worst_n: int


def rows_of(board: Board, pages: Mapping[int, str]) -> tuple[list[Row], list[str]]:
    """The table's rows, ranked ones first, and the notes that its dashes point at."""
    notes: list[str] = []
    rows: list[Row] = []
    above: int | None = None
    columns = columns_of(board.battery)
    for standing in board.standings:
        record = standing.record
        rows.append(
            Row(
                standing,
                pages[id(record)],
                name_of(record),
                ", ".join(authors_of(record)),
                model_of(record),
                defenses_of(record),
                date_of(record),
                tuple(_cell(record, column, notes) for column in columns.table),
                tuple(sorted({f.code for f in record.flags})),
                above is not None and standing.tier is not None and standing.tier != above,
            )
        )
        above = standing.tier
    return rows, notes


def _cell(record: Record, column: Column, notes: list[str]) -> Cell:
    measure = column.of(record)
    note = None
    if measure.value is None:
        reason = f"{column.title}: {measure.reason or 'not measured; the record gives no reason'}"
        if reason not in notes:
            notes.append(reason)
        note = notes.index(reason) + 1
    row = next((row for row in record.battery.ranked if row.name == column.key), None)
    attack = None if row is None else record.attacks.get(row.entries[0])
    surrogate = attack is not None and attack.mode == "surrogate" and measure.value is not None
    return Cell(column, measure, column.value(measure), column.interval(measure), note, surrogate)


def controls_of(board: Board) -> list[Control]:
    """Each control over all entries of the board: pooled, and the entry that it fooled most."""
    made = []
    for name in board.battery.controls:
        found = []
        for standing in board.standings:
            control = standing.record.controls.get(name)
            if control and control.fooling_ratio.k is not None and control.fooling_ratio.n:
                found.append((control.fooling_ratio.k, control.fooling_ratio.n, name_of(standing.record)))
        if found:
            k, n, worst = max(found, key=lambda f: (f[0] / f[1], f[2]))
            total_k, total_n = sum(f[0] for f in found), sum(f[1] for f in found)
            title = printable(board.battery.attacks[name].title, 60)
            made.append(Control(title, total_k, total_n, len(found), worst, k, n))
    return made


def shared_reason(board: Board) -> str | None:
    """Why nothing on the board is ranked, where that is the same for all."""
    reasons = {standing.reason for standing in board.standings}
    return reasons.pop() if len(reasons) == 1 and not board.ranked else None


def label(board: Board, others: list[Board]) -> str:
    """The board's name for people; with the start of its digest where another board has the same name."""
    battery = board.battery
    text = printable(battery.name, 40) + (" smoke" if battery.tier == "smoke" else "")
    same = [b for b in others if (b.battery.name, b.battery.tier) == (battery.name, battery.tier)]
    return text + ("" if battery.shipped else " (own)") + (f" {battery.digest[:6]}" if len(same) > 1 else "")


def headline(board: Board) -> str:
    """The board in a sentence or two."""
    ranked = board.ranked
    if not ranked:
        shared = shared_reason(board)
        return f"No entry of this board is ranked{f': {shared}' if shared else ''}."
    best = ranked[0].record
    interval = score_interval(best.scores.robust_score)
    told = f"{name_of(best)} leads with a robust score of {score(best.scores.robust_score)}"
    told += f" (95% interval {interval})." if interval else "."
    if len(ranked) == 1:
        return told + " Tiers need at least two ranked entries."
    first = sum(s.tier == 1 for s in ranked)
    if first == 1:
        return told + " The paired interval of its lead over the second leaves out 0."
    return told + f" {first} entries share the first tier: these data cannot tell them from the leader."
