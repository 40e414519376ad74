"""An error is an object from where it is raised to where it is printed, and nothing takes its text apart."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.errors import Failed, InvalidInput, ModelFailure, Problem, Unexpected, Where, one_line, together
from foolbench.models.onnx.check import ModelFileError, WrongCount
from foolbench.models.onnx.runtime import open_session
from model_files import graph, linear, load
from onnx import helper
from small_runs import BATTERY

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attacks", "bench", "defenses", "leaderboard", "models")


# its parts


def test_what_is_refused_reads_as_a_sentence_and_keeps_its_parts():
    error = Unexpected("a number: of runs", 3, "say output: logits", at=("runs", 0))
    assert (error.expected, error.got, error.fix, error.at) == (
        "a number: of runs",
        "3",
        "say output: logits",
        ("runs", 0),
    )
    assert str(error) == "expected a number: of runs, got 3: say output: logits"
    assert isinstance(error, ValueError)
    assert not isinstance(error, RuntimeError)
    assert isinstance(Failed("a", "b", "c"), RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        Unexpected("a", 1, "c", at=("mean", 0)),
        Failed("a", "b", "c"),
        ModelFileError("nan", "a", "b", "c"),
        WrongCount({"y": 3.0}, "10 numbers", "c"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_kind_survives_the_way_to_another_process(error: Unexpected):
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert (str(other), vars(other)) == (str(error), vars(error))


def test_what_others_raise_is_told_in_one_line_with_its_type_and_both_ends():
    assert one_line(KeyError("nothing")) == "KeyError: 'nothing'"
    assert one_line(MemoryError()) == "MemoryError"
    assert one_line(Failed("the network to answer", "a failure (KeyError)", "c")) == "a failure (KeyError)"
    assert one_line(ValueError("first\n  second")) == "ValueError: first second"
    long = one_line(ValueError("a" * 5000 + " the reason"))
    assert len(long) <= 1000
    assert long.startswith("ValueError: aaa")
    assert long.endswith("a the reason")


def test_a_problem_is_one_sentence_and_each_of_its_parts():
    problem = Problem.of("FB104", Unexpected("a", "b", "c"), Where(Path("x.yaml"), 3, 5, "model.path", "  path: y"))
    assert problem.as_json() == {
        **{"code": "FB104", "expected": "a", "got": "b", "message": "Expected a, got b.", "fix": "c"},
        **{"file": "x.yaml", "line": 3, "column": 5, "key": "model.path", "source": "  path: y"},
    }
    assert str(InvalidInput(problem)) == "[FB104] x.yaml:3:5 model.path: Expected a, got b. To fix: c"
    assert Problem.of("FB112", Unexpected("a", "b", "c", file=Path("x"))).where == Where(Path("x"))
    other = pickle.loads(pickle.dumps(InvalidInput(problem)))
    assert (type(other), other.problems) == (InvalidInput, (problem,))


def test_errors_that_are_told_together_are_told_once_and_leave_with_the_lowest_exit_code():
    one, two = Problem("FB104", "a", "b", "c"), Problem("FB301", "a", "b", "c")
    whole = together([ModelFailure(two), InvalidInput(one), InvalidInput(one)])
    assert (type(whole), whole.problems) == (InvalidInput, (two, one))


# a battery


def battery(folder: Path, content: dict[str, Any]) -> tuple[Path, list[str]]:
    path = folder / "battery.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path, path.read_text().splitlines()


def test_every_setting_of_a_smoke_tier_that_is_wrong_is_told_on_its_line(tmp_path: Path):
    smoke = {"images": 0, "attacks": {"fgsm": {"epsilonn": 0.1}}}
    path, lines = battery(tmp_path, {**BATTERY, "smoke": smoke})
    with pytest.raises(InvalidInput) as caught:
        read_battery(path, tier="smoke")
    assert [(p.code, p.where.key, p.expected, p.got) for p in caught.value.problems] == [
        ("FB104", "smoke.images", "a number of at least 1", "0"),
        ("FB103", "smoke.attacks.fgsm.epsilonn", "the key `epsilon`", "the unknown key `epsilonn`"),
    ]
    assert [p.where.source for p in caught.value.problems] == [
        lines[-4],
        lines[-1],
    ]


def test_every_attack_that_does_not_fit_a_battery_is_told_on_its_line(tmp_path: Path):
    """Patches that are larger than the images, and gray levels that are none."""
    attacks = dict(BATTERY["attacks"])
    attacks |= {"deepception": attacks["deepception"] | {"side": 9}}
    attacks |= {"one_pixel": attacks["one_pixel"] | {"pixels": [1, 1]}}
    path, _ = battery(tmp_path, {**BATTERY, "attacks": attacks})
    with pytest.raises(InvalidInput) as caught:
        read_battery(path)
    assert {p.where.key: p.got for p in caught.value.problems} == {
        "attacks.deepception.side": "9",
        "attacks.one_pixel": "one_pixel twice",
    }


# what ONNX Runtime says comes out whole: it begins with C++ signatures, full of colons, and ends with the reason


def test_the_reason_why_onnx_runtime_refuses_a_file_is_told(tmp_path: Path):
    model = linear()
    model.ir_version = 99
    with pytest.raises(ModelFileError) as caught:
        load(model, tmp_path)
    assert caught.value.expected.startswith("a graph that ONNX Runtime ")
    assert "Unsupported model IR version: 99, max supported IR version: " in caught.value.got
    assert caught.value.fix == "export the network again with standard operators of an opset it knows"


def test_the_reason_why_a_network_fails_in_onnx_runtime_is_told(tmp_path: Path):
    shape = helper.make_tensor("s", 7, [2], [3, 5])
    model = graph([helper.make_node("Reshape", ["x", "s"], ["y"])], {}, output=("N", 5))
    model.graph.initializer.append(shape)
    session = open_session(model, tmp_path, "x", torch.float32)
    with pytest.raises(Failed) as caught:
        session.run(torch.zeros(2, 1, 8, 8), ["y"])
    assert caught.value.expected == "the network to answer 2 images"
    assert "::" in caught.value.got
    assert "Input shape:{2,1,8,8}, requested shape:{3,5}" in caught.value.got
    assert caught.value.fix == "check that the file runs in ONNX Runtime on its own"


# the rule


def text_as_errors(root: Path, packages: tuple[str, ...]) -> Iterator[str]:
    """Every place that makes an error of the house form of plain text, or takes an error's text apart."""
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and (found := _wrong(node)):
                    yield f"{file.relative_to(root).as_posix()}:{node.lineno} {found}"


def _wrong(call: ast.Call) -> str | None:
    name = (
        call.func.id
        if isinstance(call.func, ast.Name)
        else call.func.attr
        if isinstance(call.func, ast.Attribute)
        else ""
    )
    texts = [_text(argument) for argument in call.args]
    if name in BUILT_IN and any("expected " in text.lower() for text in texts):
        return f"{name} of plain text"
    if name in CUTS and any(text in PIECES for text in texts):
        return f"{name} at a piece of the sentence"
    if name in REGEX and any(_of_error(argument) for argument in call.args[1:]):
        return f"{name} over an error's text"
    return None


BUILT_IN = {"ValueError", "TypeError", "RuntimeError", "KeyError", "LookupError", "Exception"}
CUTS = {"partition", "rpartition", "split", "rsplit", "removeprefix"}
PIECES = {": ", "expected ", "Expected ", ", got ", " got "}
REGEX = {"match", "fullmatch", "search", "split", "sub", "findall"}


def _text(node: ast.expr) -> str:
    """The constant parts of a text."""
    return "".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def _of_error(node: ast.expr) -> bool:
    """Whether it is `str(error)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "str"
        and any(isinstance(argument, ast.Name) and "err" in argument.id for argument in node.args)
    )


def test_no_error_is_plain_text_and_none_is_taken_apart():
    assert list(text_as_errors(ROOT, PACKAGES)) == []


def test_a_planted_text_is_found(tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.py").write_text(
        "import re\n"
        "def f(error, x):\n"
        "    head, _, tail = str(error).rpartition(': ')\n"
        "    re.fullmatch('(.*), got (.*)', str(error))\n"
        "    raise ValueError(f'expected 3, got {x}: give 3') from error\n"
        "def g(name):\n"
        "    re.fullmatch('a', name)\n"
        "    raise ValueError(name.partition('.')[0])\n"
    )
    assert list(text_as_errors(tmp_path, ("models",))) == [
        "models/bad.py:3 rpartition at a piece of the sentence",
        "models/bad.py:4 fullmatch over an error's text",
        "models/bad.py:5 ValueError of plain text",
    ]
