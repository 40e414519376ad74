"""The speed benchmark: its rows, the queries they count, the budgets at which a peer is held beside ours, and what it
says of what it cannot measure."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from planted import RANKED, classifier, halves, left_or_right

CPU = torch.device("cpu")

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
    monkeypatch.setattr(found.Floor, "seconds", lambda floor, for_about=0.0: EACH)
    monkeypatch.setattr(found.peers, "absent", lambda: ())
    return found


def victim(script: ModuleType, device: torch.device = CPU) -> Any:
    """A linear network of two classes that tells bright halves apart, certain of nearly any image."""
    images, labels = halves(IMAGES)
    module = left_or_right(gain=400.0).to(device)
    pixels = (torch.tensor(images).float() / 255).to(device)
    return script.Victim(
        "halves", replace(classifier(module, (1, 8, 8), CLASSES), device=device), module, pixels,
        torch.tensor(labels).to(device), 64, 64, backend="planted answers", gradient_backend="planted gradients",
    )  # fmt: skip


def held(row: dict[str, Any], device: str = "cpu, 1 thread") -> None:
    """Hold a row to its schema."""
    assert set(row) == KEYS
    assert row["device"] == device
    for name in ("seconds", "floor_seconds", "ratio"):
        assert math.isfinite(row[name])
        assert row[name] > 0
    assert row["ratio"] == pytest.approx(row["seconds"] / row["floor_seconds"])
    assert isinstance(row["queries"], int)
    assert 0 <= row["success"] <= 1
    white = row["attack"] in ("fgsm", "gradient_ascent")
    assert row["backend"] == ("planted gradients" if white else "planted answers")
    assert row["floor"].startswith("torch, forward and backward, batches of ") == white
    theirs = [row[name] is None for name in ("peer", "peer_seconds", "peer_queries", "peer_success")]
    assert all(theirs) or not any(theirs)
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_attack_has_a_row_whose_queries_are_known(
    script: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "_peers", lambda others: iter(()))
    device = torch.device(name)
    rows = list(script.rows_of(victim(script, device), True, set(RANKED)))
    for row in rows:
        held(row, script.device_name(device))
    found = {row["attack"]: row for row in rows}
    assert sorted(found) == sorted(RANKED)
    assert len(rows) == len(RANKED)
    assert [row["peer"] for row in rows] == [None] * len(rows)
    for name in ("evolution", "cppn"):
        assert found[name]["queries"] == CHILDREN * GENERATIONS * RUNS
    assert found["fgsm"]["queries"] == IMAGES * len(importlib.import_module("speed_plan").EPSILONS)
    # The grid takes one gradient an image, everything else an answer a query.
    assert found["fgsm"]["floor_seconds"] == IMAGES * EACH
    for name in set(RANKED) - {"fgsm"}:
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

    slow = importlib.import_module("peers_evolution")
    monkeypatch.setattr(slow, "neat_cppn", missing)
    monkeypatch.setattr(slow, "ribs_evolution", ribs)
    for name in ("torchattacks_one_pixel", "art_one_pixel", "torchattacks_fgsm", "foolbox_fgsm"):
        monkeypatch.setattr(script.peers, name, missing)
    for name in ("scipy_one_pixel", "art_fgsm"):
        monkeypatch.setattr(script.peers, name, on_images)
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
    assert [column.header for column in columns][8:10] == ["µs a query", "× ours, a query"]
    assert list(columns[7].cells) == ["", "1,000", "", "100", "600"]
    # What a query of theirs takes to what one of ours takes; FGSM's count as often as ours.
    assert list(columns[8].cells) == ["", "2000.0", "", "30000.0", "10000.0"]


def test_the_floor_is_what_an_image_takes(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the floor itself
    planted = victim(script)
    answers = planted.backends()["planted answers"]
    for floor in (planted.gradient(), script.Floor("planted answers", answers, planted.images, 64)):
        assert 0 < floor.seconds(0.01) < math.inf
    seen: list[torch.Tensor] = []
    floor = script.Floor("counts", seen.append, planted.images, 100)
    assert floor.seconds(0.0) > 0
    assert floor.name == "counts, batches of 100"
    assert [len(images) for images in seen] == [100] * 4  # once to warm up, three times at least
    assert torch.equal(seen[0][IMAGES:], planted.images[: 100 - IMAGES])


def test_the_floor_is_the_fastest_that_memory_holds(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(floor: Any, for_about: float) -> float:
        if floor.batch > 200:
            raise torch.OutOfMemoryError
        return {50: 0.5, 100: 0.25, 200: 0.75}[floor.batch]

    monkeypatch.setattr(script.Floor, "seconds", seconds)
    fastest, images = importlib.import_module("floor").fastest, torch.zeros(1, 1, 8, 8)

    def of(*batches: int) -> Any:
        return fastest(script.Floor("planted", len, images, batch) for batch in batches)

    found, floor = of(50, 100, 200, 400)
    assert (found, floor.name) == (0.25, "planted, batches of 100")
    with pytest.raises(torch.OutOfMemoryError, match="smallest batch"):
        of(400, 800)


def test_a_network_with_random_weights_is_a_victim(script: ModuleType) -> None:
    """The GPU's victim, in small and on the CPU."""
    made = importlib.import_module("random_weights").random_weights("test_resnet", CPU)
    assert (made.classifier.shape, made.classifier.classes, made.backend) == ((3, 224, 224), 1000, "torch")
    again = made.classifier.probabilities(made.images[:20], torch.Generator())
    assert torch.equal(again.argmax(1), made.labels[:20])
    (row,) = script.rows_of(made, True, {"fgsm"})
    assert (row["queries"], row["peer"], row["backend"]) == (20 * 5, None, "torch")
    assert row["floor_seconds"] == 20 * EACH


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--only", "evolutoin"), "invalid choice: 'evolutoin'"),
        (("--device", "cuda"), "argument --device: expected a CUDA GPU that torch can use, got none"),
        (("--device", "gpu"), "argument --device: expected cpu or cuda, got gpu"),
        (("--json", "nowhere/rows.json"), "argument --json: expected a file in a folder that exists, got nowhere/"),
        (("--json", "."), "argument --json: expected a file to write, got the folder ."),
    ],
)
def test_wrong_options_are_refused_at_once(
    script: ModuleType,
    given: tuple[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["speed.py", *given])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_its_data_a_victim_is_left_out_and_named(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOOLBENCH_TEST_DATA", str(tmp_path))
    assert [found.name for found in script.victims(CPU)] == ["digits LeNet-5"]
    said = capsys.readouterr().err
    for name in ("MNIST convnet", "CIFAR-10 LeNet", "CIFAR-10 ResNet32"):
        assert f"{name} left out: expected {tmp_path}/" in said
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick", "--only", "backends"])
    with pytest.raises(SystemExit, match="expected something to measure, got nothing"):
        script.main()
    assert f"without onnxruntime: expected {tmp_path}/models.json, got no such file" in capsys.readouterr().err


def test_peers_that_are_not_installed_are_named_once(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script.peers, "absent", lambda: ("art", "foolbox", "torchattacks"))
    monkeypatch.setattr(script, "victims", lambda device: [victim(script), victim(script)])
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick", "--only", "fgsm"])
    script.main()
    said = "left out, as not installed: art, foolbox, torchattacks; they come with `uv run --group peers`\n"
    assert capsys.readouterr().err == said


def test_what_is_measured_reaches_the_file(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "_peers", lambda others: iter(()))
    monkeypatch.setattr(script, "victims", lambda device: [victim(script)])
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick", "--only", "fgsm", "--json", str(tmp_path / "rows.json")])
    script.main()
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    held(row)
    assert "halves" in capsys.readouterr().out
