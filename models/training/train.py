"""Train a network on a few thousand small images, or tens of thousands, the same way every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from ...bench.errors import Unexpected


@dataclass(frozen=True)
class Training:
    """How a network is trained: AdamW with one cycle of learning rate, on gently moved images."""

    epochs: int = 80
    batch: int = 64
    rate: float = 4e-3
    """Highest learning rate; reached after a quarter of the steps, then down to zero along a cosine."""
    decay: float = 1e-2
    """AdamW's weight decay."""
    smoothing: float = 0.0
    """Label smoothing."""
    turn: float = 10.0
    """Degrees: rotations are drawn between minus and plus this."""
    zoom: float = 0.08
    """Scales are drawn between 1 minus and 1 plus this."""
    shift: float = 0.5
    """Pixels: shifts along each axis are drawn between minus and plus this."""
    mirror: bool = False
    """Whether every other image, by chance, is turned left to right."""


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A network in training mode, images `(n, c, h, w)` and labels `(n,)` -> the mean loss, to differentiate."""


def fit(network: nn.Module, images: Tensor, labels: Tensor, training: Training, rng: torch.Generator) -> None:
    """Train in place and leave the network in evaluation mode.

    `images` `(n, c, h, w)` float32 in [0, 1] and `labels` `(n,)` int64 lie on the CPU, as does `rng`, the only source
    of chance: order of the images and how each is moved. One thread gives the same bits again; how many there are is
    the caller's choice. Raises ValueError when the loss is no longer finite.
    """
    optimizer, schedule = optimizer_of(network, len(images), training)
    for _ in range(training.epochs):
        epoch(network, optimizer, schedule, images, labels, training, rng)


def optimizer_of(network: nn.Module, images: int, training: Training) -> tuple[AdamW, OneCycleLR]:
    """AdamW and its cycle of learning rate for a training on so many images."""
    # Of fewer than 5 steps a quarter is none, and the schedule divides by it.
    steps = max(5, training.epochs * math.ceil(images / training.batch))
    optimizer = AdamW(network.parameters(), lr=training.rate, weight_decay=training.decay)
    return optimizer, OneCycleLR(optimizer, max_lr=training.rate, total_steps=steps, pct_start=0.25)


def epoch(
    network: nn.Module,
    optimizer: AdamW,
    schedule: OneCycleLR,
    images: Tensor,
    labels: Tensor,
    training: Training,
    rng: torch.Generator,
    loss_of: Loss | None = None,
) -> float:
    """Show every image once, moved a little, and leave the network in evaluation mode. Returns the mean loss.

    As `fit`, except that network, images and labels may lie on another device than `rng`, which stays on the CPU.
    `loss_of` stands for cross-entropy with `training.smoothing`.
    """
    network.train()
    moved, total = move(images, training, rng), 0.0
    for chosen in torch.randperm(len(images), generator=rng).split(training.batch):
        rows = chosen.to(images.device)
        if loss_of is None:
            loss = functional.cross_entropy(network(moved[rows]), labels[rows], label_smoothing=training.smoothing)
        else:
            loss = loss_of(network, moved[rows], labels[rows])
        if not torch.isfinite(loss):
            raise Unexpected("a finite loss", loss.item(), "lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(rows)
    network.eval()
    return total / len(images)


def move(images: Tensor, training: Training, rng: torch.Generator) -> Tensor:
    """Turn, zoom and shift each image a little, each on its own; what comes in from outside is black."""
    n, _, height, width = images.shape
    draws = torch.rand(n, 4, generator=rng).to(images.device) * 2 - 1
    angle = draws[:, 0] * math.radians(training.turn)
    scale = 1 + draws[:, 1] * training.zoom
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # One pixel is 2 / size in the grid's coordinates of -1..1.
    right, down = draws[:, 2] * training.shift * 2 / width, draws[:, 3] * training.shift * 2 / height
    transform = torch.stack([cos, -sin, right, sin, cos, down], dim=1).view(n, 2, 3)
    if training.mirror:
        transform[:, 0] *= torch.randint(2, (n, 1), generator=rng).to(images.device) * 2 - 1
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
