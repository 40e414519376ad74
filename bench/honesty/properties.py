"""The four measured properties of a victim (attacks/responses/), driven like an attack and kept beside it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...attacks.base import Perturb, Query
from ...attacks.deepception import DeepceptionSpec
from ...attacks.responses.psychophysics import Properties, Psychophysics
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.answers import checked_answers
from ..asking.clean import CleanAnswers
from ..battery.ground import Asking, Ground
from ..machine.seeds import generator

T = TypeVar("T")


def measure(ground: Ground, victim: Classifier, clean: CleanAnswers) -> Properties | None:
    """Measure the properties on the first images that the victim gets right; None where there are none.

    The number of images is the battery's `deepception.properties`.
    """
    name, data = ground.spec.name, ground.data
    spec = ground.spec.attacks.of(DeepceptionSpec)
    rows = clean.right.nonzero().flatten()[: spec.properties] if spec is not None else torch.zeros(0)
    if spec is None or len(rows) == 0:
        return None
    device = victim.device
    task = Perturb(
        from_bytes(clean.images[rows]),
        clean.reading.label[rows],
        from_bytes(torch.tensor(data.donors).to(device)),
        torch.tensor(data.mean).to(device),
        levels=ground.levels,
    )
    rng = generator(name, "properties", device=device)
    measuring = Psychophysics(side=spec.side, stride=spec.stride, copies=spec.copies).measure(task, rng)
    victim_rng = generator(name, "properties", "victim", device=device)
    return ask(measuring, victim, victim_rng, ground.asking)


def ask(measuring: Generator[Query, Tensor, T], victim: Classifier, rng: torch.Generator, how: Asking) -> T:
    """Answer a measurement's queries until it returns what it found."""
    try:
        query = next(measuring)
        while True:
            query = measuring.send(checked_answers(victim, query.images, rng, how))
    except StopIteration as finished:
        return finished.value


def as_json(properties: Properties | None) -> dict[str, Any] | None:
    """The summary for the record."""
    return None if properties is None else {"images": len(properties.gain), **properties.summary()}
