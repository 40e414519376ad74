"""MNIST and CIFAR-10 in the folder of data: where their files may lie, and readers of the formats they come in.

torchvision's folders are read, but not by torchvision: reading needs no torch, and torchvision opens CIFAR-10's pickles
in the way that can run code. All functions raise EnvironmentFault: FB400 for what is not there, FB408 for what cannot
be read.
"""

from __future__ import annotations

import gzip
import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import one_line
from .download import SWITCH, fetch, wanted
from .readers import Shape, missing, npz, unfit

Split = Literal["test", "train"]
Arrays = tuple[np.ndarray, np.ndarray]
"""Images `(n, c, h, w)` uint8 and labels `(n,)` int64, in the set's own order."""


@dataclass(frozen=True)
class Source:
    """A data set of fixed shape and size."""

    title: str
    shape: Shape
    sizes: dict[Split, int]
    download: str
    """How much there is to fetch."""
    places: tuple[str, ...]
    """Where it may lie, for messages."""
    find: Callable[[Path, Split, int], Arrays | None]
    """(root, split, how many) -> at least the first so many where its files hold them, or None where there is something
    to fetch: no file of it is there, or too short a one and downloads are wanted."""

    classes: int = 10


def first_images(name: Literal["mnist", "cifar10"], split: Split, count: int | None, root: Path) -> Arrays:
    """The first `count` images of a split (all when None), fetched first where that was asked for."""
    source = SOURCES[name]
    count = count or source.sizes[split]
    if count > source.sizes[split]:
        expected = f"`{split}` of at most {source.sizes[split]} for {source.title}"
        unfit(expected, f"{count}", f"{split}: {source.sizes[split]}")
    found = source.find(root, split, count)
    if found is None and wanted():
        fetch(name, source.title, root)
        found = source.find(root, split, count)
    if found is None:
        places = " or ".join(str(root / place) for place in source.places)
        fix = (
            f"set {SWITCH}=1 to fetch them with torchvision ({source.download}), put them there, or let FOOLBENCH_DATA "
            "name the folder where they are"
        )
        missing(f"{source.title}'s {split} images in {places}", "nothing there", fix)
    images, labels = found
    if len(images) < count:
        unfit(f"at least {count} {split} images of {source.title}", f"{len(images)}", "fetch the data again")
    return np.ascontiguousarray(images[:count]), labels[:count].astype(np.int64)


def _mnist(root: Path, split: Split, count: int) -> Arrays | None:
    stem = {"test": "t10k", "train": "train"}[split]
    for folder in (root / "MNIST" / "raw", root / "mnist"):
        images, labels = (_plain_or_packed(folder / f"{stem}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        if images is not None and labels is not None:
            x, y = idx(images), idx(labels)
            if x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or (y > 9).any():
                got = f"{x.shape} and {y.shape}"
                unfit("images of 28×28 and a label 0..9 each", got, "fetch the data again", folder)
            return x[:, None], y
    return None


def _plain_or_packed(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes (LeCun's format for MNIST), plain or gzipped, as an array of uint8."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        unfit("an IDX file", f"one that cannot be read ({one_line(error)})", "fetch the file again", path)
    dimensions = raw[3] if raw[:3] == b"\0\0\x08" and len(raw) > 3 else 0
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start].ljust(4 * dimensions, b"\0"), ">u4"))
    if not dimensions or len(raw) != start + math.prod(shape):
        unfit("an IDX file of bytes", "another kind, or a part of one", "fetch the file again", path)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _cifar10(root: Path, split: Split, count: int) -> Arrays | None:
    for folder in (root / "cifar-10-batches-py", root / "cifar10" / "cifar-10-batches-py"):
        names = ["test_batch"] if split == "test" else [f"data_batch_{i}" for i in range(1, 6)]
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            parts: list[Arrays] = []
            while sum(len(labels) for _, labels in parts) < count and len(parts) < len(files):
                parts.append(cifar_batch(files[len(parts)]))
            images, labels = zip(*parts, strict=True)
            return np.concatenate(images), np.concatenate(labels)
    # The first images alone, losslessly: enough for the battery, and 14 MB for 170.
    part = root / "cifar10" / {"test": "test1000.npz", "train": "train4000.npz"}[split]
    if part.is_file():
        images, labels = npz(part, (3, 32, 32), 10)
        if len(images) >= count:
            return images, labels
        if not wanted():
            fix = f"put the first {count} there, or CIFAR-10's own files into {root / 'cifar-10-batches-py'}"
            got = f"{len(images)}, and no larger file"
            unfit(f"at least {count} {split} images", got, f"{fix}, which {SWITCH}=1 fetches (170 MB)", part)
    return None


def cifar_batch(path: Path) -> Arrays:
    """One of the pickled batches of CIFAR-10's Python version. Nothing but numbers and arrays is unpickled."""
    try:
        with path.open("rb") as file:
            batch = _Numbers(file, encoding="latin1").load()
        images, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except Exception as error:  # damaged pickles raise anything
        unfit("a batch of CIFAR-10", f"one that cannot be read ({one_line(error)})", "fetch the data again", path)
    legal = images.dtype == np.uint8 and images.shape[1:] == (3072,) and labels.shape == images.shape[:1]
    if not legal or labels.dtype.kind not in "iu" or ((labels < 0) | (labels > 9)).any():
        got = f"{images.dtype} {images.shape}"
        unfit("rows of 3072 bytes and a class of 0..9 each", got, "fetch the data again", path)
    return images.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _latin1(text: str, _: str) -> bytes:
    return text.encode("latin1")


_LEGAL: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class _Numbers(pickle.Unpickler):
    """Data must not run code: whatever else a pickle names is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What the pickle names, if it is part of an array."""
        found = _LEGAL.get((module_name.rpartition(".")[2], global_name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return found


SOURCES = {
    "mnist": Source("MNIST", (1, 28, 28), {"test": 10_000, "train": 60_000}, "12 MB", ("MNIST/raw", "mnist"), _mnist),
    "cifar10": Source(
        "CIFAR-10",
        (3, 32, 32),
        {"test": 10_000, "train": 50_000},
        "170 MB",
        ("cifar-10-batches-py", "cifar10"),
        _cifar10,
    ),
}
