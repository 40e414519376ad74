"""What a network is loaded for: what travels together from the battery to every loader."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .choices import Backend
from .memory import Room
from .slopes import EIGHT_BITS


@dataclass(frozen=True)
class Conditions:
    """The images that a network is loaded to answer about, and how it is to answer."""

    shape: tuple[int, int, int]
    """Channels, height, width of the battery's images."""
    classes: int
    """K, without the rejecting output."""
    device: torch.device
    """Where it works."""
    images: Tensor
    """`(m, c, h, w)` float32 in [0, 1], evaluation images to check it on (200 of them at most)."""
    rng: torch.Generator
    """On `device`, for the certificate's random directions; what is loaded next goes on where it stands."""
    backend: Backend = "auto"
    """What answers; see models/choices.py."""
    batch: int = 256
    """The most images that will be asked about at once: what the backend `compiled` is compiled for."""
    room: Room = field(default_factory=Room)
    """Bounds the images that are asked about at once while it is loaded, and what `compiled` is compiled for; halved
    where memory runs out."""
    steps: tuple[float, ...] = EIGHT_BITS
    """How far pixel values move where the certificate steps by whole gray levels of the battery, in units of
    [0, 1]."""
