"""The built site, read without a browser (test_site_browser.py has one)."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from foolbench.bench.errors import InvalidInput
from foolbench.leaderboard.record.store import RunFolder
from foolbench.leaderboard.site.site import MARKER, build, entry_folder
from PIL import Image
from records import FORMULA, HOSTILE, OTHERS, RECIPES, Recipe, write_run
from small_runs import inside, one_document


class Parsed(HTMLParser):
    """What a page holds: its tags, identifiers, links and words. No attribute of it is a script or a style."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.words = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            assert not key.startswith("on"), f"{tag} {key}"
            assert key != "style", tag
            if key == "id":
                self.ids.add(value or "")
            if key in ("href", "src", "srcset") and value is not None:
                self.found.append((tag, value))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for recipe in (RECIPES[0], RECIPES[3], RECIPES[4], RECIPES[5], RECIPES[6], *OTHERS):
        write_run(folder, recipe)
    return folder


@pytest.fixture
def none(tmp_path: Path) -> Path:
    """A folder without runs."""
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def site(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "board"
    summary = build([runs], out)
    assert (summary.entries, summary.ranked, summary.boards) == (7, 4, 3)
    assert summary.files == sum(p.is_file() for p in out.rglob("*"))
    return out


def test_the_leaderboard_needs_neither_torch_nor_charts_to_start() -> None:
    code = (
        "import sys, foolbench.leaderboard.site.site; "
        "print([m for m in ('torch', 'altair', 'vl_convert', 'scipy', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_link_leads_somewhere_inside(site: Path) -> None:
    pages = {page: Parsed(page) for page in site.rglob("*.html") if page.name != "404.html"}
    outside = set()
    for page, links in pages.items():
        for tag, address in links.found:
            parts = urlsplit(address)
            if parts.scheme:
                assert tag == "a"
                outside.add(address)
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), f"{page}: {address}"
            if parts.fragment and target in pages:
                assert parts.fragment in pages[target].ids, f"{page}: {address}"
    assert outside == {"https://example.org/p", "https://example.org/?a=1&q=%22b"}


def test_hostile_names_are_text(site: Path) -> None:
    assert HOSTILE in Parsed(site / "index.html").words
    for page in site.rglob("*.html"):
        assert Parsed(page).tags.count("script") == (0 if page.name == "404.html" else 1)
        text = page.read_text(encoding="utf-8")
        assert "<img src=x" not in text
        assert 'href="javascript:' not in text
    assert all(re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{8}", p.name) for p in (site / "e").iterdir())


def test_downloads_hold_full_precision_and_no_formulas(site: Path, runs: Path) -> None:
    raw = (site / "leaderboard.csv").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == 8
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    by_name = {row["submission"]: row for row in rows if row["battery_tier"] == "standard"}
    assert f"'{FORMULA}" in by_name
    assert by_name[HOSTILE]["authors"] == f"'{FORMULA}"
    interrupted = by_name["ResNet, interrupted"]
    assert (interrupted["rank"], interrupted["cppn"], interrupted["robust_score"]) == ("", "", "")
    data = json.loads((site / "data.json").read_text())
    best = data["boards"][0]["entries"][0]
    records = {r.digest: r for r in (RunFolder(p).record for p in runs.iterdir())}
    assert best["scores"]["robust_score"]["value"] == records[best["digest"]].scores.robust_score.value
    assert float(rows[0]["robust_score"]) == best["scores"]["robust_score"]["value"]
    assert RunFolder((site / best["record"]).parent).record == records[best["digest"]]


def test_published_pictures_are_the_evidence(site: Path, runs: Path) -> None:
    run = next(RunFolder(p) for p in sorted(runs.iterdir()) if RunFolder(p).record.battery.shape == (1, 8, 8))
    finals = run.images("one_pixel")
    assert finals is not None
    shown = sorted((site / entry_folder(run.record) / "gallery").glob("one_pixel-*[0-9].png"))
    pictures = [file for file in shown if not file.stem.endswith("-x10")]
    assert len(pictures) == 8
    for file in pictures:
        assert np.array_equal(np.asarray(Image.open(file)), finals[int(file.stem.split("-")[1]), 0])


def test_rebuilds_are_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    made = [write_run(tmp_path / "runs", recipe) for recipe in (RECIPES[4], RECIPES[2])]
    build(made, tmp_path / "a")
    build(made[::-1], tmp_path / "b")
    build(made, tmp_path / "b")
    first, second = (
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()}
        for r in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "runs"]


def test_without_entries_the_site_invites(tmp_path: Path, none: Path) -> None:
    summary = build([none], tmp_path / "site")
    assert summary.entries == 0
    assert "No submissions yet" in (tmp_path / "site" / "index.html").read_text()
    assert (tmp_path / "site" / "leaderboard.csv").read_text().count("\n") == 1
    assert json.loads((tmp_path / "site" / "data.json").read_text())["boards"] == []


def test_a_failure_leaves_the_old_site(tmp_path: Path, none: Path) -> None:
    build([none], tmp_path / "site")
    old = (tmp_path / "site" / "index.html").read_bytes()
    run = write_run(none, Recipe("broken", evidence=False))
    (run / "record.json").write_text("{}")
    again = write_run(tmp_path / "more", Recipe("twice", evidence=False))
    copy = write_run(tmp_path / "copies", Recipe("twice", evidence=False))
    with pytest.raises(InvalidInput, match="schema 1, got None") as raised:
        build([none, again, copy], tmp_path / "site")
    assert "Expected one run of each submission on each battery" in str(raised.value)
    (copy / "evidence").mkdir()
    np.savez(copy / "evidence" / "fgsm.npz", images=np.zeros((3, 1, 8, 8), np.uint8))
    with pytest.raises(InvalidInput, match="Expected 120 images of fgsm, one a task, got 3"):
        build([copy], tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copies", "more", "runs", "site"]


def test_what_is_not_ours_is_never_replaced(tmp_path: Path, none: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(
        InvalidInput, match=r"Expected an empty folder or a site that foolbench built, got .* thesis\.tex"
    ):
        build([none], tmp_path / "mine")
    build([none], tmp_path / "site")
    (tmp_path / "site" / ".git").mkdir()
    with pytest.raises(InvalidInput, match=r"with \.git"):
        build([none], tmp_path / "site")
    (tmp_path / "site" / ".git").rmdir()
    (tmp_path / "site" / MARKER).unlink()
    with pytest.raises(InvalidInput, match=f"no {MARKER}"):
        build([none], tmp_path / "site")
    with pytest.raises(InvalidInput, match="Expected runs outside the site"):
        build([tmp_path / "x" / "runs"], tmp_path / "x")
    with pytest.raises(InvalidInput, match="Expected a run folder or a folder of them"):
        build([tmp_path / "nowhere"], tmp_path / "new")


def test_everything_that_is_wrong_is_told_at_once_each_with_its_file(tmp_path: Path, none: Path) -> None:
    """Two damaged records, a run given twice and a path to nothing."""
    text, schema = (write_run(none, Recipe(name, evidence=False)) / "record.json" for name in ("text", "schema"))
    text.write_text("{")
    schema.write_text('{"schema": 2}')
    again, copy = (write_run(tmp_path / where, Recipe("twice", evidence=False)) for where in ("a", "b"))
    given = [none, again, copy, tmp_path / "nowhere"]
    answer = inside("leaderboard", *given, "--out", tmp_path / "site", "--json")
    assert answer.returncode == 2
    errors = one_document(answer)["errors"]
    assert {e["code"] for e in errors} == {"FB112"}
    assert {e["file"]: e["fix"] for e in errors} == {
        str(tmp_path / "nowhere"): "check the path",
        str(schema): "use the foolbench that wrote it",
        str(text): "run the evaluation again",
        None: "leave one out",
    }
    screen = inside("leaderboard", *given, "--out", tmp_path / "site").stderr
    assert screen.count("error[FB112]") == 4
    assert "4 errors" in screen
    assert all(f"Expected {e['expected']}, got {e['got']}." == e["message"] in screen for e in errors)
    assert not (tmp_path / "site").exists()


def test_every_run_with_damaged_evidence_is_named(tmp_path: Path, none: Path) -> None:
    made = [write_run(none, recipe) for recipe in (RECIPES[0], RECIPES[3], RECIPES[4])]
    for run in made[:2]:
        np.savez(run / "evidence" / "fgsm.npz", images=np.zeros((3, 1, 8, 8), np.uint8))
    with pytest.raises(InvalidInput) as caught:
        build([none], tmp_path / "site")
    assert {problem.where.file for problem in caught.value.problems} == set(made[:2])


def test_every_run_that_cannot_stand_on_its_battery_s_board_is_named(tmp_path: Path, none: Path) -> None:
    """Two of three hold a task less of FGSM than the newest."""
    made = [write_run(none, RECIPES[i]) for i in (0, 1, 3)]
    newest = max((RunFolder(run).record for run in made), key=lambda r: (r.provenance.started, r.digest))
    others = [run for run in made if RunFolder(run).record.digest != newest.digest]
    for run in others:
        text = json.loads((run / "record.json").read_bytes())
        for column in ("tasks", "counts", "lost", "by"):
            del text["rows"]["fgsm"][column][-1]
        (run / "record.json").write_text(json.dumps(text))
    with pytest.raises(InvalidInput) as caught:
        build([none], tmp_path / "site")
    assert {problem.where.file for problem in caught.value.problems} == set(others)
    assert {problem.expected for problem in caught.value.problems} == {
        "all records of digits-v1 to hold the same tasks of fgsm"
    }
