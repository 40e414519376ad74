"""Train a network on a few thousand small images, or tens of thousands, the same way every time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def fit(network: nn.Module, images: Tensor, labels: Tensor, training: Training, rng: torch.Generator) -> None:
    """Train in place and leave the network in evaluation mode.

    `images` `(n, c, h, w)` float32 in [0, 1] and `labels` `(n,)` int64 lie on the CPU, as does `rng`, the only source
    of chance: order of the images and how each is moved. One thread gives the same bits again; how many there are is
    the caller's choice. Raises ValueError when the loss is no longer finite.
    """
    steps = training.epochs * math.ceil(len(images) / training.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.rate, weight_decay=training.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=training.rate, total_steps=steps, pct_start=0.25)
    network.train()
    for _ in range(training.epochs):
        moved = move(images, training, rng)
        for rows in torch.randperm(len(images), generator=rng).split(training.batch):
            loss = functional.cross_entropy(network(moved[rows]), labels[rows], label_smoothing=training.smoothing)
            if not torch.isfinite(loss):
                raise ValueError(f"expected a finite loss, got {loss.item()}: lower the learning rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def move(images: Tensor, training: Training, rng: torch.Generator) -> Tensor:
    """Turn, zoom and shift each image a little, each on its own; what comes in from outside is black."""
    n, _, height, width = images.shape
    draws = torch.rand(n, 4, generator=rng) * 2 - 1
    angle = draws[:, 0] * math.radians(training.turn)
    scale = 1 + draws[:, 1] * training.zoom
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # One pixel is 2 / size in the grid's coordinates of -1..1.
    right, down = draws[:, 2] * training.shift * 2 / width, draws[:, 3] * training.shift * 2 / height
    transform = torch.stack([cos, -sin, right, sin, cos, down], dim=1).view(n, 2, 3)
    if training.mirror:
        transform[:, 0] *= torch.randint(2, (n, 1), generator=rng) * 2 - 1
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
