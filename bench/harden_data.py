"""The training images that a recipe works on, and those that it measures on: none of them is an evaluation image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .battery import Battery
from .data import digest_of
from .errors import EnvironmentFault, Problem
from .fitting import training_images

HELD_OUT = 10
"""One in so many is held out of training."""
MOST = 1000
"""At most so many are held out."""


@dataclass(frozen=True)
class Images:
    """Images `(n, c, h, w)` float32 in [0, 1] with 8 bits, labels `(n,)` int64, on the device."""

    train: Tensor
    labels: Tensor
    held: Tensor
    """To measure on; never trained on."""
    held_labels: Tensor
    mean: Tensor
    """`(c, h, w)`: of `train`."""
    digest: str
    """sha256 of all of them."""


def images_of(battery: Battery, most: int | None, device: torch.device) -> Images:
    """At most `most` of a battery's training images, spread evenly, in two parts.

    Raises EnvironmentFault where the battery has none or too few, or they cannot be read.
    """
    try:
        images, labels = training_images(battery, 2**62 if most is None else most)
    except ValueError as error:  # there are none
        raise _too_few(0, battery) from error
    if len(images) < 2 * battery.classes:
        raise _too_few(len(images), battery)
    digest = digest_of((images * 255).round().byte().numpy(), labels.numpy())
    gap = max(HELD_OUT, -(-len(images) // MOST))
    held = torch.arange(len(images)) % gap == gap - 1
    train, mean = images[~held].to(device), images[~held].mean(0).to(device)
    return Images(train, labels[~held].to(device), images[held].to(device), labels[held].to(device), mean, digest)


def _too_few(got: int, battery: Battery) -> EnvironmentFault:
    message = f"expected at least {2 * battery.classes} training images to harden a model with, got {got}."
    return EnvironmentFault(Problem("FB408", message, "name more in the battery's `data.train`, or raise --images"))
