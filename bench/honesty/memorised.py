"""Whether a victim recognises the images that every run of the battery begins with: their seeds are public."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from ...attacks.base import BlackBox, Fool
from ...attacks.entry import Entry
from ...leaderboard.record.record import Recognition
from ...models.base import Classifier
from ..asking.answers import checked_answers
from ..asking.reading import reading_of
from ..battery.ground import Ground
from ..machine.seeds import generator
from ..running.shards import cut
from ..scores.intervals import proportion

MOST = 200
"""Images of each attack, at most: its first query."""


def recognition(victim: Classifier, ground: Ground, plan: Iterable[Entry], digest: str) -> Recognition | None:
    """Ask about the first query of each search from nothing (evolution, CPPN and their controls), just as the
    first shard asks it, and about as many images that the same search draws from a stream of the submission's `digest`.

    Both kinds come from the same distribution, so a victim that has not seen the battery's own cannot tell them apart.
    A rejected image has confidence 0 here, so turning away and answering without confidence are one thing. None where
    the battery has no such search. Raises ModelFailure.
    """
    name, device = ground.spec.name, victim.device
    rng = generator(name, "recognition", device=device)
    mean = torch.tensor(ground.data.mean).to(device)
    own = fresh = total = 0
    for entry in plan:
        if entry.task != "fool" or entry.box != "black":
            continue
        shard = cut(entry)[0]
        task = Fool(ground.spec.shape, torch.tensor(entry.targets, device=device), shard.stop, mean, ground.levels)
        seen = _first(entry, task, generator(name, entry.name, shard.index, "attack", device=device))
        unseen = _first(entry, task, generator(digest, name, entry.name, shard.index, "fresh", device=device))
        if seen is None or unseen is None:
            continue
        sure = [_confidence(checked_answers(victim, images, rng, ground.asking)) for images in (seen, unseen)]
        median = torch.cat(sure).cpu().median().to(device)
        own, fresh = own + int((sure[0] > median).sum()), fresh + int((sure[1] > median).sum())
        total += len(seen)
    return Recognition(proportion(own, total), proportion(fresh, total)) if total else None


def _first(entry: Entry, task: Fool, rng: torch.Generator) -> Tensor | None:
    """None from a search that asks nothing."""
    search = cast(BlackBox[Any], entry.attack).search(task, rng)
    try:
        return next(search).images[:MOST]
    except StopIteration:
        return None
    finally:
        search.close()


def _confidence(probabilities: Tensor) -> Tensor:
    reading = reading_of(probabilities)
    return torch.where(reading.label >= 0, reading.confidence, 0.0)
