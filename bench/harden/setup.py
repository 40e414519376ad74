"""The training setup that all recipes share: the network they start from, images, random streams, ordinary training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...attacks.levels import Levels
from ...models.levels import from_bytes, to_bytes
from ...models.training.train import Training
from ..battery.battery import Battery
from ..machine.seeds import generator
from .epochs import CPU, Course, Losses, Set, untrained
from .images import Images
from .measure import HELD_OUT, of_network
from .options import Hardening
from .start import Start
from .steps import Row, Step, Tensors

FURTHER = 1e-3
"""The highest learning rate for a network that is trained further, a quarter of that of fresh weights."""


@dataclass(frozen=True)
class TrainingSetup:
    """What a recipe is given to work with, and the training of a classifier without any defense."""

    battery: Battery
    start: Start
    how: Hardening
    images: Images
    device: torch.device

    @property
    def classes(self) -> int:
        """K."""
        return self.battery.classes

    @property
    def levels(self) -> Levels:
        """The gray levels of the battery: what is made here is rounded to them, as what attacks ask is."""
        return self.battery.spec.facts.levels

    def rng(self, *path: str | int) -> torch.Generator:
        """A stream on the CPU. The recipe is no part of it: all begin with the same classifier."""
        return generator("harden", self.battery.spec.name, self.how.seed, *path, device=CPU)

    def rng_there(self, *path: str | int) -> torch.Generator:
        """A stream on the device."""
        return generator("harden", self.battery.spec.name, self.how.seed, *path, device=self.device)

    def course(
        self,
        phase: str,
        *path: str | int,
        images: Set | None = None,
        losses: Losses = lambda rng, k, tensors: None,
        widen: bool = False,
    ) -> Course:
        """A training of the classifier, cross-entropy on clean images by default. `path` names its streams."""
        return Course(
            phase,
            "model",
            lambda rng: self.start.build(rng, widen=widen),
            self.training(),
            images or (lambda tensors: (self.images.train, self.images.labels)),
            losses,
            self.check,
            ("harden", self.battery.spec.name, self.how.seed, "classifier", *path),
        )

    def training(self) -> Training:
        """How the classifier is trained."""
        training = self.how.training(len(self.images.train), self.battery.spec.shape)
        return replace(training, rate=FURTHER) if self.start.given else training

    def classifier(self) -> tuple[Course, list[Step]]:
        """The classifier without any defense: the given one as it is, or one trained from scratch."""
        course = self.course("the classifier")
        return course, [untrained(course)] if self.start.given else course.steps()

    def check(self, network: nn.Module, tensors: Tensors) -> Row:
        """A line of the log on a classifier."""
        measured = of_network(network, self.classes, self.levels)
        held, labels = self.images.held, self.images.held_labels
        row = measured.row(held, labels, self.how.distance(self.battery), self.rng("check"), strong=False)
        return {"on": HELD_OUT, **row}


@dataclass(frozen=True)
class Product:
    """What a recipe has made."""

    network: nn.Module
    reject_index: int | None
    title: str
    """What the recipe did, in words."""
    paper: str
    """Where it comes from."""
    files: dict[str, bytes]
    """Beside the model."""
    defenses: tuple[dict[str, Any], ...] = ()
    """As the submission names them."""


def as_bytes(images: Tensor) -> Tensor:
    """`[0, 1]` -> uint8 on the CPU, to be handed on."""
    return to_bytes(images).cpu()


def as_images(stored: Tensor, device: torch.device) -> Tensor:
    """And back."""
    return from_bytes(stored.to(device))
