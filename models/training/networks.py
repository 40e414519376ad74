"""The panel's neural networks, for small images, and how their weights start."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...bench.errors import Unexpected

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class LeNet5(nn.Module):
    """LeNet-5 (LeCun et al. 1998, section II.B): `(n, *shape)` in [0, 1] -> `(n, classes)` logits.

    Kept: two convolutions of 6 and 16 maps, each followed by 2x2 subsampling, then 120, 84 and `classes` units; 5x5
    kernels on images of 28x28, which are padded to the paper's 32x32, and of 32x32 (ValueError for sides that fit
    neither). Changed for 8x8 images: 3x3 kernels with padding 1. Changed as is usual today: ReLU for the scaled tanh,
    max pooling for the trained averages, all maps of the first layer connected to all of the second, and a linear last
    layer (softmax outside) for the radial basis functions.
    """

    def __init__(self, classes: int = 10, shape: tuple[int, int, int] = (1, 8, 8)):
        super().__init__()
        channels, side = shape[0], shape[1]
        if side not in (8, 28, 32) or shape[2] != side:
            raise Unexpected("images of 8x8, 28x28 or 32x32", f"{shape[1]}x{shape[2]}", "resize them")
        kernel, padding, left = (3, (1, 1), 2) if side == 8 else (5, ((32 - side) // 2, 0), 5)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, kernel, padding=padding[0]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel, padding=padding[1]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * left * left, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """`(n, *shape)` -> `(n, classes)`."""
        return self.layers(images)


class Mlp(nn.Module):
    """Two hidden layers of 128 and 64 ReLUs: `(n, *shape)` in [0, 1] -> `(n, classes)` logits."""

    def __init__(self, classes: int = 10, shape: tuple[int, int, int] = (1, 8, 8)):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), 128),
            nn.ReLU(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """`(n, *shape)` -> `(n, classes)`."""
        return self.layers(images)


class Residual(nn.Module):
    """The basic block of He et al. 2016 (figure 2), with a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = (
            nn.Identity()
            if before == after and stride == 1
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """`(n, before, h, w)` -> `(n, after, h / stride, w / stride)`."""
        return self.activation(self.body(maps) + self.shortcut(maps))


class SmallResNet(nn.Module):
    """A ResNet of three basic blocks with 16, 32 and 48 maps: `(n, c, h, w)` in [0, 1] -> `(n, classes)` logits.

    As the CIFAR nets of He et al. 2016 (section 4.2): a 3x3 stem without pooling, halving at the second and third
    stage, global average pooling, one linear layer. `stem` is the stem's stride: 2 makes a quarter of the work.
    """

    def __init__(self, classes: int = 10, channels: int = 1, stem: int = 1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stem, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Residual(16, 16, 1),
            Residual(16, 32, 2),
            Residual(32, 48, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(48, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """`(n, c, h, w)` -> `(n, classes)`."""
        return self.layers(images)


def initialised(build: Callable[[], NetworkT], rng: torch.Generator) -> NetworkT:
    """Build a network on the CPU and draw its weights from `rng` alone; torch's own stream is left as it was.

    He et al. 2015 (normal, fan in) for convolutions and linear layers, zero biases, identity batch norm. Raises
    ValueError for a layer with weights of another kind, which would keep weights that `rng` did not draw.
    """
    with torch.random.fork_rng(devices=[]):
        network = build()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            raise Unexpected(
                "convolutions, linear layers and batch norm", type(module).__name__, "say here how its weights start"
            )
    return network
