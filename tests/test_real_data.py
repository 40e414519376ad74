"""The benchmarks' folder of real data: each file that is missing or damaged is named, with what to do."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

CONTENT = b"a network"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "benchmarks"))
    return importlib.import_module("real_data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one network and one image of each kind, whole."""
    for name in ("onnx", "mnist", "cifar10"):
        (tmp_path / name).mkdir()
    (tmp_path / "onnx" / "net.onnx").write_bytes(CONTENT)
    row = {"file": "onnx/net.onnx", "dataset": "mnist", "sha256": hashlib.sha256(CONTENT).hexdigest()}
    (tmp_path / "models.json").write_text(json.dumps({"onnx": [row], "timm": []}))
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(1, 28, 28) + bytes([7] * 784)))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(1) + bytes([3])))
    np.savez(tmp_path / "cifar10" / "test1000.npz", x=np.full((1, 32, 32, 3), 9, np.uint8), y=np.array([4], np.uint8))
    return tmp_path


def idx(*sizes: int) -> bytes:
    """The head of an IDX file."""
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


def read_all(data: ModuleType, folder: Path) -> None:
    data.check_networks(folder, ["net"])
    (images, labels), (pictures, theirs) = data.idx(folder, "t10k"), data.cifar(folder, "test1000")
    assert (images.shape, images.max(), labels.tolist()) == ((1, 1, 28, 28), 7, [3])
    assert (pictures.shape, pictures.max(), theirs.tolist()) == ((1, 3, 32, 32), 9, [4])


def test_a_whole_folder_is_read(data: ModuleType, folder: Path) -> None:
    read_all(data, folder)
    assert data.network_names(folder, "mnist") == ["net"]
    assert data.network_names(folder, "cifar10") == []
    with pytest.raises(data.DataError, match=r"expected other in .*models.json, got no such network: copy"):
        data.check_networks(folder, ["other"])


@pytest.mark.parametrize(
    "name",
    [
        *("models.json", "onnx/net.onnx", "mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz"),
        "cifar10/test1000.npz",
    ],
)
@pytest.mark.parametrize(
    ("spoil", "expected", "got"),
    [
        (Path.unlink, "expected ", ", got no such file: copy it there"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "expected a whole ", ", got one that cannot be used ("),
        (lambda path: path.write_bytes(b""), "expected a whole ", ", got one that cannot be used ("),
    ],
    ids=["missing", "cut short", "empty"],
)
def test_what_is_missing_or_damaged_is_named(
    data: ModuleType, folder: Path, name: str, spoil: Callable[[Path], object], expected: str, got: str
) -> None:
    spoil(folder / name)
    with pytest.raises(data.DataError) as raised:
        read_all(data, folder)
    assert str(raised.value).startswith(f"{expected}{folder / name}{got}")
