"""One random stream for each named thing, so that adding or reordering work moves nobody else's."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def seed(*path: str | int) -> int:
    """A 63-bit seed that depends on every part of the path and its order, and on nothing else."""
    text = "\x00".join(f"{type(part).__name__}:{part}" for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*path: str | int, device: torch.device) -> torch.Generator:
    """A torch generator of its own for this path, on this device."""
    return torch.Generator(device=device).manual_seed(seed(*path))


def numpy_generator(*path: str | int) -> np.random.Generator:
    """A NumPy generator of its own for this path."""
    return np.random.default_rng(seed(*path))
