"""What others read with programs: the CSV, the JSON and the BibTeX beside the pages, at full precision."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from ...bench.errors import Unexpected
from ..record.describe import authors_of, date_of, defenses_of, model_of, name_of
from ..record.record import Measure, Record
from ..record.words import score, score_interval, slug
from .columns import Columns, columns_of, keys_of
from .rank import Board, Standing

_TEXT = ("battery", "battery_tier", "battery_digest", "digest", "submission", "authors", "model", "defenses", "date")
_END = ("flags", "unranked_reason", "page")
_PARTS = ("", "_low", "_high", "_k", "_n")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0")


def csv_text(value: str) -> str:
    """A text cell that no spreadsheet takes for a formula: one that starts like one gets an apostrophe before it."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def leaderboard_csv(boards: Sequence[Board], pages: dict[int, str]) -> str:
    """All boards as RFC 4180 CSV with a header line; empty cells where nothing was measured, and where a board does
    not rank what another one does. `pages` holds each record's page by `id`.

    Raises ValueError where a ranked row's name is the name of another column.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    columns = [columns_of(board.battery) for board in boards]
    keys, rows = keys_of(columns), list(dict.fromkeys(c.key for several in columns for c in several.rows))
    numbers = [f"{key}{part}" for key in keys for part in _PARTS]
    head = ["rank", "tier", *_TEXT, *numbers, *(f"{name}_mode" for name in rows), *_END]
    if twice := sorted({name for name in head if head.count(name) > 1}):
        raise Unexpected("ranked rows named otherwise than other columns", twice[0], "leave its runs out")
    writer.writerow(head)
    for board, own in zip(boards, columns, strict=True):
        for standing in board.standings:
            writer.writerow(_row(standing, pages[id(standing.record)], own, keys, rows))
    return out.getvalue()


def _row(standing: Standing, page: str, columns: Columns, keys: Sequence[str], rows: Sequence[str]) -> list[object]:
    record = standing.record
    battery = record.battery
    text = [battery.name, battery.tier, battery.digest, record.digest, name_of(record), "; ".join(authors_of(record))]
    text += [model_of(record), " → ".join(defenses_of(record)), date_of(record)]
    own = {c.key: c.of(record) for c in columns.all}
    measures = [own.get(key, Measure(value=None)) for key in keys]
    numbers = [x for m in measures for x in (m.value, m.low, m.high, m.k, m.n)]
    ran = _modes(record)
    modes = [ran.get(name) for name in rows]
    end = [" ".join(sorted({f.code for f in record.flags})), standing.reason or "", page]
    return [standing.rank, standing.tier, *map(csv_text, text), *numbers, *modes, *map(csv_text, end)]


def _modes(record: Record) -> dict[str, str]:
    """Ranked row -> how its first attack saw the victim, of those that the record holds."""
    ranked = record.battery.ranked
    return {row.name: record.attacks[row.entries[0]].mode for row in ranked if row.entries[0] in record.attacks}


def leaderboard_json(boards: Sequence[Board], pages: dict[int, str]) -> str:
    """All boards as one JSON document: every number with its interval, k and n, and its reason where it is null."""
    content = {
        "schema": 1,
        "boards": [
            {
                "battery": board.battery.model_dump(mode="json"),
                "entries": [_entry(s, pages[id(s.record)], columns_of(board.battery)) for s in board.standings],
            }
            for board in boards
        ],
    }
    return json.dumps(content, ensure_ascii=True, indent=1, allow_nan=False) + "\n"


def _measure(measure: Measure) -> dict[str, Any]:
    return measure.model_dump(mode="json", exclude_none=True) | {"value": measure.value}


def _entry(standing: Standing, page: str, columns: Columns) -> dict[str, Any]:
    record = standing.record
    return {
        "rank": standing.rank,
        "tier": standing.tier,
        "unranked_reason": standing.reason,
        "submission": name_of(record),
        "authors": authors_of(record),
        "model": model_of(record),
        "defenses": defenses_of(record),
        "date": date_of(record),
        "digest": record.digest,
        "scores": {c.key: _measure(c.of(record)) for c in columns.all},
        "modes": _modes(record),
        "flags": sorted({f.code for f in record.flags}),
        "page": page,
        "record": page.removesuffix("index.html") + "record.json",
    }


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: str) -> str:
    return re.sub(r"[\\~^{}%&#$_]", lambda m: _TEX.get(m[0], "\\" + m[0]), text)


def bibtex(record: Record) -> str:
    """A BibTeX entry for one result, with TeX's special characters escaped."""
    year = date_of(record)[:4]
    key = f"{slug(name_of(record))}-{record.battery.name}-{record.digest[:8]}"
    lines = [f"  title = {{{{{_tex(name_of(record))}}}: robustness on {_tex(record.battery.name)}}}"]
    if authors := authors_of(record):
        lines.insert(0, f"  author = {{{' and '.join(_tex(a) for a in authors)}}}")
    if year.isdigit():
        lines.append(f"  year = {{{year}}}")
    note = f"foolbench record {record.digest[:16]}"
    if record.scores.robust_score.value is not None:
        interval = score_interval(record.scores.robust_score).replace("–", "--")
        note += f", robust score {score(record.scores.robust_score)}" + (
            f" (95\\% interval {interval})" if interval else ""
        )
    lines.append(f"  note = {{{note}}}")
    return f"@misc{{{re.sub(r'[^A-Za-z0-9:_-]', '-', key)},\n" + ",\n".join(lines) + "\n}\n"
