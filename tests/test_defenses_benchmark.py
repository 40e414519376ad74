"""The table of defenses: its rows, what they name, and false defenses that it has to see."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from foolbench.bench import evaluate, read_submission
from foolbench.bench.battery.battery import Battery
from foolbench.bench.errors import FoolbenchError
from foolbench.bench.submission.defenses import Defense
from planted import RANKED, battery, halves, left_or_right, linear_onnx
from planted_defenses import PLANTED, Planted

BENCHMARKS = Path(__file__).parent / "benchmarks"
FIRST = (
    *("defense", "model", "battery", "clean_accuracy", "robust_score", "bare_robust_score", "difference", "low"),
    *("high", "flags", "overhead_ms"),
)
REJECTS_ALL = next(planted for planted in PLANTED if planted.name == "rejects everything")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, which finds its parts beside itself; runs lie in a folder of the test's own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("defenses")


@pytest.fixture
def small(tmp_path: Path) -> Battery:
    """Bright halves, and fewer training images than a projection needs; all six attacks at a few queries."""
    return battery(tmp_path / "battery", *halves(12), train=halves(8, seed=1))


def model(script: ModuleType, folder: Path) -> Any:
    """A linear network for it, under the name of the digits, so that false defenses are planted in front of it."""
    linear_onnx(folder, "halves", left_or_right())
    parts = importlib.import_module("defenses_models")
    return script.Model("halves", "digits", "digits-v1", (1, 8, 8), parts.File(folder / "halves.onnx"), ())


def held(row: dict[str, Any]) -> None:
    """Hold a measured row to its schema."""
    assert tuple(row)[: len(FIRST)] == FIRST
    assert row["error"] is None
    for name in ("clean_accuracy", "robust_score", "bare_robust_score", "difference", "low", "high", "overhead_ms"):
        assert math.isfinite(row[name]), name
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["difference"] == pytest.approx(row["robust_score"] - row["bare_robust_score"])
    assert row["flags"] == sorted(set(row["flags"]))
    for who in ("", "bare_"):
        endurance = row[f"{who}endurance"]
        assert tuple(endurance) == tuple(RANKED)
        assert row[f"{who}robust_score"] == pytest.approx(100 * sum(endurance.values()) / len(endurance))
        low, high = row["intervals"][f"{who}survival_score"]
        assert low <= row[f"{who}survival_score"] <= high
    for ratios in (row["fooling_ratios"], row["bare_fooling_ratios"]):
        assert tuple(ratios) == tuple(RANKED)
        for ratio in ratios.values():
            assert (ratio["value"] is None) == (ratio["reason"] is not None)
            assert ratio["value"] is None or 0 <= ratio["low"] <= ratio["value"] <= ratio["high"] <= 1


def test_the_rows_of_a_defense_and_of_false_ones(
    script: ModuleType, small: Battery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Planted("honest", lambda inner, battery, data: inner, REJECTS_ALL.flags, "worthless")
    monkeypatch.setattr(script, "FALSE", {p.name: p for p in (REJECTS_ALL, honest)})
    told: list[int] = []
    setting, net = script.Setting(battery=small, workers=1, timing=0.05), model(script, tmp_path)

    def rows() -> list[dict[str, Any]]:
        return script.measure([net], ["bit_depth", "pca", script.PLANTED], setting, lambda rows: told.append(len(rows)))

    found = rows()
    assert told == [1, 2, 3, 4]
    bits, pca, caught, missed = json.loads(json.dumps(found))
    for row in (bits, caught, missed):
        held(row)
    assert bits["parameters"] == {"kind": "bit_depth", "bits": 3}
    assert (bits["planted"], bits["caught"]) == (False, None)
    # What cannot be measured keeps the other rows from nothing, and says why.
    assert "28" in pca["error"]
    assert set(FIRST) < set(pca)
    assert pca["robust_score"] is None
    # A false defense is found out; an honest one is not taken for one.
    assert (caught["planted"], caught["caught"], caught["robust_score"]) == (True, True, 0)
    assert "rejects_clean" in caught["flags"]
    assert (missed["planted"], missed["caught"], missed["difference"]) == (True, False, 0)
    assert [row["defense"] for row in script.missed(found)] == ["pca", "honest"]
    assert script.table(found).row_count == 4
    written = script.markdown(found).splitlines()
    assert [line.count("|") for line in written] == [0, 0] + [13] * 7  # head, rule, bare model, and the four rows
    assert written[4].startswith("| *none* | 100% (")
    assert "*rejects everything* (false, caught)" in written[7]
    assert "*honest* (false, **not caught**)" in written[8]

    # The ordinary path gives the same numbers,
    path = importlib.import_module("defenses_models").write_submission(net, script.DEFENSES[0], tmp_path / "again")
    record = evaluate(path, battery=small, out=tmp_path / "run", device="cpu", workers=1).record
    assert record.difference is not None
    assert record.difference["robust_score"].value == bits["difference"]
    for name, ratio in bits["fooling_ratios"].items():
        assert record.attacks[name].fooling_ratio.value == ratio["value"]
    # and an interrupted table goes on from its shards.
    shards = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*/shards/*.npz")}
    assert len({file.parent for file in shards}) == 3
    again = rows()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*/shards/*.npz")} == shards
    timed = ("seconds", "overhead_ms")
    assert [{k: v for k, v in row.items() if k not in timed} for row in again] == [
        {k: v for k, v in row.items() if k not in timed} for row in found
    ]


def test_every_kind_has_a_row_and_every_row_a_submission(script: ModuleType, tmp_path: Path) -> None:
    specs = get_args(get_args(Defense)[0])
    kinds = {kind for spec in specs for kind in get_args(spec.model_fields["kind"].annotation)}
    assert {defense.kind for defense in script.DEFENSES} == kinds
    assert len(set(script.NAMES)) == len(script.NAMES)
    parts = importlib.import_module("defenses_models")
    digits = parts.models(None)["digits"]
    with script.installed_package(tmp_path / "site"):
        for defense in script.DEFENSES:
            given = read_submission(parts.write_submission(digits, defense, tmp_path / defense.name))
            assert [entry.kind for entry in given.spec.defenses] == [defense.kind]
            for dataset in script.SETS:
                assert not any(type(value).__name__ == "Each" for value in defense.stated(dataset).values())


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_a_file_that_cannot_be_written_is_refused_at_once(
    script: ModuleType, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["defenses.py", option, "nowhere/table"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert f"argument {option}: expected a file in a folder that exists, got nowhere/table" in capsys.readouterr().err


def test_what_is_missing_from_the_folder_is_named_before_anything_runs(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOLBENCH_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("FOOLBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(script, "measure", lambda *given: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["defenses.py"])
    with pytest.raises(SystemExit, match=r"expected .*models\.json, got no such file: copy it there"):
        script.main()
    net = importlib.import_module("defenses_models").models(None)["digits"]
    script.check_data([net], None)
    with pytest.raises(FoolbenchError, match="mnist"):
        script.check_data([replace(net, battery="mnist-v1")], None)
