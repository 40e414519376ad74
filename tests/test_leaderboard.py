"""Records on disk, ranks and tiers, words, charts, galleries and the built site (without a browser)."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from foolbench.leaderboard import words
from foolbench.leaderboard.board import headline
from foolbench.leaderboard.charts import THEMES, Point, _spread, fooled_by, overview, success_curves
from foolbench.leaderboard.entry import properties_of, transfer_of
from foolbench.leaderboard.export import bibtex, csv_text
from foolbench.leaderboard.gallery import caption, difference, encode, sample
from foolbench.leaderboard.rank import Resamples, board, boards, tiers
from foolbench.leaderboard.record import ATTACKS, AttackResult, Measure, Record, TaskRow
from foolbench.leaderboard.site import MARKER, build, entry_folder
from foolbench.leaderboard.store import RunFolder, dump_record, read_record, write_record
from PIL import Image
from records import FORMULA, HOSTILE, OTHERS, RECIPES, Recipe, record, write_run


def changed(made: Record, **fields: object) -> Record:
    return made.model_copy(update=fields)


# Store


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    made = record(RECIPES[0])
    write_record(made, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == made
    assert list(json.loads((tmp_path / "record.json").read_bytes()))[:4] == [
        "schema",
        "battery",
        "submission",
        "digest",
    ]
    assert dump_record(read_record(tmp_path / "record.json")) == (tmp_path / "record.json").read_bytes()


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(record(RECIPES[0]), path)
    old = path.read_bytes()
    with pytest.raises(ValueError, match="expected finite numbers in the record"):
        write_record(changed(record(RECIPES[1]), tau=math.nan), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda c: b"{", "expected JSON, got"),
        (lambda c: b"[" * 100_000, "expected JSON, got"),
        (lambda c: b'{"schema": 1, "tau": NaN}', "expected JSON, got NaN, which is not JSON"),
        (lambda c: json.dumps(c | {"schema": 2}).encode(), "expected a record of schema 1, got 2"),
        (lambda c: json.dumps([c]).encode(), "expected a record of schema 1, got None"),
        (lambda c: json.dumps(c | {"scores": {}}).encode(), "scores.clean_accuracy: Field required"),
    ],
)
def test_what_is_not_a_record_is_refused(tmp_path: Path, spoil: Callable[[dict], bytes], told: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(spoil(json.loads(dump_record(record(RECIPES[1])))))
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        read_record(path)
    assert str(raised.value).startswith(str(path))


def test_evidence_of_another_shape_is_refused(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path, RECIPES[1]))
    images = run.images("one_pixel")
    assert images is not None
    assert images.shape == (60, 1, 8, 8)
    assert run.images("one_pixel_9") is None
    np.savez(run.path / "evidence" / "fgsm.npz", images=images.astype(np.float32))
    with pytest.raises(ValueError, match="expected uint8 images"):
        run.images("fgsm")
    np.savez(run.path / "evidence" / "fgsm.npz", images=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="expected an npz with an array `images`"):
        run.images("fgsm")


def test_the_leaderboard_needs_neither_torch_nor_charts_to_start() -> None:
    code = (
        "import sys, foolbench.leaderboard.site; "
        "print([m for m in ('torch', 'altair', 'vl_convert', 'scipy', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Ranks


def test_ranked_by_score_and_unranked_after_with_reasons() -> None:
    made = board([record(r) for r in RECIPES])
    values = [s.record.scores.robust_score.value or 0 for s in made.ranked]
    assert values == sorted(values, reverse=True)
    assert [s.rank for s in made.standings] == [1, 2, 3, 4, 5, 6, None, None]
    assert {s.reason for s in made.unranked} == {
        "FGSM: no result",
        "CPPN (indirect encoding): stopped: it asked for more than its budget",
    }
    shuffled = board([record(r) for r in reversed(RECIPES)])
    assert [(s.record.digest, s.rank, s.tier) for s in shuffled.standings] == [
        (s.record.digest, s.rank, s.tier) for s in made.standings
    ]


def test_equal_scores_share_rank_and_tier() -> None:
    one = record(RECIPES[1])
    twin = changed(one, digest="f" * 64)
    worse = record(Recipe("worse", 0.4, dict.fromkeys(ATTACKS, 0.9), seed=30))
    made = board([worse, twin, one])
    assert [(s.rank, s.tier) for s in made.standings] == [(1, 1), (1, 1), (3, 2)]
    assert tiers([one], np.random.default_rng(0)) == [None]


def test_a_tier_reaches_as_far_as_chance() -> None:
    """One entry loses m further images to one pixel alone. Its score is lower by 100 m / (6 * 60) for sure; the paired
    interval leaves out 0 once m is more than a resample can plausibly miss (each misses all with about e^-m)."""
    one = record(RECIPES[1])
    rows = one.attacks["one_pixel"].tasks
    standing = [i for i, row in enumerate(rows) if row.counts and not row.fooled]

    def weaker(m: int) -> Record:
        lost = set(standing[:m])
        tasks = [r.model_copy(update={"fooled": True}) if i in lost else r for i, r in enumerate(rows)]
        attack = one.attacks["one_pixel"].model_copy(update={"tasks": tasks})
        return changed(one, attacks=one.attacks | {"one_pixel": attack})

    assert tiers([one, weaker(2)], np.random.default_rng(1)) == [1, 1]
    assert tiers([one, weaker(8)], np.random.default_rng(1)) == [1, 2]
    difference = Resamples(one, np.random.default_rng(2))
    assert difference.interval(one, one) == (0.0, 0.0)
    low, high = difference.interval(one, weaker(8))
    assert low < 100 * 8 / 360 < high


def test_resamples_centre_on_the_score() -> None:
    made = record(RECIPES[2])
    scores = Resamples(made, np.random.default_rng(3)).scores(made)
    assert np.mean(scores) == pytest.approx(made.scores.robust_score.value, abs=0.3)


def test_records_on_other_tasks_are_not_compared() -> None:
    one = record(RECIPES[1])
    attack = one.attacks["fgsm"]
    other = changed(one, attacks=one.attacks | {"fgsm": attack.model_copy(update={"tasks": attack.tasks[:-1]})})
    with pytest.raises(ValueError, match="expected all records of digits-v1 to hold the same tasks of fgsm"):
        tiers([one, other], np.random.default_rng(0))


def test_batteries_never_mix() -> None:
    made = boards(record(r) for r in (*OTHERS, *RECIPES))
    assert [(b.battery.name, b.battery.tier, len(b.ranked)) for b in made] == [
        ("digits-v1", "standard", 6),
        ("digits-v1", "smoke", 0),
        ("my signs", "standard", 0),
    ]
    assert len({b.slug for b in made}) == 3
    assert made[1].standings[0].reason == "smoke tier, a quick check with a twentieth of the work"
    assert (
        headline(made[1]) == "No entry of this board is ranked: smoke tier, a quick check with a twentieth of the work."
    )


# Words


@pytest.mark.parametrize(
    ("value", "decimals", "told"),
    [
        (0.0, 0, "0"),
        (1.0, 1, "100"),
        (0.943, 0, "94"),
        (0.998, 0, "99.8"),
        (0.004, 0, "0.4"),
        (0.9999999, 1, "> 99.9"),
        (0.0001, 0, "< 0.1"),
        (0.9931, 1, "99.3"),
    ],
)
def test_percentages_never_round_to_what_they_are_not(value: float, decimals: int, told: str) -> None:
    assert words.percent(value, decimals).replace(words.NBSP, " ") == told


def test_quantities_and_names() -> None:
    assert words.share_interval(Measure(value=0.0, low=0.0, high=0.004)) == "0–0.4"
    shown = [words.quantity(x) for x in (None, 0, 50_000, 12_345.6, 0.8, 3.1e-6)]
    assert shown == ["—", "0", "50,000", "12,300", "0.8", "3.1 × 10⁻⁶".replace(" ", words.NBSP)]
    assert words.slug("Ünïcode & <b>Tags</b> 漢字") == "unicode-b-tags-b"
    assert words.slug("漢字") == "entry"
    assert words.printable("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc d"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JAVASCRIPT://x",
        "data:text/html,x",
        "//example.org",
        "http://",
        "https://a b",
        None,
        3,
        "https://user:pw@example.org",
        'https://example.org/"onclick=',
        "ftp://example.org",
        "http://[",
        "java\nscript:x",
    ],
)
def test_only_plain_web_addresses_are_linked(url: object) -> None:
    assert words.safe_url(url) is None
    assert words.safe_url("https://example.org/a?b=1#c") is not None


def test_formulas_become_text() -> None:
    assert [csv_text(t) for t in ("=1", "+1", "-1", "@x", "\tx", "a=1", "")] == [
        "'=1",
        "'+1",
        "'-1",
        "'@x",
        "'\tx",
        "a=1",
        "",
    ]
    assert r"title = {{100\% \& \textbackslash{}input\{x\}}" in bibtex(record(Recipe(r"100% & \input{x}")))


# Charts and galleries


def test_labels_keep_their_distance_and_their_place() -> None:
    assert _spread([50, 10, 90], 10, 0, 100) == [50, 10, 90]
    assert _spread([98, 99, 100], 10, 0, 100) == [80, 90, 100]
    assert _spread([0, 0, 0], 10, 0, 100) == [0, 10, 20]


def test_curves_are_steps_within_the_budget() -> None:
    attack = record(RECIPES[1]).attacks["one_pixel"]
    attack = attack.model_copy(
        update={"curve": [(10, 1), (100, 3)], "budget": 500, "fooling_ratio": Measure(value=0.3, k=3, n=10)}
    )
    assert [fooled_by(attack, q) for q in (1, 9, 10, 99, 100, 500, 501)] == [0.0, 0.0, 0.1, 0.1, 0.3, 0.3, None]


def test_charts_repeat_and_are_wellformed_whatever_the_names() -> None:
    points = [
        Point(name, Measure(value=0.9, low=0.8, high=0.95), Measure(value=40.0 + i), True)
        for i, name in enumerate((HOSTILE, "\x00\u202e & </svg>", FORMULA, "~ink"))
    ]
    drawn = overview(points)
    assert drawn == overview(points)
    assert list(drawn) == ["light", "dark"]
    for theme, svg in drawn.items():
        assert all(not element.tag.endswith("script") for element in ET.fromstring(svg).iter())
        assert THEMES[theme]["accent"] in svg
    texts = [element.text for element in ET.fromstring(drawn["dark"]).iter() if element.tag.endswith("}text")]
    assert {"~ink", FORMULA} <= set(texts)
    assert overview(points[:1]) == {}
    assert success_curves({}) == {}


def test_small_pictures_lose_nothing_and_large_ones_become_previews() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 8, 8), (3, 32, 32)):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        data, suffix = encode(image)
        read = np.asarray(Image.open(io.BytesIO(data)))
        assert suffix == "png"
        assert np.array_equal(
            read if shape[0] == 1 else read.transpose(2, 0, 1), image.squeeze(0) if shape[0] == 1 else image
        )
        assert encode(image)[0] == data
    data, suffix = encode(rng.integers(0, 256, (3, 224, 224), dtype=np.uint8))
    assert (suffix, Image.open(io.BytesIO(data)).size) == ("webp", (96, 96))
    assert difference(np.array([0, 9, 200], np.uint8), np.array([0, 10, 100], np.uint8)).tolist() == [128, 138, 0]


def test_the_sample_is_seeded_and_holds_failures() -> None:
    attack = record(RECIPES[1]).attacks["one_pixel"]
    chosen = sample(attack, "one_pixel", "d" * 64)
    assert chosen == sample(attack, "one_pixel", "d" * 64)
    assert [attack.tasks[i].fooled for i in chosen] == [True] * 6 + [False] * 2
    assert chosen != sample(attack, "one_pixel", "e" * 64)


def test_captions_say_what_happened() -> None:
    attacks = record(RECIPES[1]).attacks
    classes = ["zero", "one", "two"]

    def told(name: str, **row: object) -> str:
        attack: AttackResult = attacks[name]
        return caption(attack, name, TaskRow.model_validate({"counts": True} | row), classes).replace(words.NBSP, " ")

    fooled = {"image": 0, "truth": 1, "before": 1, "fooled": True, "label": 2, "confidence": 0.9931}
    assert told("fgsm", **fooled) == "“one” → “two”, 99.3 %, FGSM, ε = 0.2"
    assert told("one_pixel", **fooled | {"fooled": False, "label": 1}) == "“one” → still “one”, 99.3 %, One pixel"
    assert told("fgsm", **fooled | {"fooled": False, "label": None}) == "“one” → rejected, not fooled, FGSM, ε = 0.2"
    found = {"run": 0, "target": 2, "fooled": True, "label": 2, "confidence": 0.98}
    assert told("cppn", **found) == "no natural image → “two”, 98.0 %, CPPN (indirect encoding)"
    missed = found | {"fooled": False, "label": 0, "confidence": 0.2}
    assert told("gradient_ascent", **missed) == "aimed at “two”, 20.0 % for it, the victim said “zero”, Gradient ascent"


def test_transfer_is_read_in_both_directions() -> None:
    made = record(RECIPES[0])
    incoming, outgoing = transfer_of(made)
    assert [name for name, _ in incoming.rows] == ["lenet-a", "lenet-b", "mlp", "random forest"]
    assert incoming.attacks == ATTACKS
    cells = [c for _, row in outgoing.rows for c in row]
    assert all(c is not None and c.source == "submission" for c in cells)


def test_properties_are_told_in_words() -> None:
    rows = properties_of({"falls": {"k": 3, "n": 9, "value": 1 / 3}, "local_ratio": {"median": None, "n": 0}, "odd": 2})
    assert [(group, told) for group, _, told in rows] == [
        ("Local", "— not defined on any image"),
        ("Cumulative", "3 of 9"),
        ("", "2"),
    ]


# The site


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            assert not key.startswith("on"), f"{tag} {key}"
            assert key != "style" or tag == "style"
            if key == "id":
                self.ids.add(value or "")
            if key in ("href", "src", "srcset") and value is not None:
                self.found.append((tag, value))


def parsed(page: Path) -> _Links:
    links = _Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for recipe in (RECIPES[0], RECIPES[3], RECIPES[4], RECIPES[5], RECIPES[6], *OTHERS):
        write_run(folder, recipe)
    return folder


@pytest.fixture(scope="module")
def site(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "board"
    summary = build([runs], out)
    assert (summary.entries, summary.ranked, summary.boards) == (7, 4, 3)
    assert summary.files == sum(p.is_file() for p in out.rglob("*"))
    return out


def test_every_link_leads_somewhere_inside(site: Path) -> None:
    pages = {page: parsed(page) for page in site.rglob("*.html") if page.name != "404.html"}
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
    for page in site.rglob("*.html"):
        assert parsed(page).tags.count("script") == (0 if page.name == "404.html" else 1)
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
    records = {r.digest: r for r in (read_record(p) for p in runs.glob("*/record.json"))}
    assert best["scores"]["robust_score"]["value"] == records[best["digest"]].scores.robust_score.value
    assert float(rows[0]["robust_score"]) == best["scores"]["robust_score"]["value"]
    assert read_record(site / best["record"]) == records[best["digest"]]


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


def test_without_entries_the_site_invites(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    summary = build([tmp_path / "runs"], tmp_path / "site")
    assert summary.entries == 0
    assert "No submissions yet" in (tmp_path / "site" / "index.html").read_text()
    assert (tmp_path / "site" / "leaderboard.csv").read_text().count("\n") == 1
    assert json.loads((tmp_path / "site" / "data.json").read_text())["boards"] == []


def test_a_failure_leaves_the_old_site(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    build([tmp_path / "runs"], tmp_path / "site")
    old = (tmp_path / "site" / "index.html").read_bytes()
    run = write_run(tmp_path / "runs", Recipe("broken", evidence=False))
    (run / "record.json").write_text("{}")
    again = write_run(tmp_path / "more", Recipe("twice", evidence=False))
    copy = write_run(tmp_path / "copies", Recipe("twice", evidence=False))
    with pytest.raises(ValueError, match="schema 1, got None") as raised:
        build([tmp_path / "runs", again, copy], tmp_path / "site")
    assert "expected one run of each submission on each battery" in str(raised.value)
    (copy / "evidence").mkdir()
    np.savez(copy / "evidence" / "fgsm.npz", images=np.zeros((3, 1, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="expected 120 images of fgsm, one a task, got 3"):
        build([copy], tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copies", "more", "runs", "site"]


def test_what_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(
        ValueError, match=r"expected an empty folder or a site that foolbench built, got .* thesis\.tex"
    ):
        build([tmp_path / "runs"], tmp_path / "mine")
    build([tmp_path / "runs"], tmp_path / "site")
    (tmp_path / "site" / ".git").mkdir()
    with pytest.raises(ValueError, match=r"with \.git"):
        build([tmp_path / "runs"], tmp_path / "site")
    (tmp_path / "site" / ".git").rmdir()
    (tmp_path / "site" / MARKER).unlink()
    with pytest.raises(ValueError, match=f"no {MARKER}"):
        build([tmp_path / "runs"], tmp_path / "site")
    with pytest.raises(ValueError, match="expected runs outside the site"):
        build([tmp_path / "x" / "runs"], tmp_path / "x")
    with pytest.raises(ValueError, match="expected a run folder or a folder of them"):
        build([tmp_path / "nowhere"], tmp_path / "new")
