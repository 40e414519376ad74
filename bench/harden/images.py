"""The training images that a recipe works on, and those that it measures on: none of them is an evaluation image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...models.levels import from_bytes
from ..battery.battery import Battery
from ..data.data import digest_of, training
from ..data.spread import evenly
from ..errors import EnvironmentFault, InvalidInput, Problem, Where

HELD_OUT = 10
"""One in so many is held out, and one in so many of the others is to choose by; but one of each class at least."""
MOST = 1000
"""At most so many each."""
FITTED = 2000
"""A defense is fitted to at most so many, and to at most four fifths of all, so that some are left for the others."""
EACH = 3
"""What a class needs: an image to fit to, one to choose by and one to measure on."""


@dataclass(frozen=True)
class Images:
    """Images `(n, c, h, w)` float32 in [0, 1] with 8 bits, labels `(n,)` int64, on the device.

    Each class is in all parts, in proportion, as evenly spread as `spread` does it.
    """

    train: Tensor
    """To train classifiers on."""
    labels: Tensor
    choosing: Tensor
    """`(n,)` bool: those of `train` to choose a defense's threshold and parameters by. It is not trained on them."""
    held: Tensor
    """To measure on. Nothing is trained on them, fitted to them or chosen by them."""
    held_labels: Tensor
    fitted: int
    """A defense that is fitted to exactly so many of the battery's training images when a submission is loaded (see
    `training_images`) sees none of those to choose by and none of those held out."""
    mean: Tensor
    """`(c, h, w)`: of `train`."""
    digest: str
    """sha256 of all of them."""


def images_of(battery: Battery, most: int | None, device: torch.device) -> Images:
    """At most `most` of a battery's training images, in parts.

    Raises EnvironmentFault where the battery has too few of a class, or they cannot be read, and InvalidInput where
    `most` is too low.
    """
    spec = battery.spec
    images, labels = training(spec.data, folder=battery.data_folder, shape=spec.shape, classes=battery.classes)
    counts = np.bincount(labels, minlength=battery.classes)
    least = int(counts.min())
    if least < EACH:
        expected = f"at least {EACH} training images of every class to harden a model with"
        got = f"{least} of class {spec.class_names[int(counts.argmin())]}"
        raise EnvironmentFault(Problem("FB408", expected, got, "name more in the battery's `data.train`"))
    count = len(labels) if most is None else min(most, len(labels))
    if count < EACH * battery.classes:
        expected, got = f"{EACH} images of every class", f"{count} for {battery.classes}"
        fix, where = f"--training-images {EACH * battery.classes}", Where(key="--training-images")
        raise InvalidInput(Problem("FB114", expected, got, fix, where))
    # At least two of every class are left.
    fitted = min(FITTED, len(labels) * 4 // 5, len(labels) * (least - 2) // least)
    part = max(battery.classes, min(MOST, count // HELD_OUT))
    rest = _without(np.arange(len(labels)), evenly(labels, fitted))
    held = rest[evenly(labels[rest], part)]
    rest = _without(rest, held)
    choosing = rest[evenly(labels[rest], part)]
    others = _without(np.arange(len(labels)), np.concatenate([held, choosing]))
    others = others[evenly(labels[others], count - 2 * part)]
    train = np.sort(np.concatenate([others, choosing]))
    x, y = from_bytes(torch.from_numpy(images[train]).to(device)), torch.from_numpy(labels[train]).to(device)
    return Images(
        x,
        y,
        torch.from_numpy(np.isin(train, choosing)).to(device),
        from_bytes(torch.from_numpy(images[held]).to(device)),
        torch.from_numpy(labels[held]).to(device),
        fitted,
        x.mean(0),
        digest_of(np.concatenate([images[train], images[held]]), np.concatenate([labels[train], labels[held]])),
    )


def _without(positions: np.ndarray, taken: np.ndarray) -> np.ndarray:
    return np.setdiff1d(positions, taken, assume_unique=True)
