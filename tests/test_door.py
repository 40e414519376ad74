"""The door of the Python API: what means nothing is refused before any work, all of it at once, in the house's form."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.bench import FoolbenchError, evaluate, read_battery, read_submission
from foolbench.bench.battery.ground import Execution
from foolbench.bench.cli.explain import EXPLANATIONS
from foolbench.bench.errors import InvalidInput, Problem
from foolbench.bench.evaluation import api
from foolbench.bench.evaluation.door import TOLD
from foolbench.bench.running.progress import Progress, Silent
from foolbench.models.preprocess import Preprocess
from small_runs import submit
from torch import nn

NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


@pytest.fixture(autouse=True)
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr(api, "evaluate_subject", work)


def refusal(call: Any) -> tuple[Problem, ...]:
    """What it is refused with. Every code is explained, and every sentence has its three parts."""
    with pytest.raises(FoolbenchError) as caught:
        call()
    assert type(caught.value) is InvalidInput
    for problem in caught.value.problems:
        assert problem.code in EXPLANATIONS
        assert problem.message == f"Expected {problem.expected}, got {problem.got}."
        assert problem.fix
        assert "\n" not in problem.message + problem.fix
    return caught.value.problems


@pytest.mark.parametrize(
    ("argument", "got", "fix"),
    [
        ({"max_batch": 0}, "at least 1, got 0.", "max_batch=1"),
        ({"max_batch": -3}, "at least 1, got -3.", "max_batch=1"),
        ({"max_batch": 2.7}, "at least 1, got 2.7.", "max_batch=2"),
        ({"max_batch": "16"}, "at least 1, got '16'.", "max_batch=16"),
        ({"max_batch": np.int64(5)}, "got an int64", "max_batch=5"),
        ({"max_batch": float("nan")}, "got nan", "max_batch=1"),
        ({"workers": -1}, "at least 1, got -1.", "workers=1"),
        ({"workers": 0}, "at least 1, got 0.", "workers=1"),
        ({"workers": True}, "got True", "workers=1"),
        ({"tier": "smok"}, "Expected standard or smoke, got 'smok'.", 'tier="smoke"'),
        ({"tier": None}, "Expected standard or smoke, got None.", 'tier="standard"'),
        ({"device": "gpu"}, "Expected auto, cpu or cuda, got 'gpu'.", 'device="cuda"'),
        ({"device": torch.device("cpu")}, "got a device", 'device="auto"'),
        ({"backend": "tensorrt"}, "Expected auto, onnxruntime, torch or compiled, got 'tensorrt'.", 'backend="auto"'),
        ({"backend": "onnx"}, "got 'onnx'", 'backend="onnxruntime"'),
        ({"battery": "digit-v1"}, "got 'digit-v1'", "battery: digits-v1"),
        ({"battery": 5}, "what read_battery returned, got 5.", 'battery="digits-v1"'),
        ({"battery": ""}, "got ''", "battery: cifar10-v1"),
        ({"out": 7}, "the path of a folder, got 7.", 'out="runs/mine"'),
        ({"progress": "rich"}, "begin, shard, finished, end, say, got 'rich'.", "leave it out"),
        ({"progress": Silent}, "got the class Silent", "leave it out"),
        ({"output": "logit"}, "Expected logits or probabilities, got 'logit'.", 'output="logits"'),
        ({"output": 3}, "got 3", 'output="logits"'),
        ({"preprocess": "imagenet"}, "a Preprocess, got 'imagenet'.", "Preprocess(mean="),
        ({"name": ""}, "printable characters, got ''.", 'name="my network"'),
        ({"name": 3}, "got 3", 'name="my network"'),
        ({"reject_index": 11}, "a whole number from 0 to 10, got 11.", "reject_index=10"),
        ({"reject_index": -1}, "got -1.", "reject_index=0"),
        ({"reject_index": "last"}, "got 'last'.", "reject_index=0"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_an_argument_that_means_nothing(argument: dict[str, Any], got: str, fix: str):
    (problem,) = refusal(lambda: evaluate(NET, **argument))
    assert problem.where.key == next(iter(argument))
    assert got in problem.message
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("subject", "got", "fix"),
    [
        (3, "got 3.", 'subject="submission.yaml"'),
        (None, "got None.", 'subject="submission.yaml"'),
        (b"submission.yaml", "got b'submission.yaml'.", 'subject="submission.yaml"'),
        (nn.ReLU, "got the class ReLU.", "make one of it: ReLU(…)"),
        (lambda images: images, "got a function.", "wrap it in a torch.nn.Module"),
        ("folder/net.onnx", "got PosixPath('folder/net.onnx').", "path: net.onnx"),
    ],
)
def test_a_subject_of_a_wrong_type(subject: Any, got: str, fix: str):
    (problem,) = refusal(lambda: evaluate(subject))
    assert "a submission.yaml, what read_submission returned, or a torch.nn.Module, got " in problem.message
    assert got in problem.message
    assert fix in problem.fix


def test_all_that_is_wrong_with_a_call_is_told_at_once():
    found = refusal(lambda: evaluate("net.onnx", tier="smok", device="gpu", workers=0, max_batch=0, out=1, name="x"))  # type: ignore[arg-type]
    assert [p.where.key for p in found] == ["subject", "tier", "out", "name", "device", "workers", "max_batch"]


def test_a_place_that_no_folder_can_have(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "a" / "run", str(tmp_path / "file")):
        (problem,) = refusal(lambda place=place: evaluate(NET, out=place))
        assert f"got the file {tmp_path / 'file'}." in problem.message


def test_what_a_submission_says_itself_is_not_ignored(tmp_path: Path):
    given = read_submission(submit(tmp_path))
    beside: dict[str, Any] = {"name": "other", "preprocess": Preprocess(), "output": "logits", "reject_index": 0}
    for subject in (given, given.path, str(given.path)):
        found = refusal(lambda subject=subject: evaluate(subject, **beside))
        assert [p.where.key for p in found] == list(beside)
        assert all("nothing beside a submission" in p.message for p in found)
    assert "`model.input`" in found[1].fix
    assert "`model.reject_index`" in found[3].fix


def test_a_battery_that_was_read_at_another_tier():
    standard, smoke = read_battery("digits-v1"), read_battery("digits-v1", tier="smoke")
    (problem,) = refusal(lambda: evaluate(NET, battery=standard, tier="smoke"))
    assert problem.fix == 'read_battery("digits-v1", tier="smoke")'
    for battery, tier in ((smoke, "smoke"), (smoke, "standard"), (standard, "standard")):
        with pytest.raises(AssertionError, match="work began"):
            evaluate(NET, battery=battery, tier=tier)  # type: ignore[arg-type]


def test_reading_is_behind_the_same_door(tmp_path: Path):
    assert refusal(lambda: read_battery("digits-v1", tier="smok"))[0].where.key == "tier"  # type: ignore[arg-type]
    assert [p.where.key for p in refusal(lambda: read_battery(5, folder=6))] == ["battery", "folder"]  # type: ignore[arg-type]
    assert refusal(lambda: read_submission(5))[0].fix == 'read_submission("submission.yaml")'  # type: ignore[arg-type]
    submit(tmp_path)
    assert read_battery(Path("battery.yaml"), folder=str(tmp_path)).spec.name == "small"
    assert read_submission(str(tmp_path / "submission.yaml")).folder == tmp_path


def test_the_command_line_goes_through_it_too():
    wrongs: list[dict[str, Any]] = [{"max_batch": 0}, {"workers": 0}, {"device": "gpu"}, {"backend": "tensorrt"}]
    for wrong in wrongs:
        refusal(lambda wrong=wrong: Execution(**wrong))
    assert Execution() == Execution("auto", None, "auto", None)


def test_the_methods_that_are_looked_for_are_those_of_a_progress():
    assert set(TOLD) == {name for name, _ in inspect.getmembers(Progress, inspect.isfunction) if name[0] != "_"}
