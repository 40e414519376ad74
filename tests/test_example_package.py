"""The example package: what it brings keeps the contracts, and a submission and a battery use both at once."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from example import PACKAGE, installed
from foolbench.bench import evaluate
from foolbench.defenses.checks import Check, Example, parametrize_with_checks
from planted import SMALL, battery, halves, left_or_right, linear_onnx


def gamma() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        return import_module("foolbench_example.gamma").gamma


@parametrize_with_checks([Example("gamma", gamma(), {"exponent": 1.5})])
def test_its_defense_keeps_the_contract(check: Check) -> None:
    check()


def test_a_submission_uses_its_defense_and_a_battery_its_attack(tmp_path: Path) -> None:
    square = {"images": 8, "epsilon": 0.2, "queries": 10, "images_per_shard": 8}
    model = linear_onnx(tmp_path, "net", left_or_right(gain=6))
    submission = {
        "schema": 1,
        "name": "Halves behind gamma",
        "authors": ["A. Author"],
        "battery": "./battery.yaml",
        "model": {"kind": "onnx", "path": model["path"], "output": "logits"},
        "defenses": [{"kind": "package", "name": "gamma", "args": {"exponent": 1.5}}],
    }
    (tmp_path / "submission.yaml").write_text(yaml.safe_dump(submission))
    with installed(tmp_path / "installed"):
        named = {"fgsm": SMALL["fgsm"], "little_square": square}
        battery(tmp_path, *halves(8), attacks=named, train=halves(8, seed=1))
        run = evaluate(tmp_path / "submission.yaml", out=tmp_path / "run", device="cpu")
    assert [row.name for row in run.record.battery.ranked] == ["fgsm", "little_square"]
    assert run.record.bare is not None
    assert {*run.record.attacks} == {*run.record.bare.attacks} == {"fgsm", "little_square"}
    assert run.record.difference is not None
    assert "little_square" in run.record.difference
    assert [flag.code for flag in run.record.flags if flag.code == "misdeclared"] == []
