"""What `foolbench harden` is asked to do, with every default filled in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...attacks.fgsm import FgsmSpec
from ...attacks.spec import pixel_range
from ...models.training.train import Training
from ..battery.battery import Battery
from ..choices import HardenAttack, HardenHow, HardenNetwork
from .adversary import Adversary, fgsm, pgd

SHOWN = 160_000
"""How many images a training shows by default, so that it takes minutes on one core whatever the data set: epochs times
training images."""
PGD_STEPS = 7
"""Madry et al. 2018 train with 7 steps on CIFAR-10 and with 40 on MNIST."""


@dataclass(frozen=True)
class Hardening:
    """A recipe's parameters. What the chosen recipe does not use changes nothing but the digest."""

    how: HardenHow
    network: HardenNetwork = "lenet"
    """Of the classifier where it is trained from scratch, and of the detector."""
    seed: int = 0
    epochs: int | None = None
    """Of each training; by default as many as show 160,000 images."""
    images: int | None = None
    """Training images to use, of each class in proportion; all by default."""
    rounds: int = 3
    """`fooling-class`: how often fooling images are added and a new network is trained."""
    runs: int = 10
    """Evolutions a round and encoding: each makes one image a class of its first and of its last generation."""
    generations: int = 100
    noise: int = 400
    """`fooling-class`: images of uniform noise in the class from the start."""
    attack: HardenAttack = "fgsm"
    """`adversarial` and `detector`: what makes the adversarial images."""
    epsilon: float | None = None
    """Their distance; by default the battery's own for FGSM, else 0.1."""
    steps: int = PGD_STEPS
    """Of PGD, in training. Measurements take 40."""
    clean_weight: float | None = None
    """`adversarial`: weight of the loss on clean images; by default 0.5 with FGSM (Goodfellow et al. 2015, section 6)
    and 0 with PGD (Madry et al. 2018). 1 is ordinary training, to compare with."""
    ramp: float = 0.5
    """`adversarial`: the share of the epochs over which epsilon grows to its value, in equal steps an epoch."""
    dimensions: int | None = None
    """`density`: principal components; by default the best of a few."""
    reject: float = 0.02
    """`detector` and `density`: the share of clean training images to reject."""

    def distance(self, battery: Battery) -> float:
        """Epsilon, with its default."""
        own = battery.spec.attacks.of(FgsmSpec)
        return self.epsilon or (0.1 if own is None else pixel_range(own.epsilon))

    def adversary(self, battery: Battery, share: float = 1.0) -> Adversary:
        """What makes adversarial images in training, at a share of epsilon."""
        epsilon = self.distance(battery) * share
        return fgsm(epsilon) if self.attack == "fgsm" else pgd(epsilon, self.steps)

    @property
    def weight(self) -> float:
        """The weight of the loss on clean images, with its default."""
        return (0.5 if self.attack == "fgsm" else 0.0) if self.clean_weight is None else self.clean_weight

    def training(self, count: int, shape: tuple[int, int, int], *, moved: bool = True) -> Training:
        """How a network is trained on so many images of this shape.

        As the panel's (models/training/train.py): AdamW, one cycle, images moved a little, in colour also mirrored.
        """
        epochs = self.epochs or max(1, math.ceil(SHOWN / count))
        batch = 64 if count < 10_000 else 128
        if not moved:
            return Training(epochs, batch, turn=0, zoom=0, shift=0)
        return Training(epochs, batch, shift=min(shape[1:]) / 16, mirror=shape[0] == 3)

    def given(self) -> dict[str, Any]:
        """As JSON, for the log and the digest."""
        return asdict(self)
