"""Classifiers and images to put defenses in front of and through."""

from collections.abc import Callable

import torch
from foolbench.models.base import Classifier
from torch import Tensor

CPU = torch.device("cpu")
Defense = Callable[[Classifier], Classifier]


def small_net(shape: tuple[int, int, int] = (1, 8, 8), k: int = 4, rejects: bool = False) -> Classifier:
    """A smooth two-layer network without any rounding of its own."""
    weights = torch.Generator().manual_seed(1)
    c, h, w = shape
    first = torch.randn(c * h * w, 16, generator=weights) / (c * h * w) ** 0.5
    second = torch.randn(16, k + rejects, generator=weights)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return torch.tanh(images.flatten(1) @ first) @ second

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return logits(images, rng).softmax(1)[:, :k]

    return Classifier(shape, k, CPU, probabilities, logits, rejects=rejects)


def camera(shape: tuple[int, int, int]) -> tuple[Classifier, list[Tensor]]:
    """A Classifier that keeps what it sees."""
    seen: list[Tensor] = []

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        seen.append(images)
        return torch.full((len(images), 2), 0.5)

    return Classifier(shape, 2, CPU, probabilities, None, no_gradient="a camera has none"), seen


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ask_logits(victim: Classifier, images: Tensor, seed: int = 0) -> Tensor:
    assert victim.logits, victim.no_gradient
    return victim.logits(images, seeded(seed))


def through(defense: Defense, images: Tensor) -> Tensor:
    inner, seen = camera((images.shape[1], images.shape[2], images.shape[3]))
    defense(inner).probabilities(images, torch.Generator())
    return seen[-1]


def pixels(shape: tuple[int, int, int], n: int = 5, seed: int = 0) -> Tensor:
    """8-bit images, of which half the pixels share one value: medians with and without ties."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (n, *shape), generator=rng)
    return torch.where(torch.rand((n, *shape), generator=rng) < 0.5, values, 40).float() / 255


def gradient(victim: Classifier, images: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(ask_logits(victim, leaf)[:, 0].sum(), leaf)[0]
