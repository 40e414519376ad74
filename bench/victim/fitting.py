"""Training images for defenses that are fitted to data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...models.levels import from_bytes
from ..battery.battery import Battery
from ..data.data import training
from ..data.spread import evenly
from ..errors import Unexpected

TrainingImages = Callable[[int], tuple[Tensor, Tensor]]
"""At most how many -> what `training_images` returns: the images as they are, or as a defense sees them, changed by
what an image meets before it."""


def training_images(battery: Battery, most: int) -> tuple[Tensor, Tensor]:
    """At most `most` of the battery's training images, of each class in proportion (see `evenly`), and their labels.

    The same images on every machine: no chance is involved. An evaluation image is never among a shipped battery's.

    Returns:
        `(n, c, h, w)` float32 in [0, 1] and `(n,)` int64, both on the CPU, in the order of the source, n at least 1.

    Raises:
        ValueError: the battery has no training images.
        EnvironmentFault: they are not there, or cannot be read.
    """
    spec = battery.spec
    images, labels = training(spec.data, folder=battery.data_folder, shape=spec.shape, classes=battery.classes)
    if len(images) == 0:
        raise Unexpected(
            "training images to fit this defense to",
            f"none in the battery {spec.name}",
            "name some in the battery's `data.train`, or leave this defense out",
        )
    chosen = evenly(labels, most)
    return from_bytes(torch.from_numpy(images[chosen])), torch.from_numpy(labels[chosen].astype(np.int64))
