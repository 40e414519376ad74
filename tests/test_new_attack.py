"""A seventh attack, as CONTRIBUTING has it: one file and one line in the table, or a package that somebody installed.

It is ranked where a battery ranks it, and stands everywhere that attacks stand. Batteries without it stay as they are.
"""

from __future__ import annotations

import csv
import html
import io
import json
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from example import PACKAGE, attack, in_the_table, installed
from foolbench import attacks
from foolbench.attacks.checks import Check, parametrize_with_checks
from foolbench.bench import evaluate
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.named import shipped_names
from foolbench.bench.choices import Tier
from foolbench.bench.cli.catalogue import table
from foolbench.bench.errors import InvalidInput
from foolbench.bench.evaluation.pipeline import Run
from foolbench.bench.evaluation.report import render
from foolbench.leaderboard.record.store import RunFolder
from foolbench.leaderboard.site.site import build
from planted import SMALL, battery, halves, left_or_right, linear_onnx
from rich.console import Console

ALONE = {"fgsm": SMALL["fgsm"]}
SQUARE = {"images": 8, "epsilon": 0.2, "queries": 30, "images_per_shard": 4}
DIGESTS = {
    (name, tier): read_battery(name, tier=tier).digest for name in shipped_names() for tier in ("standard", "smoke")
}


@parametrize_with_checks([attack()])
def test_it_keeps_the_contract(check: Check) -> None:
    check()


@pytest.fixture(scope="module", params=["installed", "in the table"])
def way(request: pytest.FixtureRequest) -> str:
    return request.param


def there(way: str, folder: Path) -> AbstractContextManager[None]:
    return installed(folder / "installed") if way == "installed" else in_the_table()


def made(folder: Path, named: dict[str, Any], **changes: Any) -> Battery:
    return battery(folder, *halves(8), attacks=named, train=halves(8, seed=1), **changes)


@pytest.fixture(scope="module")
def run(way: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    panel = {"models": [linear_onnx(folder, "a", left_or_right(gain=8))]}
    with there(way, folder), pytest.MonkeyPatch.context() as patch:
        seven = made(folder, ALONE | {"little_square": SQUARE}, panel=panel, ranked=["little_square", "fgsm"])
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return evaluate(left_or_right(gain=6), battery=seven, name="halves", out=folder / "run", device="cpu")


def test_it_is_ranked_and_stands_in_the_record(run: Run, way: str) -> None:
    record = RunFolder(run.folder).record
    assert [(row.name, row.title, row.entries) for row in record.battery.ranked] == [
        ("little_square", "Square (example)", ["little_square"]),
        ("fgsm", "FGSM", ["fgsm"]),
    ]
    said = record.battery.attacks["little_square"]
    assert (said.task, said.control) == ("perturb", False)
    assert said.package == ("foolbench-example 1.0" if way == "installed" else None)
    result = record.attacks["little_square"]
    assert (result.task, result.mode, result.limit, len(result.tasks)) == ("perturb", "black_box", "L∞ ≤ 0.2", 8)
    assert result.parameters == {"epsilon": 0.2, "queries": 30, "share": 0.8}
    rows = [record.rows[name] for name in ("little_square", "fgsm")]
    held = [row.endurance.value for row in rows if row.endurance.value is not None]
    assert record.scores.robust_score.value == pytest.approx(100 * sum(held) / 2)
    left = [record.attacks[name].robust_accuracy for name in ("little_square", "fgsm")]
    values = [measure.value for measure in left if measure is not None and measure.value is not None]
    assert record.scores.survival_score.value == pytest.approx(100 * sum(values) / 2)
    assert record.scores.worst_case.value == pytest.approx(min(values))
    assert record.scores.survives_all_perturb.n == 8
    assert (run.folder / "evidence" / "little_square.npz").is_file()


def test_it_stands_in_transfer_both_ways(run: Run) -> None:
    cells = [cell for cell in run.record.transfer or [] if cell.attack == "little_square"]
    assert {(cell.source, cell.victim) for cell in cells} == {("a", "submission"), ("submission", "a")}
    assert all(cell.any_label.n for cell in cells)


def test_it_stands_in_the_report_and_on_the_site(run: Run, way: str, tmp_path: Path) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(run.record))
    report = console.export_text()
    assert report.index("Square (example)") < report.index("FGSM")
    assert "survive both rows on natural images" in report
    build([run.folder], tmp_path / "site")
    board = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert board.index('data-key="little_square"') < board.index('data-key="fgsm"')
    assert "Two attacks, one scale." in board
    (page,) = (tmp_path / "site" / "e").glob("*/index.html")
    text = page.read_text(encoding="utf-8")
    assert 'id="gallery-little_square"' in text
    assert ("of the package foolbench-example 1.0" in text) is (way == "installed")
    assert "a: little_square" in (page.parent / "charts" / "perturb-light.svg").read_text(encoding="utf-8")
    assert attack().sentence in html.unescape((tmp_path / "site" / "methods.html").read_text(encoding="utf-8"))
    (row,) = csv.DictReader(io.StringIO((tmp_path / "site" / "leaderboard.csv").read_text(encoding="utf-8")))
    assert float(row["little_square"]) == run.record.rows["little_square"].endurance.value


def test_it_stands_in_the_list(way: str, tmp_path: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    with there(way, tmp_path):
        console.print(table("attacks"))
    (line,) = [line for line in console.export_text().splitlines() if "little_square" in line]
    assert "Square (example)" in line
    assert ("foolbench-example 1.0" in line) is (way == "installed")


def test_batteries_without_it_stay_as_they_are(way: str, tmp_path: Path) -> None:
    tiers: tuple[Tier, ...] = ("standard", "smoke")
    named: list[tuple[str, Tier]] = [(name, tier) for name in shipped_names() for tier in tiers]
    before = [read_battery(name, tier=tier) for name, tier in named]
    alone = made(tmp_path / "without", ALONE)
    with there(way, tmp_path):
        after = [read_battery(name, tier=tier) for name, tier in named]
        assert [b.digest for b in after] == [b.digest for b in before]
        assert [entries(b) for b in after] == [entries(b) for b in before]
        assert made(tmp_path / "with", ALONE).digest == alone.digest


def test_a_record_without_it_is_the_same_before_and_after(tmp_path: Path) -> None:
    def numbers(name: str) -> Any:
        done = evaluate(left_or_right(gain=6), battery=made(tmp_path, ALONE), out=tmp_path / name, device="cpu")
        text = (done.folder / "record.json").read_text(encoding="utf-8")
        return json.loads(text, object_hook=timeless)

    def timeless(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in found.items() if key not in ("seconds", "provenance")}

    before = numbers("before")
    with in_the_table():
        assert numbers("after") == before


def test_only_a_battery_that_names_it_imports_its_package(tmp_path: Path) -> None:
    with installed(tmp_path / "site"):
        sys.modules.pop("foolbench_example.little_square", None)
        made(tmp_path / "alone", ALONE)
        assert "foolbench_example.little_square" not in sys.modules
        assert made(tmp_path / "both", {"little_square": SQUARE}).packages == {"little_square": "foolbench-example 1.0"}
    with pytest.raises(InvalidInput, match="little_square"):
        made(tmp_path / "gone", {"little_square": SQUARE})


def test_what_its_own_code_raises_at_a_battery_s_values_is_told_at_its_place(tmp_path: Path, monkeypatch) -> None:
    def fails(self: object, *_: object) -> tuple[Any, ...]:
        return {}["nothing"]

    with installed(tmp_path / "site"):
        monkeypatch.setitem(vars(attack()), "entries", fails)
        with pytest.raises(InvalidInput) as refused:
            made(tmp_path / "made", {"little_square": SQUARE})
    (problem,) = refused.value.problems
    assert (problem.code, problem.where.key) == ("FB104", "attacks.little_square")
    assert problem.got == "KeyError: 'nothing'"


def test_the_version_of_its_package_is_part_of_the_battery(tmp_path: Path) -> None:
    with installed(tmp_path / "site"):
        one = made(tmp_path / "one", {"little_square": SQUARE}).digest
        info = tmp_path / "site" / "foolbench_example-1.0.dist-info"
        info = info.rename(info.with_name("foolbench_example-1.1.dist-info"))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foolbench-example\nVersion: 1.1\n")
        assert made(tmp_path / "two", {"little_square": SQUARE}).digest != one


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ("fgsm = foolbench_example.little_square:ATTACK", "a name of its own"),
        ("other = foolbench_example.little_square:ATTACK", "an attack named 'other'"),
        ("other = foolbench_example.gone:ATTACK", "to import"),
        ("other = foolbench_example.gamma:gamma", "an Attack"),
        ("originals = taken:ATTACK", "a name that no score and no other evidence has"),
    ],
)
def test_a_package_that_registers_it_wrongly_is_told(points: str, expected: str, tmp_path: Path) -> None:
    from foolbench.bench.battery.installed import packaged

    info = tmp_path / "offender-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offender\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[foolbench.attacks]\n{points}\n")
    own = "from dataclasses import replace\nfrom foolbench_example.little_square import ATTACK as other\n"
    (tmp_path / "taken.py").write_text(f"{own}ATTACK = replace(other, name='originals')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        patch.syspath_prepend(tmp_path)
        with pytest.raises(InvalidInput, match=expected) as refused:
            packaged()
    (problem,) = refused.value.problems
    assert problem.code == "FB116"
    assert "offender 2.0" in (problem.where.key or "")


def test_what_a_battery_ranks_must_be_its_own(tmp_path: Path) -> None:
    assert [row.entries for row in made(tmp_path / "all", ALONE).spec.ranking] == [["fgsm"]]
    for ranked, says in ((["fgsmm"], "fgsm"), (["fgsm", "fgsm"], "twice"), (["noise"], "noise")):
        with pytest.raises(InvalidInput, match=says) as refused:
            made(tmp_path / "wrong", ALONE, ranked=ranked)
        assert [problem.where.key for problem in refused.value.problems] == [f"ranked[{len(ranked) - 1}]"]
    text = yaml.safe_load((tmp_path / "wrong" / "battery.yaml").read_text())
    assert text["ranked"] == ["noise"]


def test_the_table_is_one_line_an_attack() -> None:
    code = "import sys, foolbench.attacks as a; print(len(a.NAMES), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(attacks.NAMES)), "False"]
