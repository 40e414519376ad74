"""The pages: what each template is given, and where what comes out is written."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...bench.errors import Unexpected
from ..board.board import controls_of, headline, label, rows_of, shared_reason
from ..board.columns import FLAGS, columns_of, definitions_of
from ..board.export import bibtex
from ..board.rank import RESAMPLES, Board, Standing
from ..record import words
from ..record.describe import authors_of, date_of, declared_of, defenses_of, links_of, model_of, name_of, summary_of
from ..record.doubts import DOUBTS, tally, told
from ..record.store import RECORD, RunFolder
from .charts import Point, overview, size, success_curves
from .entry import (
    attacked,
    compared,
    curve_table,
    curves_of,
    heat,
    properties_of,
    ranked_of,
    submission_yaml,
    titles_of,
    transfer_of,
)
from .gallery import FAILURES, SUCCESSES, Exhibit, walls
from .heatmaps import patch_maps
from .probed import repeated_tests

_HERE = Path(__file__).parent
_ASSETS = ("site.css", "site.js", "icon.svg")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)


def environment() -> Environment:
    """Templates that escape everything and stumble over every name that does not exist."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for function in (
        words.share,
        words.share_interval,
        words.score,
        words.score_interval,
        words.signed,
        words.counts,
        words.confidence,
        words.quantity,
        words.duration,
        words.percent,
        words.plural,
        words.printable,
        words.in_words,
        heat,
    ):
        made.filters[function.__name__] = function
    made.globals.update(policy=POLICY, flags_meaning=FLAGS, doubts=DOUBTS, resamples=RESAMPLES)
    made.globals.update(successes=SUCCESSES, failures=FAILURES, dash=words.DASH)
    return made


@dataclass(frozen=True)
class Glimpse:
    """One picture for the board's page: an attack, what it found, and whose page tells more."""

    attack: str
    title: str
    exhibit: Exhibit
    folder: str
    name: str


class Pages:
    """Writes all pages of a site into `root`."""

    def __init__(
        self, root: Path, boards: list[Board], addresses: Mapping[int, str], runs: Mapping[int, RunFolder]
    ) -> None:
        self._root, self._boards, self._addresses, self._runs = root, boards, addresses, runs
        self._definitions = definitions_of({board.slug: columns_of(board.battery) for board in boards})
        self._env = environment()
        self.left_out: list[Unexpected] = []
        """What is wrong with what could not be shown; pages without it are whole."""
        self.refused: list[Unexpected] = []
        """What is wrong with runs whose evidence cannot be shown, the first of each run; their pages are missing."""

    def write(self) -> None:
        """Entries first, since a board shows a few of their pictures."""
        for name in _ASSETS:
            self._put(f"assets/{name}", (_HERE / "static" / name).read_bytes())
        glimpses = [self._entries(board) for board in self._boards]
        if not self._boards:
            self._page("index.html", "empty.html")
        several = len(self._boards) > 1
        for place, (board, seen) in enumerate(zip(self._boards, glimpses, strict=True)):
            overviews = self._overview(board)
            if place == 0:
                self._board("index.html", board, seen, overviews, several)
            if several:
                self._board(f"v/{board.slug}/index.html", board, seen, overviews, several)
        labels = {board.slug: label(board, self._boards) for board in self._boards}
        several = [(d, [labels[s] for s in d.boards] if len(d.boards) < len(labels) else []) for d in self._definitions]
        told = {a.title: a.sentence for board in self._boards for a in board.battery.attacks.values()}
        self._page("methods.html", "methods.html", definitions=several, attacks=told)
        style = (_HERE / "static" / "404.css").read_text(encoding="utf-8")
        allowed = b64encode(sha256(style.encode()).digest()).decode()
        self._page("404.html", "404.html", style=style, style_hash=allowed)

    def _board(self, path: str, board: Board, seen: list[Glimpse], overviews: dict[str, Any], several: bool) -> None:
        rows, notes = rows_of(board, self._addresses)
        others = [(b, label(b, self._boards), f"v/{b.slug}/index.html") for b in self._boards] if several else []
        newest = max(row.date for row in rows)
        self._page(
            path,
            "board.html",
            board=board,
            ranked=[r for r in rows if r.standing.rank is not None],
            unranked=[r for r in rows if r.standing.rank is None],
            notes=notes,
            columns=columns_of(board.battery),
            anchors={d.column.key: d.anchor for d in self._definitions if board.slug in d.boards},
            controls=controls_of(board),
            headline=headline(board),
            shared=shared_reason(board),
            overviews=overviews,
            glimpses=seen,
            boards=others,
            newest=newest,
        )

    def _overview(self, board: Board) -> dict[str, Any]:
        points = [
            Point(name_of(s.record), s.record.scores.clean_accuracy, s.record.scores.robust_score, s.rank is not None)
            for s in board.standings
        ]
        return self._charts(f"assets/charts/{board.slug}", overview(points))

    def _entries(self, board: Board) -> list[Glimpse]:
        seen: dict[str, Glimpse] = {}
        for standing in board.standings:
            for glimpse in self._entry(board, standing):
                seen.setdefault(glimpse.attack, glimpse)
        return [seen[name] for name in board.battery.counted if name in seen]

    def _entry(self, board: Board, standing: Standing) -> list[Glimpse]:
        record, battery, run = standing.record, board.battery, self._runs[id(standing.record)]
        path = self._addresses[id(record)]
        folder = path.removesuffix("index.html")
        try:
            exhibits, files = walls(run, battery)
            maps, map_files = patch_maps(run)
        except Unexpected as error:
            self.refused.append(error)
            return []
        try:
            tests, test_files = repeated_tests(run)
        except Unexpected as error:
            self.left_out.append(error)
            tests, test_files = (), {}
        for name, data in {**files, **map_files, **test_files}.items():
            self._put(folder + name, data)
        self._put(folder + RECORD, run.data)
        cite = bibtex(record)
        self._put(f"{folder}cite.bib", cite.encode())
        curves = []
        for key, title, lines in curves_of(record, battery):
            if charts := self._charts(f"{folder}charts/{key}", success_curves(lines)):
                curves.append((key, title, charts, curve_table(lines)))
        deepception = record.attacks.get("deepception")
        self._page(
            path,
            "entry.html",
            board=board,
            board_page=f"v/{board.slug}/index.html" if len(self._boards) > 1 else "index.html",
            standing=standing,
            record=record,
            name=name_of(record),
            authors=authors_of(record),
            model=model_of(record),
            defenses=defenses_of(record),
            links=links_of(record),
            date=date_of(record),
            summary=summary_of(record),
            titles=titles_of(battery),
            flags=told(record.flags, titles_of(battery)),
            tally=tally(record.flags),
            declared=declared_of(record),
            ranked_rows=ranked_of(record, battery),
            attacks=attacked(record, battery),
            survives=columns_of(battery).survives,
            compared=compared(record, battery),
            curves=curves,
            walls=exhibits,
            transfer=transfer_of(record, battery),
            properties=properties_of(deepception.properties if deepception else None),
            maps=maps,
            repetition=self._charts(f"{folder}charts/repetition", maps.charts) if maps else {},
            repeated=[(t, self._charts(f"{folder}charts/removed-{t.attack}", t.charts)) for t in tests],
            yaml=submission_yaml(record.submission),
            bibtex=cite,
            record_sha256=run.record_sha256,
            run_name=run.path.resolve().name,
        )
        return [
            Glimpse(wall.attack, wall.title, next(e for e in wall.exhibits if e.fooled), folder, name_of(record))
            for wall in exhibits
            if wall.attack in battery.counted and any(e.fooled for e in wall.exhibits)
        ]

    def _charts(self, stem: str, drawn: Mapping[str, str]) -> dict[str, Any]:
        """Theme -> path from the site's root, with the `width` and `height` of both; empty without a chart."""
        made: dict[str, Any] = {}
        for theme, svg in drawn.items():
            made[theme] = f"{stem}-{theme}.svg"
            made["width"], made["height"] = size(svg)
            self._put(made[theme], svg.encode())
        return made

    def _page(self, path: str, template: str, **context: object) -> None:
        root = "../" * path.count("/")
        text = self._env.get_template(template).render({"root": root, "path": path, **context})
        self._put(path, text.encode())

    def _put(self, path: str, data: bytes) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
