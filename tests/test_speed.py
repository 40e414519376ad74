"""The speed benchmark: its rows, the queries they count, and the budgets at which a peer is held beside ours."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from foolbench.leaderboard.record import ATTACKS
from planted import classifier, halves, left_or_right

BENCHMARKS = Path(__file__).parent / "benchmarks"
KEYS = {
    *("attack", "victim", "device", "backend", "floor", "seconds", "queries", "floor_seconds", "ratio", "success"),
    *("peer", "peer_seconds", "peer_queries", "peer_success"),
}
EACH = 2.0**-10
"""Planted seconds of the floor, an image: a power of two, so that sums of it are exact."""
IMAGES, CLASSES, RUNS, CHILDREN, GENERATIONS = 60, 2, 2, 200, 50
"""The planted victim's images and classes; the benchmark's own numbers where it is quick."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, which finds its parts beside itself, with a floor known beforehand."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("speed")
    monkeypatch.setattr(found.Floor, "seconds", lambda floor: EACH)
    return found


def victim(script: ModuleType, gain: float = 400.0) -> Any:
    """A linear network of two classes that tells bright halves apart, certain of nearly any image."""
    images, labels = halves(IMAGES)
    module = left_or_right(gain=gain)
    pixels = torch.tensor(images).float() / 255
    return script.Victim(
        "halves", classifier(module, (1, 8, 8), CLASSES), module, pixels, torch.tensor(labels), 64, 64,
        backend="planted answers", gradient_backend="planted gradients",
    )  # fmt: skip


def held(row: dict[str, Any]) -> None:
    """Hold a row to its schema."""
    assert set(row) == KEYS
    for name in ("seconds", "floor_seconds", "ratio"):
        assert math.isfinite(row[name])
        assert row[name] > 0
    assert row["ratio"] == pytest.approx(row["seconds"] / row["floor_seconds"])
    assert isinstance(row["queries"], int)
    assert 0 <= row["success"] <= 1
    white = row["attack"] in ("fgsm", "gradient_ascent")
    assert row["backend"] == ("planted gradients" if white else "planted answers")
    assert (row["floor"] == "torch, forward and backward") == white
    theirs = [row[name] is None for name in ("peer", "peer_seconds", "peer_queries", "peer_success")]
    assert all(theirs) or not any(theirs)
    json.dumps(row, allow_nan=False)


def test_every_attack_has_a_row_whose_queries_are_known(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_peers", lambda others: iter(()))
    rows = list(script.rows_of(victim(script), True, set(ATTACKS)))
    for row in rows:
        held(row)
    found = {row["attack"]: row for row in rows}
    assert sorted(found) == sorted(ATTACKS)
    assert len(rows) == len(ATTACKS)
    assert [row["peer"] for row in rows] == [None] * len(rows)
    for name in ("evolution", "cppn"):
        assert found[name]["queries"] == CHILDREN * GENERATIONS * RUNS
    assert found["fgsm"]["queries"] == IMAGES * len(script.EPSILONS)
    # The grid takes one gradient an image, everything else an answer a query.
    assert found["fgsm"]["floor_seconds"] == IMAGES * EACH
    for name in set(ATTACKS) - {"fgsm"}:
        assert found[name]["floor_seconds"] == found[name]["queries"] * EACH
    # Evolution makes it certain of both classes; a step of 0.1 at most closes no contrast of 60 gray levels.
    assert (found["evolution"]["success"], found["fgsm"]["success"]) == (1, 0)


def test_a_slow_peer_stands_beside_ours_at_its_own_budget(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ribs(victim: Any, population: int, generations: int) -> Any:
        return script.Cost(2.0, population * generations, 0.5)

    def on_images(victim: Any, images: torch.Tensor, *rest: Any) -> Any:
        return script.Cost(3.0, 10 * len(images), 0.25)

    def missing(*given: Any) -> Any:
        raise ImportError("no such library")

    for name in ("neat_cppn", "torchattacks_one_pixel", "art_one_pixel", "torchattacks_fgsm", "foolbox_fgsm"):
        monkeypatch.setattr(script.peers, name, missing)
    for name in ("scipy_one_pixel", "art_fgsm"):
        monkeypatch.setattr(script.peers, name, on_images)
    monkeypatch.setattr(script.peers, "ribs_evolution", ribs)
    rows = list(script.rows_of(victim(script), True, {"evolution", "cppn", "one_pixel", "fgsm"}))
    for row in rows:
        held(row)
    assert capsys.readouterr().err.count("left out: ImportError: no such library") == 5
    whole, beside, alone, pixel, step = rows
    assert (whole["attack"], whole["peer"], whole["queries"]) == ("evolution", None, CHILDREN * GENERATIONS * RUNS)
    assert (beside["peer"], beside["peer_seconds"], beside["peer_success"]) == ("pyribs MAP-Elites", 2.0, 0.5)
    assert beside["queries"] == beside["peer_queries"] == CHILDREN * GENERATIONS // 10
    assert beside["floor_seconds"] == beside["queries"] * EACH
    assert (alone["attack"], alone["peer"]) == ("cppn", None)
    assert (pixel["peer"], pixel["peer_queries"]) == ("SciPy DE", 100)
    assert (step["peer"], step["peer_queries"]) == ("ART FGSM", 10 * IMAGES)
    columns = script.table(rows).columns
    assert list(columns[7].cells) == ["", "1,000", "", "100", "600"]
    # What a query of theirs takes to what one of ours takes; FGSM's count as often as ours.
    assert list(columns[8].cells) == ["", "2000.0", "", "30000.0", "10000.0"]


def test_the_floor_is_what_an_image_takes(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the floor itself
    planted = victim(script)
    for floor in (
        planted.gradient(),
        script.Floor("planted answers", planted.backends()["planted answers"], planted.images),
    ):
        assert 0 < floor.seconds(0.01) < math.inf
    seen: list[torch.Tensor] = []
    assert script.Floor("counts", seen.append, planted.images).seconds(0.0) > 0
    assert [len(images) for images in seen] == [IMAGES] * 4  # once to warm up, three times at least


def test_a_misspelt_attack_is_refused(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py", "--only", "evolutoin"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert "invalid choice: 'evolutoin'" in capsys.readouterr().err


def test_what_is_measured_reaches_the_file(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "_peers", lambda others: iter(()))
    monkeypatch.setattr(script, "victims", lambda: [victim(script)])
    monkeypatch.setattr(script.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick", "--only", "fgsm", "--json", str(tmp_path / "rows.json")])
    script.main()
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    held(row)
    assert "halves" in capsys.readouterr().out
