"""The comparison with published results: its rows, its reading of the published files, and small pieces of it."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from foolbench.attacks.base import Perturb
from model_files import DATA, needs_data

BENCHMARKS = Path(__file__).parent / "benchmarks"
FIRST = ["name", "ours", "low", "high", "published", "source", "ok"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module: it finds its parts beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import published  # pyright: ignore[reportMissingImports]

    return published


def held(row: dict[str, Any]) -> None:
    """Hold a row to its schema."""
    assert list(row)[:8] == ["part", *FIRST]
    for name in ("ours", "low", "high", "published"):
        assert row[name] is None or (isinstance(row[name], float) and math.isfinite(row[name]))
    assert row["ok"] in (True, False, None)
    assert isinstance(row["name"], str)
    assert isinstance(row["difference_in_setup"], str)
    if row["low"] is not None and row["ours"] is not None and row["high"] is not None:
        assert row["low"] <= row["ours"] <= row["high"]


def test_rows_reach_the_file_and_a_broken_part_stops_no_other(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def works(setting: Any, folder: Path) -> Iterator[dict[str, Any]]:
        yield script.published_robust.share("k of n", 9, 10, published=0.8, source="a paper", ok=True)

    def breaks(setting: Any, folder: Path) -> Iterator[dict[str, Any]]:
        yield from works(setting, folder)
        raise RuntimeError("no such network")

    monkeypatch.setattr(script, "PARTS", {"one": breaks, "two": works})
    monkeypatch.setattr(script, "NEEDS", {"one": (), "two": ()})
    monkeypatch.setattr(script, "data_folder", lambda: tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", ["published.py", "--quick", "--json", str(tmp_path / "rows.json")])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 1
    rows = json.loads((tmp_path / "rows.json").read_text())
    for row in rows:
        held(row)
    assert [row["part"] for row in rows] == ["one", "one", "two"]
    assert (rows[0]["ours"], rows[0]["n"]) == (0.9, 10)
    assert 0.59 < rows[0]["low"] < 0.60
    assert 0.98 < rows[0]["high"] < 0.99
    assert rows[1]["difference_in_setup"] == "cannot run: RuntimeError: no such network"
    shown = capsys.readouterr().out
    assert "k of n: ours 0.9, published 0.8, yes" in shown
    assert "a paper" in shown


def test_without_data_it_says_so(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "data_folder", lambda: None)
    monkeypatch.setattr(sys, "argv", ["published.py"])
    with pytest.raises(SystemExit, match="got none: set FOOLBENCH_TEST_DATA"):
        script.main()


def test_what_is_missing_from_the_folder_is_named_before_anything_runs(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(script.NEEDS) == list(script.PARTS)
    monkeypatch.setenv("FOOLBENCH_TEST_DATA", str(tmp_path))
    monkeypatch.setattr(script, "measure", lambda *given: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["published.py", "--only", "evolution"])

    def ended() -> str:
        with pytest.raises(SystemExit) as stopped:
            script.main()
        return str(stopped.value.code)

    parts = importlib.import_module("real_data").FILES["mnist"]
    assert ended().startswith(f"expected {tmp_path / parts[0]}, got no such file: copy it there")
    for name in parts:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert ended().startswith(f"expected {tmp_path / 'models.json'}, got no such file")
    row = {"file": "onnx/some.onnx", "dataset": "mnist", "sha256": "0" * 64}
    (tmp_path / "models.json").write_text(json.dumps({"onnx": [row], "timm": []}))
    assert ended().startswith(f"expected {tmp_path / 'onnx' / 'some.onnx'}, got no such file")


@pytest.mark.parametrize(
    "option",
    [["--images", "0"], ["--images", "-1"], ["--classes", "0"], ["--classes", "1001"], ["--json", "nowhere/rows.json"]],
)
def test_wrong_options_are_refused_at_once(
    script: Any, option: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["published.py", *option])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert f"got {option[1]}" in capsys.readouterr().err


@needs_data
def test_published_attacks_are_read_as_they_were_made(script: Any) -> None:
    """LeNet's are the weights that the results were made with: probabilities before and after come out the same."""
    part = script.published_one_pixel
    assert DATA is not None
    tried = part.attempts(DATA, "lecun_net", 1, targeted=True)
    assert {attempt.image for attempt in tried} == {166}
    assert [attempt.target for attempt in tried] == [0, 1, 2, 3, 4, 5, 6, 7, 9]  # its class is 8
    assert [attempt.hit for attempt in tried] == [True, True] + [False] * 6 + [True]
    untargeted = part.attempts(DATA, "lecun_net", 3, targeted=False)
    assert (len(untargeted), sum(attempt.hit for attempt in untargeted)) == (12, 9)

    net = part.network("cifar10_onepixel_lenet")
    images = part.replayed(net.pool.images, tried)
    changed = (images != net.pool.images[166]).any(1).flatten(1).sum(1)
    assert changed.tolist() == [1] * 9
    after = net.classifier.probabilities(images, torch.Generator()).max(1)
    assert after.indices.tolist() == [attempt.label for attempt in tried]
    assert torch.allclose(after.values, torch.tensor([attempt.confidence for attempt in tried]), atol=1e-4)


@needs_data
def test_image_by_image_it_counts_what_each_of_the_two_reached(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    part = script.published_one_pixel
    fell = torch.tensor([True, False, True] + [False] * 6)
    asked: list[Perturb] = []

    def attacked(net: Any, attack: Any, task: Perturb, pixels: int, seed: int) -> torch.Tensor:
        asked.append(task)
        return fell

    monkeypatch.setattr(part, "attacked", attacked)
    net = part.network("cifar10_onepixel_lenet")
    setting = script.Setting()
    row, second = part._image_by_image("lecun_net", net, part.attempts(DATA, "lecun_net", 1, True), 1, setting)
    held({"part": "one_pixel"} | row)
    assert (row["ours"], row["published"], row["n"], row["ok"]) == (2 / 9, pytest.approx(3 / 9), 27, False)
    assert (row["only_ours"], row["only_published"], row["agree"]) == (1, 2, 6)
    assert row["hits"] == [2, 2, 2]
    assert asked[0].targets is not None
    assert asked[0].targets.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert "rand/1" in second["difference_in_setup"]


@needs_data
@pytest.mark.parametrize("part", ["evolution", "gradient_ascent", "fgsm", "robust", "deepception"])
def test_a_small_piece_of_every_part(script: Any, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One network and two images or runs: rows hold to the schema, and the attacks do what they do."""
    assert DATA is not None
    one = "mnist_vnncomp21_verivital_Convnet_avgpool"
    if part in ("evolution", "deepception"):
        monkeypatch.setattr(getattr(script, f"published_{part}"), "QUICK", (one,))
        monkeypatch.setattr(script.published_evolution, "PANEL", ())
    if part == "gradient_ascent":
        monkeypatch.setattr(script.published_ascent, "network_names", lambda dataset: [])
        monkeypatch.setattr(script.published_ascent, "QUICK_IMAGENET", ())
        monkeypatch.setattr(script.published_ascent, "QUICK_STEPS", 100)
    if part == "fgsm":
        monkeypatch.setattr(script.published_fgsm, "PANEL", ("mnist-logistic",))
    images = {"robust": 40, "fgsm": 20, "evolution": 1, "gradient_ascent": 1, "deepception": 4}[part]
    rows = [{"part": part} | row for row in script.PARTS[part](script.Setting(quick=True, images=images), DATA)]
    for row in rows:
        held(row)
        json.dumps(row, allow_nan=False)
    if part == "evolution":
        assert rows[0]["ours"] < 200
        assert rows[0]["ok"] == (rows[0]["ours"] < 50)
        assert len(rows[0]["digits"]) == 10
        assert rows[0]["detail"] == "digit by digit: " + ", ".join(str(only) for (only,) in rows[0]["digits"])
    if part == "gradient_ascent":
        assert (rows[0]["dead"], rows[0]["n"]) == (0, 10)
        assert rows[0]["ours"] > 0
    if part == "fgsm":
        assert rows[0]["ours"] >= 0.9
        assert sum("bit-equal" in row["name"] for row in rows) == 6
    if part == "robust":
        assert all(row["ours"] > row["ordinary"] for row in rows)
    if part == "deepception":
        ratios = [row for row in rows if "fooling ratio" in row["name"]]
        assert [row["name"].split(", ")[1] for row in ratios] == ["1 copy", "2 copies", "4 copies", "8 copies"]
        assert all(len(row["controls"]) == 5 for row in ratios)
        assert all(a["ours"] <= b["ours"] for a, b in itertools.pairwise(ratios))


def test_generations_are_counted_from_the_random_first_one(script: Any) -> None:
    first = torch.tensor([[1, 200, 201, -1]])
    assert script.published_evolution.generations(first) == [[1, 1, 2, None]]


def test_the_median_of_generations_counts_never_as_late(script: Any) -> None:
    median = script.published_evolution.median
    assert [median(runs) for runs in ([3, 1, 2], [7, None, 2], [None, 9, None], [4, 7], [4, None])] == [
        2, 7, None, 5.5, None,
    ]  # fmt: skip


def test_l2_decay_is_tried_until_every_class_is_there(script: Any) -> None:
    tried = script.published_ascent.variants(script.published_ascent.RELEASED["L2 decay"])
    assert [(a.objective, a.decay) for a in tried.values()][::2] == [("softmax", d) for d in (0.01, 0.01, 0.001)]
