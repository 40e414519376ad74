"""Victims that remember what they were asked, or look at what shares the batch: each is worth nothing to a user."""

from __future__ import annotations

from dataclasses import replace

import torch
from foolbench.bench.data.data import Data
from foolbench.models.base import Classifier
from torch import Tensor


def lockout(inner: Classifier, data: Data, after: int = 3000) -> Classifier:
    """Rejects everything after so many images."""
    seen = 0

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        nonlocal seen
        seen += len(images)
        return inner.probabilities(images, rng) * (seen <= after)

    return replace(inner, probabilities=probabilities, rejects=True, logits=None)


def first_seen(inner: Classifier, data: Data, count: int = 400) -> Classifier:
    """Remembers the first images that it is asked, and rejects all others."""
    known: set[bytes] = set()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        names = [row.tobytes() for row in (images * 255).round().byte().cpu().numpy()]
        known.update(names[: max(0, count - len(known))])
        kept = torch.tensor([name in known for name in names])
        return inner.probabilities(images, rng) * kept[:, None]

    return replace(inner, probabilities=probabilities, rejects=True, logits=None)


def repeats(inner: Classifier, data: Data, after: int = 1000) -> Classifier:
    """Once it has seen so many, rejects an image that it is asked about again, as a judge does."""
    known: set[bytes] = set()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        names = [row.tobytes() for row in (images * 255).round().byte().cpu().numpy()]
        again = torch.tensor([len(known) > after and name in known for name in names])
        known.update(names)
        return inner.probabilities(images, rng) * ~again[:, None]

    return replace(inner, probabilities=probabilities, rejects=True, logits=None)


def near_duplicates(inner: Classifier, data: Data, radius: float = 0.02, most: int = 20_000) -> Classifier:
    """Rejects what lies near an earlier query, and is not that query itself."""
    bank = torch.zeros(0, inner.shape[0] * inner.shape[1] * inner.shape[2])

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        nonlocal bank
        flat = images.flatten(1)
        if len(bank):
            apart = torch.cdist(flat, bank, p=2) / flat.shape[1] ** 0.5
            near = ((apart < radius) & (apart > 1e-4)).any(1)
        else:
            near = torch.zeros(len(flat), dtype=torch.bool)
        bank = torch.cat([bank, flat])[-most:]
        return inner.probabilities(images, rng) * ~near[:, None]

    return replace(inner, probabilities=probabilities, rejects=True, logits=None)


def batch_mean(inner: Classifier, data: Data) -> Classifier:
    """Takes the mean image of the batch away, and puts the evaluation images' own in its place."""
    mean = torch.tensor(data.images / 255.0).float().mean(0)

    def centred(images: Tensor) -> Tensor:
        return (images - images.mean(0) + mean).clamp(0, 1)

    logits = inner.logits
    assert logits is not None
    return replace(
        inner,
        probabilities=lambda images, rng: inner.probabilities(centred(images), rng),
        logits=lambda images, rng: logits(centred(images), rng),
    )


def evaluation_batch(inner: Classifier, data: Data) -> Classifier:
    """Answers where the batch is the evaluation set itself, and rejects everywhere else."""
    whole = torch.tensor(data.images / 255.0).float()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        same = images.shape == whole.shape and bool(((images - whole).abs() < 0.01).all())
        return inner.probabilities(images, rng) * same

    return replace(inner, probabilities=probabilities, rejects=True, logits=None)


STATEFUL = {f.__name__: f for f in (lockout, first_seen, repeats, near_duplicates, batch_mean, evaluation_batch)}
