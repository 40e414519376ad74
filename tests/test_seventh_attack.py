"""A battery that ranks a seventh attack and has an eighth that it does not rank: its board, pages, charts, downloads
and report show both by themselves, and a board of six rows beside it stays as it was."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from foolbench.bench.evaluation.report import render
from foolbench.leaderboard.site.charts import THEMES
from foolbench.leaderboard.site.site import build, entry_folder
from record_attacks import SIX, TITLES, Recipe
from records import RECIPES, record, write_run
from rich.console import Console

OLD = (RECIPES[1], RECIPES[3])
SEVEN = (*SIX, "square")
MORE = {"battery": "digits-v2", "ranked": SEVEN, "beside": ("plasma",)}
NEW = (
    replace(OLD[0], **MORE),
    replace(RECIPES[0], **MORE),
    replace(OLD[1], **MORE, name="interrupted", missing={"square": "stopped: it asked for more than its budget"}),
)
SITES = {"mixed": (*OLD, *NEW), "six": (*OLD, *(replace(recipe, battery="digits-v3") for recipe in OLD))}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites with the same board of six rows: `mixed` has one of seven beside it, `six` another one of six."""
    folder = tmp_path_factory.mktemp("sites")
    for name, recipes in SITES.items():
        for recipe in recipes:
            write_run(folder / "runs" / name, recipe)
        build([folder / "runs" / name], folder / name)
    return folder


def page_of(site: Path, recipe: Recipe) -> str:
    return (site / entry_folder(record(recipe)) / "index.html").read_text(encoding="utf-8")


def board_of(site: Path, battery: str) -> str:
    (page,) = site.glob(f"v/{battery}-*/index.html")
    return page.read_text(encoding="utf-8")


def heads(page: str) -> list[str]:
    return re.findall(r'<th scope="col"[^>]* data-key="([a-z0-9_]+)"', page)


KEPT = ["rank", "submission", "robust_score", "survival_score", "worst_case", "clean_accuracy"]


def test_a_board_has_the_columns_that_its_battery_ranks(sites: Path) -> None:
    old, new = (board_of(sites / "mixed", name) for name in ("digits-v1", "digits-v2"))
    assert heads(old) == [*KEPT, *SIX, "flags", "date"]
    assert heads(new) == [*KEPT, *SEVEN, "flags", "date"]
    assert "Six attacks, one scale." in old
    assert "Seven attacks, one scale." in new
    assert TITLES["square"] not in old
    assert f"unranked: {TITLES['square']}: stopped: it asked for more than its budget" in new
    assert f"<h3>{TITLES['square']}</h3>" in new  # one of its successes, for everyone to see
    assert TITLES["plasma"] not in new


def test_the_methods_page_tells_each_board_in_its_own_words(sites: Path) -> None:
    methods = (sites / "mixed" / "methods.html").read_text(encoding="utf-8")
    for board, number in (("digits-v1", "six"), ("digits-v2", "seven")):
        page = board_of(sites / "mixed", board)
        (anchor,) = re.findall(r'methods.html#(col-robust_score[^"]*)"', page)
        (article,) = re.findall(rf'<article class="definition" id="{anchor}">(.*?)</article>', methods, re.S)
        assert f"The mean over the {number} rows of 100 × endurance" in article
        assert f"<dt>Board</dt><dd>{board}</dd>" in article
    assert methods.count('id="col-fgsm"') == methods.count(">FGSM <small>") == 1
    assert "the fooling ratio of Square search (planted): share of what Square search (planted) fooled." in methods
    assert "none of the four rows on natural images" in methods
    alone = (sites / "six" / "methods.html").read_text(encoding="utf-8")
    assert alone.count("The mean over the six rows of 100 × endurance") == 1
    assert "<dt>Board" not in alone


def test_an_entry_shows_ranked_attacks_and_says_which_one_is_not(sites: Path) -> None:
    page = page_of(sites / "mixed", NEW[1])
    table = page.split('id="attacks"')[1].split("</section>")[0]
    names = re.findall(r'<th scope="row">([^<]+)<small>', table)
    assert names == [TITLES[name] for name in (*SEVEN, "plasma", "noise", "random_cppn")]
    assert table.count("unranked, in no score") == 1
    assert re.search(r"Plasma<small>[^<]+</small><small>unranked, in no score", table)
    walls = re.findall(r'id="gallery-([a-z_]+)"', page)
    assert walls == [*SEVEN, "plasma", "noise", "random_cppn"]
    assert "Survives all four" in page
    assert "Survives all three" in page_of(sites / "mixed", OLD[0])
    transfer = page.split('id="transfer"')[1].split("</section>")[0]
    assert re.findall(r'<th scope="col" class="n">([^<]+)', transfer)[:8] == [TITLES[n] for n in (*SEVEN, "plasma")]


def test_colours_follow_the_place_in_the_battery(sites: Path) -> None:
    """The line of an attack has one colour on every page of a board, whichever other attacks the record holds."""
    drawn = {}
    for recipe in NEW[:2]:
        folder = sites / "mixed" / entry_folder(record(recipe)) / "charts"
        for group, name, place in (("perturb", "square", 6), ("fool", "plasma", 0), ("perturb", "one_pixel", 3)):
            svg = (folder / f"{group}-light.svg").read_text(encoding="utf-8")
            lines = re.findall(rf'aria-label="[^"]*; a: {name};[^"]*"[^>]* stroke="(#[0-9a-fA-F]+)"', svg)
            drawn.setdefault(name, set()).update(lines)
            assert {line.lower() for line in lines} == {THEMES["light"][f"line{place}"].lower()}, name
    assert {len(colours) for colours in drawn.values()} == {1}


def test_downloads_hold_every_row_and_leave_empty_what_a_board_does_not_rank(sites: Path) -> None:
    raw = (sites / "mixed" / "leaderboard.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    assert "plasma" not in raw
    for row in rows:
        empty = [row[key] for key in ("square", "square_low", "square_high", "square_mode")]
        if row["battery"] == "digits-v1":
            assert empty == [""] * 4
        elif row["submission"] != "interrupted":
            assert all(empty)
            assert row["square_mode"] == "black_box"
            assert row["square_n"] == ""  # its interval is a bootstrap, of no proportion
    data = json.loads((sites / "mixed" / "data.json").read_text(encoding="utf-8"))
    boards = {board["battery"]["name"]: board for board in data["boards"]}
    assert [row["name"] for row in boards["digits-v2"]["battery"]["ranked"]] == list(SEVEN)
    for name, board in boards.items():
        for entry in board["entries"]:
            assert ("square" in entry["scores"]) is ("square" in entry["modes"]) is (name == "digits-v2")
            assert "plasma" not in entry["scores"] | entry["modes"]


def test_an_older_board_stays_as_it_was(sites: Path) -> None:
    """Ranks, tiers, numbers and pages are those of a site whose boards all rank six."""
    for recipe in OLD:
        folder = entry_folder(record(recipe))
        files = [p.relative_to(sites / "six") for p in sorted((sites / "six" / folder).rglob("*")) if p.is_file()]
        assert len(files) > 50
        for file in files:
            assert (sites / "mixed" / file).read_bytes() == (sites / "six" / file).read_bytes(), file
    data = [json.loads((sites / name / "data.json").read_text(encoding="utf-8")) for name in ("mixed", "six")]
    one, other = (next(b for b in d["boards"] if b["battery"]["name"] == "digits-v1") for d in data)
    assert one == other
    assert [entry["tier"] for entry in one["entries"]] == [1, 2]
    pages = [board_of(sites / name, "digits-v1") for name in ("mixed", "six")]
    # A board's own words on the methods page may have another board's beside them: only the links there differ.
    tables = [re.sub(r'(methods\.html#col-[a-z_]+)[^"]*', r"\1", page.split("<table")[1]) for page in pages]
    assert tables[0].split("</table>")[0] == tables[1].split("</table>")[0]


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_of_a_run_shows_them_too(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(record(NEW[1])))
    text = " ".join(console.export_text().replace("│", " ").split())
    places = [text.index(TITLES[name].split(" (")[0]) for name in (*SEVEN, "plasma")]
    assert places == sorted(places)
    assert "(unranked)" in text
    assert text.count("(control)") == 2
    assert "survive all four rows on natural images" in text
