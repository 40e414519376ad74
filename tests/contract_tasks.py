"""A small linear victim and small tasks that every attack can be tried on."""

from __future__ import annotations

from functools import cache

import torch
from foolbench.attacks.base import Fool, Perturb
from foolbench.models.base import Classifier
from planted import Linear, classifier, seeded

CLASSES = 3


@cache
def toy(channels: int, gain: float = 3.0) -> Classifier:
    """A linear network whose weights vary smoothly over the image; CPPN images and patches can speak to it."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 8), torch.linspace(0, 3, 8), indexing="ij")
    waves = torch.stack([torch.sin(x + i) * torch.cos(y * (i + 1) / 2 + i) for i in range(CLASSES * channels)])
    weight = gain * waves.view(CLASSES, -1)
    weight -= weight.mean(0)
    return classifier(Linear(weight / 8, -0.5 * weight.sum(1) / 8), (channels, 8, 8), CLASSES)


def fool(channels: int) -> Fool:
    return Fool((channels, 8, 8), torch.arange(CLASSES), 2, torch.full((channels, 8, 8), 0.4))


def perturb(channels: int, count: int = 4) -> Perturb:
    images = torch.randint(40, 216, (count + 6, channels, 8, 8), generator=seeded(3)) / 255
    answered = toy(channels).probabilities(images, seeded())
    donors = images[count:]
    return Perturb(
        images[:count], answered[:count].argmax(1), donors, donors.mean(0), targets=answered[:count].argmin(1)
    )
