"""What a battery's YAML says of its data, a class for each kind. How they are read is in data.py."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..errors import Unexpected
from ..reading.values import Pixels, Sha256, Spec

GivenPath = Annotated[str, Field(min_length=1)]
"""Relative to the battery's YAML (a shipped battery's: to FOOLBENCH_DATA), or absolute. Data may lie anywhere."""


_Level = Annotated[float, Field(ge=0, le=1)]


class DigitsData(Spec):
    """scikit-learn's bundled 8×8 digits: `per_class` evaluation images of each class, all others for training."""

    kind: Literal["digits"]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the split."""
    per_class: Annotated[int, Field(ge=1, le=100, examples=[20])] = 20


class TorchvisionData(Spec):
    """MNIST or CIFAR-10, from FOOLBENCH_DATA: in torchvision's layout or as plain files (`foolbench explain FB400`)."""

    kind: Literal["mnist", "cifar10"]
    test: Annotated[int, Field(ge=1)] | None = None
    """Evaluation images come from the first so many test images; from all when absent."""
    train: Annotated[int, Field(ge=1)] | None = None
    """The mean image and the donors come from the first so many training images; from all when absent."""
    train_sha256: Sha256 | None = None
    """Of these training images' shape, pixels and labels; checked when given."""


class ImageNetData(Spec):
    """ImageNet-1k's validation set, from FOOLBENCH_DATA: one image of each of 500 classes (bench/data/imagenet.py)."""

    kind: Literal["imagenet"]
    resize: Pixels = 256
    """Resize the short side to this (bicubic), then cut the battery's size from the centre."""
    mean: Annotated[tuple[_Level, ...], Field(min_length=3, max_length=3)] = (0.485, 0.456, 0.406)
    """The training set's mean colour in [0, 1], as published with torchvision's models: the mean image is of this one
    colour, so that it takes no copy of the training set to have it."""
    donors: Annotated[int, Field(ge=1, le=1000)] = 20
    """Donors come from so many classes, evenly spaced: the first training image of each."""


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
            raise Unexpected("training images apart from `path`", "the same file", "remove it", at=("train",))
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


DataSpec = DigitsData | TorchvisionData | ImageNetData | NpzData | FolderData
