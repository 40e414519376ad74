"""The comparison with AutoAttack: the battery that it makes, what a row says, and which goals are missed."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.entries import entries
from planted import battery, halves, left_or_right, linear_onnx
from planted import small as small_attacks
from small_linf import SMALL_LINF, small_panel

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a part of the script, which finds the others beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.mark.parametrize("name", ["digits-v1", "mnist-v1", "cifar10-v1"])
def test_the_row_alone_at_one_epsilon(parts: Any, name: str, tmp_path: Path) -> None:
    nets = parts("autoattack_nets")
    headline = nets.headline(name)
    made = nets.restricted(name, headline, 30, tmp_path)
    whole = read_battery(name)
    row = next(row for row in whole.spec.ranking if row.name == nets.LINF)
    assert [r.name for r in made.spec.ranking] == [nets.LINF]
    assert [*made.attacks] == row.entries
    assert [r.epsilon for r in made.spec.ranking] == [pytest.approx(nets.value(headline))]
    assert made.spec.ranking[0].curve == [pytest.approx(nets.value(headline))]
    own, theirs = ({e.name: e for e in entries(b)} for b in (made, whole))
    for attack in row.entries:
        assert own[attack].attack == theirs[attack].attack
        assert own[attack].tasks == 30
    assert made.spec.panel is not None
    assert whole.spec.panel is not None
    assert [m.sha256 for m in made.spec.panel.models] == [m.sha256 for m in whole.spec.panel.models]
    assert not made.shipped


def small(folder: Path) -> Battery:
    """The four attacks of the row on bright halves, at ε 0.2 alone."""
    attacks = small_attacks(fgsm={"curve": [0.2]}) | {k: v | {"curve": [0.2]} for k, v in SMALL_LINF.items()}
    row = {"name": "linf", "entries": ["fgsm", "projected_ascent", "transfer", "square"], "over": "epsilon"}
    images, labels = halves(12)
    stated = {"attacks": attacks, "ranked": [row], "panel": small_panel(folder)}
    return battery(folder, images, labels, train=halves(8, seed=1), **stated)


def test_a_row_from_end_to_end(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the two libraries: one that finds nothing, one that goes beyond ε. A linear network's halves differ
    by less than 0.4, which 0.2 closes, as the row must find; a proof that says otherwise is refuted."""
    rows, nets, models = parts("autoattack_rows"), parts("autoattack_nets"), parts("defenses_models")
    linear_onnx(tmp_path, "halves", left_or_right())
    net = models.Model("halves", "digits", "digits-v1", (1, 8, 8), models.File(tmp_path / "halves.onnx"), ())
    monkeypatch.setattr(rows, "restricted", lambda name, epsilon, images, folder: small(folder))
    monkeypatch.setattr(rows, "torchattacks_standard", lambda *given: lambda images, labels: images)
    monkeypatch.setattr(rows, "art_standard", lambda *given: lambda images, labels: 1 - images)
    monkeypatch.setattr(
        rows, "certified", lambda chain, images, labels, epsilon: torch.ones(len(images), dtype=torch.bool)
    )
    plain = nets.Net("halves", "digits-v1", lambda folder: models.write_submission(net, None, folder))
    row = rows.row_of(plain, "51/255", 8, "cpu", tmp_path / "one")
    assert (row["images"], row["clean_accuracy"], row["certified"], row["above_the_proof"]) == (8, 1, None, None)
    assert row["robust_accuracy"] == {"ours": 0, "torchattacks": 1, "art": 1}
    assert row["more"]["art"]["beyond_epsilon"] == 8
    assert row["within_a_point"] == {"torchattacks": True, "art": True}
    assert sum(cost["took"] for cost in row["more"]["ours"].values()) == 8
    assert row["queries"]["ours"] > 8
    proven = rows.row_of(replace(plain, chain=lambda: None), "51/255", 8, "cpu", tmp_path / "two")
    assert (proven["certified"], proven["refuted"], proven["above_the_proof"]) == (1, 8, False)


def test_an_order_of_submissions(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the digits' own models, with a stand-in for AutoAttack that takes nothing; what has no gradient, rejects or
    leaves its answers to chance is left out, with the reason."""
    order, zoo = parts("autoattack_order"), parts("discrimination_zoo")
    monkeypatch.setattr(order, "torchattacks_standard", lambda *given: lambda images, labels: images)
    kept = {one.name: one for one in zoo.zoo("digits", None, None)}

    def told(name: str) -> Any:
        found, accuracy = order.accuracy_of(kept[name].make(tmp_path / kept[name].slug), 20, "cpu")
        assert found == name
        return accuracy

    assert 0.9 <= told("digits LeNet-5") <= 1
    assert 0.9 <= told("digits LeNet-5 behind bit_depth") <= 1
    assert told("digits knn") == "it has no gradient"
    assert "reject" in told("digits LeNet-5 behind max_softmax")
    assert "chance" in told("digits LeNet-5 behind gaussian_noise")


def attacked(rows: Any, left: int, seconds: float) -> Any:
    return rows.Attacked(np.arange(200) < left, seconds, 1, {})


def test_goals_missed_are_named(parts: Any) -> None:
    """Of 200 images two are a point: two more than AutoAttack leaves are within it, three are not."""
    rows, script = parts("autoattack_rows"), parts("autoattack")
    right = np.arange(200) < 150

    def row(left: int, seconds: float, proven: int | None = None) -> Any:
        found = {
            "ours": attacked(rows, left, seconds),
            "torchattacks": attacked(rows, 100, 10.0),
            "art": attacked(rows, 101, 30.0),
        }
        return rows._row("net", "8/255", right, found, None if proven is None else np.arange(200) < proven)

    assert script.misses(row(102, 5.0, 90)) == []
    assert script.misses(row(40, 5.0)) == []
    assert script.misses(row(103, 5.0)) == ["more than a point above torchattacks"]
    assert script.misses(row(102, 5.1)) == ["more than half of the time of torchattacks"]
    assert script.misses(row(80, 5.0, 90)) == ["10 images taken that a proof says cannot be"]
    failed = {"net": "net", "epsilon": "8/255", "error": "DataError: nothing there"}
    assert script.misses(failed) == ["not measured"]
    assert script.table([row(103, 5.0, 90), failed]).row_count == 2
    assert "ours 0.515 in 5.0 s, torchattacks 0.500 in 10.0 s" in script.line(row(103, 5.0))


def test_what_is_missing_is_said_at_once(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = parts("autoattack")
    monkeypatch.setattr(script, "measure", lambda *given: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["autoattack.py", "--only", "resnet_9b"])
    monkeypatch.setattr(script.peers, "absent", lambda: ("foolbox", "torchattacks"))
    with pytest.raises(SystemExit, match="expected torchattacks, got nothing of that name"):
        script.main()
    monkeypatch.setattr(script.peers, "absent", lambda: ("foolbox",))
    monkeypatch.setattr(script, "data_folder", lambda: None)
    with pytest.raises(SystemExit, match="FOOLBENCH_TEST_DATA"):
        script.main()
    monkeypatch.setattr(script, "data_folder", lambda: tmp_path)
    monkeypatch.setenv("FOOLBENCH_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"expected --only to name some of resnet_2b, .*, got resnet_9b"):
        script.main()
