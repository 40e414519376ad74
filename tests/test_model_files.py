"""What is refused before it is run: every kind, with what was expected, what came and what to do."""

import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from foolbench.models.files import sha256_of
from foolbench.models.onnx.check import ModelFileError, checked_onnx, checked_safetensors, external_files
from model_files import graph, linear, linear_scores, linear_weights, load, pictures, seeded
from onnx import TensorProto, helper
from safetensors.torch import save_file


def refused(path: Path, sha256: str | None = None) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        checked_onnx(path, sha256)
    error = caught.value
    assert str(error) == f"expected {error.expected}, got {error.got}: {error.fix}"
    return caught.value


def zipped(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "truncated"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "html"),
        (b"<html>", "html"),
        (pickle.dumps({"state_dict": [1.0]}), "pickle"),
        (pickle.dumps([1.0], protocol=2), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "truncated"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "unsupported"),
        (b"\x1f\x8b\x08" + bytes(100), "unsupported"),
        (bytes(1000), "truncated"),
        (np.random.default_rng(0).bytes(1000), "truncated"),
        (linear().SerializeToString()[:-100], "truncated"),
        (linear().SerializeToString()[:9], "truncated"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "truncated"),
    ],
)
def test_a_file_of_another_kind_is_refused(data: bytes, kind: str, tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert refused(path).kind == kind


def test_a_zip_as_torch_saves_them_is_refused(tmp_path: Path):
    path = tmp_path / "model.pt"
    zipped(path)
    assert refused(path).kind == "pickle"


def test_missing_files_and_folders_are_refused(tmp_path: Path):
    assert refused(tmp_path / "nothing.onnx").kind == "missing"
    assert "a folder" in refused(tmp_path).got


def test_a_wrong_sha256_names_both(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().SerializeToString())
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256_of(path) == right
    checked_onnx(path, right.upper())
    error = refused(path, "0" * 64)
    assert error.kind == "sha256"
    assert right in str(error)
    assert "0" * 64 in str(error)


def test_custom_operators_are_refused_wherever_they_hide(tmp_path: Path):
    evil = helper.make_node("Evil", ["x"], ["y"], domain="com.evil")
    branch = helper.make_graph([evil], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    hidden = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = tmp_path / "model.onnx"
    for node in (evil, hidden):
        path.write_bytes(graph([node], {"c": np.array(True)}).SerializeToString())
        error = refused(path)
        assert error.kind == "custom_operator"
        assert "com.evil::Evil" in error.got


def test_functions_that_a_model_brings_along_are_not_custom_operators(tmp_path: Path):
    body = [helper.make_node("Flatten", ["a"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["o"])]
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Head", ["a", "w", "b"], ["o"], body, opset)
    model = graph([helper.make_node("Head", ["x", "w", "b"], ["y"], domain="own")], linear_weights())
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function)
    loaded = load(model, tmp_path)
    images = pictures()
    expected = linear_scores(images).softmax(1)
    torch.testing.assert_close(loaded.classifier.probabilities(images, seeded()), expected, atol=1e-5, rtol=0)
    function.node.append(helper.make_node("Evil", ["o"], ["p"], domain="com.evil"))
    model.functions[0].CopyFrom(function)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert refused(path).kind == "custom_operator"


def external(location: str, offset: int = 0, length: int | None = None) -> onnx.ModelProto:
    model = linear()
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", size if length is None else length)):
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "link.bin", "", "not there"]
)
def test_external_data_outside_the_folder_is_refused(location: str, tmp_path: Path):
    folder = tmp_path / "submission"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "model.onnx").write_bytes(external(location).SerializeToString())
    assert refused(folder / "model.onnx").kind == "external_data"


def test_external_data_that_is_too_short_is_refused(tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(bytes(100))
    (tmp_path / "model.onnx").write_bytes(external("w.bin").SerializeToString())
    assert refused(tmp_path / "model.onnx").kind == "external_data"


def test_external_data_inside_the_folder_is_read(tmp_path: Path):
    (tmp_path / "data").mkdir()
    weights = tmp_path / "data" / "w.bin"
    weights.write_bytes(bytes(64) + linear_weights()["w"].tobytes())
    model = external("data/w.bin", offset=64)
    loaded = load(model, tmp_path)
    images = pictures()
    expected = linear_scores(images).softmax(1)
    torch.testing.assert_close(loaded.classifier.probabilities(images, seeded()), expected, atol=1e-5, rtol=0)
    assert loaded.certificate.agrees
    assert external_files(model, tmp_path) == (weights.resolve(),)


def test_a_graph_that_onnx_runtime_refuses_is_refused_in_a_sentence(tmp_path: Path):
    model = graph([helper.make_node("Gemm", ["x", "nowhere"], ["y"])], {})
    with pytest.raises(ModelFileError) as caught:
        load(model, tmp_path)
    assert caught.value.kind == "unsupported"
    assert "nowhere" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data: data, None),
        (lambda data: data[:-4], "truncated"),
        (lambda data: data + b"more", "truncated"),
        (lambda data: data[:20], "truncated"),
        (lambda data: b"", "truncated"),
        (lambda data: pickle.dumps({"w": [1.0]}), "pickle"),
        (lambda data: b"<html>not found</html>", "html"),
        (lambda data: linear().SerializeToString(), "unsupported"),
    ],
)
def test_safetensors_are_told_from_what_is_not(change, kind: str | None, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    # a header of 640 bytes begins with the two bytes of a pickle of protocol 2
    save_file({"weight": torch.ones(3)}, path, metadata={"note": "x" * 550})
    assert path.read_bytes()[:2] == b"\x80\x02"
    path.write_bytes(change(path.read_bytes()))
    if kind is None:
        assert checked_safetensors(path) == path.read_bytes()
    else:
        with pytest.raises(ModelFileError) as caught:
            checked_safetensors(path)
        assert caught.value.kind == kind
