"""The folder of real data: where it is, what it holds, and a sentence where a file of it is missing or damaged."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FIX = "copy it there, or name a whole folder with FOOLBENCH_TEST_DATA"
FILES = {
    "mnist": tuple(
        f"mnist/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ),
    "cifar10": ("cifar10/test1000.npz", "cifar10/train4000.npz"),
    "imagenet": ("imagenet1k_sample/labels.csv",),
    "published": tuple(f"published/one_pixel_{kind}.csv" for kind in ("targeted", "untargeted")),
}
"""The files beside the networks; what else labels.csv names is looked for where it is read."""


class DataError(Exception):
    """A file of the folder that is missing or damaged: what was expected, what came, what to do."""


def data_folder() -> Path | None:
    """The folder of real data: FOOLBENCH_TEST_DATA, or `shared/data` beside the repository."""
    found = Path(os.environ.get("FOOLBENCH_TEST_DATA") or ROOT.parent / "shared" / "data")
    return found if found.is_dir() else None


@cache
def networks(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of models.json by the stem of their file, those of timm last. Raises DataError."""
    with reading(folder / "models.json") as path:
        table = json.loads(path.read_text())
        return {Path(row["file"]).stem: row for row in table["onnx"] + table["timm"]}


def network_row(folder: Path, name: str) -> dict[str, Any]:
    """What models.json says of a network. Raises DataError."""
    try:
        return networks(folder)[name]
    except KeyError:
        raise DataError(f"expected {name} in {folder / 'models.json'}, got no such network: {FIX}") from None


def network_names(folder: Path, dataset: str) -> list[str]:
    """The networks for "mnist", "cifar10" or "imagenet". Raises DataError."""
    return [name for name, row in networks(folder).items() if row["dataset"] == dataset]


def check_networks(folder: Path, names: Iterable[str]) -> None:
    """Hold files to the sha256 that models.json states. Raises DataError for the first that is not there or not it."""
    for name in names:
        row = network_row(folder, name)
        with reading(folder / row["file"]) as path:
            if hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
                raise ValueError("its sha256 is not the one in models.json")


def check_files(folder: Path, kinds: Iterable[str]) -> None:
    """Raise DataError for the first file of these `FILES` that is not there."""
    for name in (name for kind in kinds for name in FILES[kind]):
        with reading(folder / name) as path, path.open("rb"):
            pass


def idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's "train" or "t10k": `(n, 1, 28, 28)` and `(n,)` uint8. Raises DataError."""
    found = []
    for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
        with reading(folder / "mnist" / f"{part}-{kind}-ubyte.gz") as path:
            raw = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
            start = 4 + 4 * dimensions
            found.append(raw[start:].reshape(raw[4:start].view(">u4")))  # a ValueError where these are not all
    return found[0].reshape(-1, 1, 28, 28), found[1]


def cifar(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's "test1000" or "train4000": `(n, 3, 32, 32)` and `(n,)` uint8. Raises DataError."""
    with reading(folder / "cifar10" / f"{name}.npz") as path, path.open("rb") as file, np.load(file) as arrays:
        return arrays["x"].transpose(0, 3, 1, 2), arrays["y"]


@contextmanager
def reading(path: Path) -> Iterator[Path]:
    """Read one file; whatever is wrong with it becomes a DataError."""
    try:
        yield path
    except FileNotFoundError as error:
        raise DataError(f"expected {path}, got no such file: {FIX}") from error
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"expected a whole {path}, got one that cannot be used ({error}): {FIX}") from error
