"""The data of a battery: what its YAML says of it, and the images that attacks, judge and recipes are given.

Three kinds: scikit-learn's bundled digits, an npz, and a folder of images with a CSV. The readers are in datasets.py
and imported on use: naming a data set must not cost the import of numpy.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from .checks import Pixels, Spec
from .errors import EnvironmentFault, Problem
from .wording import refuse

if TYPE_CHECKING:
    import numpy as np

    from .datasets import Digits

GivenPath = Annotated[str, Field(min_length=1)]
"""Relative to the battery's YAML (a shipped battery's: to FOOLBENCH_DATA), or absolute. Data may lie anywhere."""


class DigitsData(Spec):
    """scikit-learn's bundled 8×8 digits: `per_class` evaluation images of each class, all others for training."""

    kind: Literal["digits"]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the split."""
    per_class: Annotated[int, Field(ge=1, le=100, examples=[20])] = 20


class NpzData(Spec):
    """An .npz with `x` uint8 (n, h, w), (n, h, w, c) or (n, c, h, w) and `y` whole numbers (n,)."""

    kind: Literal["npz"]
    path: Annotated[GivenPath, Field(examples=["test.npz"])]
    """Evaluation images."""
    train: Annotated[GivenPath, Field(examples=["train.npz"])] | None = None
    """Training images, of the same form: for the mean image and the donors."""

    @model_validator(mode="after")
    def _apart(self) -> NpzData:
        if self.train is not None and os.path.normpath(self.train) == os.path.normpath(self.path):
            raise refuse(
                "FB104", "Expected training images apart from `path`, got the same file.", "remove it", at=("train",)
            )
        return self


class FolderTraining(Spec):
    """Training images of a `folder`. Only those that the CSV lists are opened: list as many as the mean needs."""

    path: Annotated[GivenPath, Field(examples=["train"])]
    csv: Annotated[GivenPath, Field(examples=["train.csv"])]


class FolderData(Spec):
    """A folder of images and a CSV with a header and the columns `file` (in the folder) and `class_index`."""

    kind: Literal["folder"]
    path: Annotated[GivenPath, Field(examples=["images"])]
    """Evaluation images; anything that Pillow opens with 8 bits a channel."""
    csv: Annotated[GivenPath, Field(examples=["labels.csv"])]
    resize: Pixels | None = None
    """Resize the short side to this (bicubic), then cut the battery's size from the centre. When absent: resize the
    largest centred part that has the battery's proportions (bicubic)."""
    train: FolderTraining | None = None
    """For the mean image and the donors."""


DataSpec = DigitsData | NpzData | FolderData


@dataclass(frozen=True)
class Data:
    """A battery's images. All arrays are read-only."""

    images: np.ndarray
    """`(n, c, h, w)` uint8: evaluation images, going round the classes 0, 1, …, so that any prefix is balanced."""
    labels: np.ndarray
    """`(n,)` int64."""
    indices: np.ndarray
    """`(n,)` int64: each image's position in its source."""
    mean: np.ndarray
    """`(c, h, w)` float32 in [0, 1]: mean of the training images; mid-gray where there are none."""
    donors: np.ndarray
    """`(m, c, h, w)` uint8: the first training images of each class, going round the classes; none of them is an
    evaluation image."""
    donor_labels: np.ndarray
    """`(m,)` int64."""
    no_training: str | None
    """Where there are no training images (so no donors, and a gray mean): the reason, in a sentence."""
    digest: str
    """sha256 of the evaluation images' shape, pixels and labels."""


def data_root() -> Path:
    """Where the data of shipped batteries lies: FOOLBENCH_DATA, else the user's own data folder for foolbench."""
    from platformdirs import user_data_path

    given = os.environ.get("FOOLBENCH_DATA")
    return Path(given).expanduser() if given else user_data_path("foolbench", appauthor=False)


def load(
    spec: DataSpec,
    *,
    folder: Path,
    shape: tuple[int, int, int],
    classes: int,
    images: int | None = None,
    donors_per_class: int = 0,
    digest: str | None = None,
) -> Data:
    """Load a battery's data.

    `folder` is where relative paths start, `shape` the battery's (c, h, w), `images` how many evaluation images to take
    (all by default), `digest` what `Data.digest` must be. The evaluation images are taken in the order of the source,
    class by class in turn; a class that has no more is passed over.

    Raises EnvironmentFault: FB400 for data that is not there (or too few images), FB401 where the digest differs, FB408
    for data that cannot be read or does not fit the battery.
    """
    import numpy as np

    from . import datasets

    evaluation, labels, indices = _evaluation(spec, folder, shape, classes, images)
    got = digest_of(evaluation, labels)
    if digest is not None and got != digest:
        where = f" in {folder / spec.path}" if not isinstance(spec, DigitsData) else ""
        message = f"Expected evaluation images with the sha256 {digest[:12]}…{where}, got {got[:12]}…."
        fix = f"fetch the original data again; if the battery itself was changed, digest: {got}"
        raise EnvironmentFault(Problem("FB401", message, fix))
    train, train_labels = training(spec, folder=folder, shape=shape, classes=classes)
    mean = np.full(shape, 0.5, np.float32)
    if len(train):
        mean = (train.mean(0, dtype=np.float64) / 255).astype(np.float32)
    kept = datasets.donors(train, train_labels, evaluation, classes, donors_per_class)
    donors, donor_labels = train[kept], train_labels[kept]
    for array in (evaluation, labels, indices, mean, donors, donor_labels):
        array.flags.writeable = False
    reason = None if len(train) else "The battery names no training images (`data.train`)."
    return Data(evaluation, labels, indices, mean, donors, donor_labels, reason, got)


def _evaluation(
    spec: DataSpec, folder: Path, shape: tuple[int, int, int], classes: int, images: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import numpy as np

    from . import datasets

    def chosen(labels: np.ndarray, source: str) -> np.ndarray:
        order = datasets.in_turn(labels)
        if not len(order) or (images or 0) > len(order):
            wanted = "evaluation images" if images is None else f"{images} evaluation images"
            fix = "add images, or lower the battery's `images`"
            datasets.missing(f"Expected {wanted} in {source}, got {len(order)}.", fix)
        return order[:images]

    if isinstance(spec, FolderData):
        rows = datasets.rows(folder / spec.path, folder / spec.csv, classes)
        every = np.array([label for _, label in rows], np.int64)
        order = chosen(every, str(folder / spec.csv))
        return datasets.pictures([rows[i][0] for i in order], shape, spec.resize), every[order], order
    if isinstance(spec, NpzData):
        x, y = datasets.npz(folder / spec.path, shape, classes)
        order = chosen(y, str(folder / spec.path))
    else:
        x, y, held_out, _ = _digits(spec, shape, classes)
        order = held_out[chosen(y[held_out], "scikit-learn's digits")]
    return x[order], y[order], order


def training(
    spec: DataSpec, *, folder: Path, shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """All training images `(n, c, h, w)` uint8 and labels `(n,)` int64; n is 0 where the battery names none.

    What recipes train panels and submissions on. Raises EnvironmentFault like `load`.
    """
    import numpy as np

    from . import datasets

    if isinstance(spec, DigitsData):
        x, y, _, rest = _digits(spec, shape, classes)
        return x[rest], y[rest]
    if isinstance(spec, NpzData) and spec.train is not None:
        return datasets.npz(folder / spec.train, shape, classes)
    if isinstance(spec, FolderData) and spec.train is not None:
        rows = datasets.rows(folder / spec.train.path, folder / spec.train.csv, classes)
        pixels = datasets.pictures([file for file, _ in rows], shape, spec.resize)
        return pixels, np.array([label for _, label in rows], np.int64)
    return np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64)


def _digits(spec: DigitsData, shape: tuple[int, int, int], classes: int) -> Digits:
    from . import datasets

    if shape != (1, 8, 8) or classes != 10:
        message = f"Expected shape [1, 8, 8] and 10 classes for digits, got {list(shape)} and {classes}."
        raise EnvironmentFault(Problem("FB408", message, "shape: [1, 8, 8]"))
    return datasets.digits(spec.seed, spec.per_class)


def digest_of(images: np.ndarray, labels: np.ndarray) -> str:
    """sha256 of images' shape, pixels and labels: what a battery's `digest` states.

    `images` uint8 `(n, c, h, w)`, `labels` `(n,)`.
    """
    digest = hashlib.sha256(f"{list(images.shape)}\n".encode())
    digest.update(images.tobytes())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()
