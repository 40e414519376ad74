"""Whatever is wrong with a submission, its model or its data: a clear error, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from model_files import graph
from onnx import TensorProto, helper
from small_runs import (
    BATTERY,
    SUBMISSION,
    changed,
    foolbench,
    inside,
    nearest_mean,
    one_document,
    refused,
    submit,
    tree,
)

# the YAML

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "FB102", "an empty file"),
        (b"# nothing but a comment\n", "FB102", "an empty file"),
        (b"- schema: 1\n- name: x\n", "FB102", "got a list"),
        (b"just text\n", "FB102", "got one single value"),
        (BOMB.encode(), "FB107", "10,000 values"),
        (b"a: &a [*a]\n", "FB107", "never ends"),
        (b"[" * 5000, "FB107", "too deep"),
        (b"schema: 1\nname: " + b"x" * 10_000_000 + b"\n", "FB100", "9.5 MiB"),
        (b"\x80\x04\x95\x00\x00", "FB101", "binary"),
        (b"<!DOCTYPE html><html></html>", "FB101", "HTML"),
        (b"schema: [1\nname: x\n", "FB101", "brackets"),
        (b"schema: !!python/object/apply:os.system ['touch gone']\n", "FB101", "never read"),
    ],
    ids=["empty", "comment", "list", "text", "bomb", "loop", "deep", "10MB", "binary", "html", "open", "code"],
)
def test_yaml_that_is_none(tmp_path: Path, content: bytes, code: str, words: str):
    path = tmp_path / "submission.yaml"
    path.write_bytes(content)
    assert words in refused(inside("validate", path), 2, code)
    document = one_document(inside("evaluate", path, "--json"))
    assert code in {error["code"] for error in document["errors"]}
    assert os.listdir(tmp_path) == ["submission.yaml"]


def test_the_installed_command_refuses_alike(tmp_path: Path):
    (tmp_path / "submission.yml").write_text("")
    assert "did you mean" in refused(foolbench("validate", "submission.yaml", cwd=tmp_path), 2, "FB100")


# the model's file


def _external(location: str, length: int = 2560) -> bytes:
    model = nearest_mean()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    size = len(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(min(size, length)))):
        weight.external_data.add(key=key, value=value)
    return model.SerializeToString()


def _custom() -> bytes:
    node = helper.make_node("Shell", ["z"], ["y"], domain="com.example")
    model = nearest_mean([node])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model.SerializeToString()


def _classes(count: int) -> bytes:
    weights = {"w": np.zeros((64, count), np.float32), "b": np.arange(count, dtype=np.float32)}
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    return graph(nodes, weights, output=("N", count)).SerializeToString()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (lambda: nearest_mean().SerializeToString()[:-700], "FB204", "copy or export it again"),
        (lambda: b"", "FB204", "0 bytes"),
        (lambda: pickle.dumps({"state_dict": [1.0]}), "FB203", "a pickle"),
        (lambda: b"PK\x03\x04" + bytes(100), "FB203", "torch.save"),
        (lambda: b"\n<!doctype html><title>Sign in</title>", "FB202", "web page"),
        (_custom, "FB205", "com.example::Shell"),
        (lambda: _external("/etc/passwd"), "FB206", "/etc/passwd"),
        (lambda: _external("../weights.bin"), "FB206", "inside the model's own folder"),
        (lambda: _external("link.bin"), "FB206", "inside the model's own folder"),
        (lambda: _external("gone.bin"), "FB206", "nothing there"),
        (lambda: _external("short.bin"), "FB206", "got 10"),
        (lambda: _classes(7), "FB207", "got 7"),
        (lambda: _classes(11), "FB207", "reject_index"),
    ],
    ids=[
        *("truncated", "0 bytes", "pickle", "zip", "html", "custom operator", "absolute", "parent", "link", "gone"),
        *("short", "7 classes", "11 classes"),
    ],
)
def test_model_files_that_are_refused(tmp_path: Path, content: Callable[[], bytes], code: str, words: str):
    home = tmp_path / "home"
    path = submit(home, model=content())
    (tmp_path / "weights.bin").write_bytes(bytes(2560))
    (home / "link.bin").symlink_to(tmp_path / "weights.bin")
    (home / "short.bin").write_bytes(bytes(10))
    before = tree(home)
    message = refused(inside("evaluate", path, "--out", home / "run"), 2, code)
    assert words in message
    assert "submission.yaml:" in message
    assert tree(home) == before


def test_external_data_inside_the_folder_works(tmp_path: Path):
    path = submit(tmp_path, model=_external("weights.bin"))
    weight = next(tensor for tensor in nearest_mean().graph.initializer if tensor.name == "w")
    (tmp_path / "weights.bin").write_bytes(onnx.numpy_helper.to_array(weight).tobytes())
    assert inside("evaluate", path, "--out", tmp_path / "run").returncode == 0


def test_files_that_are_named_and_are_not_there_or_not_those(tmp_path: Path):
    path = submit(tmp_path, submission=changed(SUBMISSION, model__path="modle.onnx"))
    assert "did you mean model.onnx" in refused(inside("validate", path), 2, "FB108")
    path = submit(tmp_path, submission=changed(SUBMISSION, model__sha256="0" * 64))
    assert "fetch the file again" in refused(inside("evaluate", path), 2, "FB201")
    (tmp_path / "other").mkdir()
    path = submit(tmp_path / "other", submission=changed(SUBMISSION, model__path="../model.onnx"))
    refused(inside("validate", path), 2, "FB109")
    (tmp_path / "other" / "model.onnx").unlink()
    (tmp_path / "other" / "model.onnx").symlink_to(tmp_path / "model.onnx")
    path.write_text(yaml.safe_dump(SUBMISSION))
    assert "link out of it" in refused(inside("validate", path), 2, "FB109")


# the model at work

CORNER = {
    "start": np.array([0, 0, 0, 0]),
    "stop": np.array([10**6, 1, 1, 1]),
    "flat": np.array([-1, 1]),
    "half": np.array(0.5, np.float32),
    "nan": np.array(np.nan, np.float32),
}
"""Clean digits are black in their first corner: what depends on it only shows when the attacks are at work."""
FIRST = [helper.make_node("Slice", ["x", "start", "stop"], ["corner"]),
         helper.make_node("Reshape", ["corner", "flat"], ["dot"]),
         helper.make_node("Greater", ["dot", "half"], ["bright"])]  # fmt: skip
RAISES = [helper.make_node("Cast", ["z"], ["whole"], to=TensorProto.INT64),
          helper.make_node("Gather", ["table", "whole"], ["taken"]),
          helper.make_node("Add", ["z", "taken"], ["y"])]  # fmt: skip
RAISES_LATER = [*FIRST, helper.make_node("Cast", ["bright"], ["index"], to=TensorProto.INT64),
                helper.make_node("Gather", ["table", "index"], ["taken"]),
                helper.make_node("Add", ["z", "taken"], ["y"])]  # fmt: skip
NAN = [helper.make_node("Log", ["z"], ["y"])]
NAN_LATER = [*FIRST, helper.make_node("Where", ["bright", "nan", "z"], ["y"])]
CHANGES = [helper.make_node("RandomUniformLike", ["z"], ["r"]), helper.make_node("Add", ["z", "r"], ["y"])]


@pytest.mark.parametrize(
    ("nodes", "code", "words"),
    [
        (NAN, "FB300", "NaN"),
        (NAN_LATER, "FB300", "NaN"),
        (RAISES, "FB301", "ONNX Runtime"),
        (RAISES_LATER, "FB301", "ONNX Runtime"),
        (CHANGES, "FB302", "the same answers"),
    ],
    ids=["nan", "nan on attacks", "raises", "raises on attacks", "changes"],
)
def test_models_that_fail_at_work(tmp_path: Path, nodes: list[Any], code: str, words: str):
    model = nearest_mean(nodes, **CORNER, table=np.zeros(1, np.float32))
    path = submit(tmp_path, model=model)
    same = ("evaluate", path, "--out", tmp_path / "run", "--progress", "none")
    assert words in refused(inside(*same), 3, code)
    answer = inside(*same, "--json")
    assert (answer.returncode, one_document(answer)["error"]["code"]) == (3, code)
    assert not (tmp_path / "run" / "record.json").exists()


# the data


def _npz(home: Path, x: np.ndarray, y: np.ndarray) -> None:
    np.savez(home / "test.npz", x=x, y=y)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda home: (home / "test.npz").unlink(), "FB400", "test.npz"),
        (lambda home: (home / "train.npz").unlink(), "FB400", "train.npz"),
        (lambda home: os.truncate(home / "test.npz", 1000), "FB408", "a part of one"),
        (lambda home: _npz(home, x=np.zeros((9, 8, 8), np.float32), y=np.zeros(9, int)), "FB408", "uint8"),
        (lambda home: _npz(home, x=np.zeros((40, 9, 9), np.uint8), y=np.zeros(40, int)), "FB408", "shape"),
        (lambda home: _npz(home, x=np.zeros((40, 8, 8), np.uint8), y=np.full(40, 10)), "FB408", "0..9"),
        (lambda home: _npz(home, x=np.zeros((9, 8, 8), np.uint8), y=np.zeros(9, int)), "FB400", "20 evaluation"),
    ],
    ids=["missing", "no training", "truncated", "floats", "shape", "labels", "few"],
)
def test_data_that_is_missing_or_does_not_fit(tmp_path: Path, spoil: Callable[[Path], None], code: str, words: str):
    path = submit(tmp_path)
    spoil(tmp_path)
    assert words in refused(inside("evaluate", path, "--out", tmp_path / "run"), 4, code)
    assert not (tmp_path / "run").exists()


def test_data_that_was_altered(tmp_path: Path):
    path = submit(tmp_path)
    assert inside("evaluate", path, "--out", tmp_path / "run").returncode == 0
    held = json.loads((tmp_path / "run" / "run.json").read_bytes())["data"]
    submit(tmp_path, battery=changed(BATTERY, digest=held))
    assert inside("evaluate", path, "--dry-run").returncode == 0
    with np.load(tmp_path / "test.npz") as arrays:
        x, y = arrays["x"].copy(), arrays["y"]
    x[0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "test.npz", x=x, y=y)
    message = refused(inside("evaluate", path), 4, "FB401")
    assert held[:12] in message


def test_a_battery_that_is_wrong_is_told_with_its_own_lines(tmp_path: Path):
    battery = changed(BATTERY, images="many", attacks__fgsm__epsilon=2)
    path = submit(tmp_path, battery=battery)
    message = refused(inside("validate", path), 2, "FB104")
    assert "battery.yaml:" in message
    assert "attacks.fgsm.epsilon" in message
    assert "2 errors" in message
    refused(inside("evaluate", submit(tmp_path), "--tier", "smoke"), 2, "FB105")


def test_a_patch_larger_than_the_images_is_told_on_its_line(tmp_path: Path):
    """Of 8×8 pixels. The largest that fits is read."""
    path = submit(tmp_path, battery=changed(BATTERY, attacks__deepception__side=9))
    for command in ("probe", "evaluate"):
        message = refused(inside(command, path), 2, "FB104")
        assert "Expected a side of at most 8 for images of [1, 8, 8], got 9." in message
        line = 1 + (tmp_path / "battery.yaml").read_text().splitlines().index("    side: 9")
        assert f"battery.yaml:{line}:" in message
    path = submit(tmp_path, battery=changed(BATTERY, attacks__deepception__side=8))
    assert inside("validate", path).returncode == 0
