"""Whether a victim knows foolbench: the images that every run of a battery begins with, or what kinds they are of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...attacks.base import BlackBox, Fool
from ...attacks.entry import Entry
from ...leaderboard.record.known import Recognition
from ...models.levels import from_bytes
from ..asking.reading import reading_of
from ..battery.ground import Ground
from ..machine.seeds import generator
from ..running.prepared import Prepared
from ..running.shards import cut
from ..scores.intervals import proportion
from .memorised import shares
from .nonsense import other_nonsense
from .questions import Question

MOST = 200
"""Images of each attack, at most: its first query."""
STREAMS = OWN, FRESH, UNSEEN = "own", "fresh", "unseen"
"""Of what the searches draw."""
DRAWN, UNSEEN_DRAWN = "drawn", "unseen drawn"
"""Of other nonsense."""


class Beginnings:
    """The first query of each search from nothing (evolution, CPPN and their controls), just as the first shard asks
    it; as many images that the same search draws from a stream that the battery fixes, and from one that the victim's
    digest fixes; and other nonsense from two such streams. All in one shuffled question.

    Of one search all three come from one distribution, so a victim that has not seen what is public cannot tell them
    apart. What the battery fixes does not depend on how a network's file is written, so figures of it can be compared;
    whoever prepares a victim for it is found by what the digest fixes.
    """

    def __init__(self, prepared: Prepared, plan: Iterable[Entry], digest: str) -> None:
        """Raises nothing that the searches do not raise."""
        ground, device = prepared.ground, prepared.victim.device
        spec = prepared.spec
        self._name, self._how, self._spec, self._tau = spec.name, ground.asking, spec.nonsense, prepared.clean.tau
        parts: list[tuple[str, str, Tensor]] = []
        for entry in plan:
            if entry.task == "fool" and entry.box == "black":
                first = _first_queries(entry, ground, digest, device)
                parts += [(entry.name, stream, images) for stream, images in first.items()]
        self.empty = not parts
        for stream, path in ((DRAWN, (ground.battery.digest,)), (UNSEEN_DRAWN, (digest, spec.name))):
            rng = generator(*path, "nonsense", device=device)
            made = other_nonsense(from_bytes(prepared.clean.images), self._spec.each, rng)
            self._other = tuple(made)
            parts += [(kind, stream, images) for kind, images in made.items()]
        levels = ground.levels
        self._images = np.concatenate([levels.to_bytes(images).cpu().numpy() for _, _, images in parts])
        self._kinds = np.array([kind for kind, _, images in parts for _ in images])
        self._streams = np.array([stream for _, stream, images in parts for _ in images])
        order = torch.randperm(len(self._images), generator=generator(ground.battery.digest, "order", device=device))
        self._order = order.cpu().numpy()

    def question(self) -> Question:
        """What to ask a victim that was built anew."""
        return Question(self._images[self._order], (self._name, "recognition"), self._how)

    def recognition(self, answers: np.ndarray) -> Recognition | None:
        """From the `(1, n, K)` answers to it; None where the battery has no such search. A rejected image has
        confidence 0 here, so turning away and answering without confidence are one thing."""
        if self.empty:
            return None
        given = np.empty_like(answers[0])
        given[self._order] = answers[0]
        reading = reading_of(torch.from_numpy(given))
        confidence = np.where(reading.label.numpy() >= 0, reading.confidence.numpy(), 0)
        found = dict.fromkeys(STREAMS, 0)
        for kind in np.unique(self._kinds[self._streams == OWN]):
            mine = self._kinds == kind
            sure = confidence > np.median(confidence[mine & (self._streams != UNSEEN)])
            found = {stream: k + int((mine & sure & (self._streams == stream)).sum()) for stream, k in found.items()}
        drawn = self._streams == DRAWN
        told = {stream: proportion(k, int((self._streams == stream).sum())) for stream, k in found.items()}
        return Recognition(
            own=told[OWN],
            fresh=told[FRESH],
            unseen=told[UNSEEN],
            made=shares(given, self._streams == FRESH, self._tau),
            kinds={kind: shares(given, drawn & (self._kinds == kind), self._tau) for kind in self._other},
            nonsense=shares(given, drawn, self._tau),
            unseen_nonsense=shares(given, self._streams == UNSEEN_DRAWN, self._tau),
            tolerated=self._spec.tolerated,
        )


def _first_queries(entry: Entry, ground: Ground, digest: str, device: torch.device) -> dict[str, Tensor]:
    """By stream; nothing from a search that asks nothing."""
    shard, name = cut(entry)[0], ground.spec.name
    mean = torch.tensor(ground.data.mean).to(device)
    task = Fool(ground.spec.shape, torch.tensor(entry.targets, device=device), shard.stop, mean, ground.levels)
    streams = {
        OWN: (name, entry.name, shard.index, "attack"),
        FRESH: (ground.battery.digest, entry.name, shard.index, "fresh"),
        UNSEEN: (digest, name, entry.name, shard.index, "unseen"),
    }
    found = {stream: _first(entry, task, generator(*path, device=device)) for stream, path in streams.items()}
    return {stream: images for stream, images in found.items() if images is not None}


def _first(entry: Entry, task: Fool, rng: torch.Generator) -> Tensor | None:
    """None from a search that asks nothing."""
    search = cast(BlackBox[Any], entry.attack).search(task, rng)
    try:
        return next(search).images[:MOST]
    except StopIteration:
        return None
    finally:
        search.close()
