"""Whether a victim remembers what it was asked, or looks at what shares its batch: neither may move an answer.

Some of the searches' own queries, which got their answers then, are asked again of a victim built anew; and some images
are asked of it alone, in another row, among others, and after many near-copies of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...attacks.entry import Entry
from ...leaderboard.record.seen import Compared
from ...models.answers import label_of
from ...models.levels import from_bytes
from ..asking.clean import SAME
from ..machine.seeds import numpy_generator
from ..running.prepared import Prepared
from ..running.shards import ShardResult
from ..scores.intervals import proportion
from .questions import Question
from .verdicts import Results

APART = 0.01
"""Difference of a probability below which two answers are one: float32's last bits move with the batch."""
EACH = 32
"""Clean images, and as many queries, that are asked in other company."""
COPIES = 8
"""Near-copies of each of them."""
TWICE = 2
_OTHER_ROW = 7
"""Images that stand before those asked about in another row, or as many as there are."""


class Repeated:
    """The questions, in the order in which they must be asked, and what their answers say."""

    def __init__(self, prepared: Prepared, plan: Sequence[Entry], results: Results) -> None:
        """Raises nothing; where the searches asked nothing, there are clean images alone."""
        self._prepared = prepared
        self._name, self._how = prepared.spec.name, prepared.ground.asking
        self._draws = TWICE if prepared.clean.randomised else 1
        rng = numpy_generator(self._name, "asked again")
        kept = [(e.group, results[e.name]) for e in plan]
        parts = [(group, r) for group, r in kept if isinstance(r, ShardResult) and len(r.sampled)]
        self.images = np.concatenate([self._clean()[:0], *(r.sampled for _, r in parts)])
        answers = [r.sampled_answers for _, r in parts]
        self._answers = np.concatenate([np.zeros((0, prepared.victim.classes), np.float32), *answers])
        self._groups = np.array([group for group, r in parts for _ in range(len(r.sampled))], dtype=str)
        self._order = rng.permutation(len(self.images))
        self._company = rng.permutation(np.concatenate([_even(self._clean()), _even(self.images)]))
        noise = torch.from_numpy(rng.integers(-1, 2, (COPIES, *self._company.shape)))
        levels = self._how.levels
        copies = levels.to_bytes(levels.moved(from_bytes(torch.from_numpy(self._company)), noise))
        self._copies = copies.flatten(0, 1).numpy()

    def _clean(self) -> np.ndarray:
        return self._prepared.clean.images.cpu().numpy()

    def first(self) -> list[Question]:
        """The searches' queries, shuffled: before anything else, since a victim may keep what it was asked first."""
        return [self._question(self.images[self._order], "searched")] if len(self.images) else []

    def then(self) -> list[Question]:
        """The others, last."""
        images = self._company
        return [
            self._question(images, "among others"),
            self._question(images, "alone", batch=1),
            self._question(np.concatenate([images[:0], self._clean()[:_OTHER_ROW], images[::-1]]), "another row"),
            Question(self._copies, (self._name, "asked again", "copies"), self._how),
            self._question(images, "after near-copies"),
            self._question(self._clean(), "evaluation set"),
        ]

    def _question(self, images: np.ndarray, what: str, batch: int | None = None) -> Question:
        stream = (self._name, "asked again", what)
        return Question(
            np.ascontiguousarray(images), stream, replace(self._how, batch=batch or self._how.batch), self._draws
        )

    def searched(self, answers: Sequence[np.ndarray]) -> dict[str, Compared]:
        """What the answers to `first` say, by attack and of all."""
        if not answers:
            return {}
        now = np.empty_like(answers[0])
        now[:, self._order] = answers[0]
        groups = {name: self._groups == name for name in dict.fromkeys(self._groups.tolist())}
        groups["all"] = np.ones(len(self._groups), bool)
        return {name: _compared(self._answers[rows], now[:, rows]) for name, rows in groups.items()}

    def company(self, answers: Sequence[np.ndarray]) -> dict[str, Compared]:
        """What the answers to `then` say."""
        among, alone, row, _, after, whole = answers
        row = row[:, len(self._clean()[:_OTHER_ROW]) :][:, ::-1]
        first = self._prepared.clean.reading.probabilities.cpu().numpy()
        return {
            "alone": _compared(alone[0], among),
            "another row": _compared(row[0], among),
            "after near-copies": _compared(after[0], among),
            "the evaluation set": _compared(first, whole),
        } | self._set_or_not(among, whole)

    def _set_or_not(self, among: np.ndarray, whole: np.ndarray) -> dict[str, Compared]:
        """Clean images within the evaluation set and among others."""
        clean = self._clean()
        places = {image.tobytes(): i for i, image in enumerate(clean)}
        pairs = [(i, places[m.tobytes()]) for i, m in enumerate(self._company) if m.tobytes() in places]
        here, there = (list(side) for side in zip(*pairs, strict=True))
        return {"the evaluation set alone": _compared(whole[0][there], among[:, here])}


def _even(images: np.ndarray) -> np.ndarray:
    return images[np.unique(np.linspace(0, len(images) - 1, min(EACH, len(images))).round().astype(int))]


def _compared(then: np.ndarray, now: np.ndarray) -> Compared:
    """`(n, K)` and `(draws, n, K)`: where there are two draws, by label, and held to how far those two differ."""
    difference = np.abs(then - now[0])
    largest = float(difference.max()) if difference.size else 0.0
    if largest <= SAME:  # the last bits of float32, which move with how many images fitted into memory
        largest = 0.0
    labels = [label_of(torch.from_numpy(np.ascontiguousarray(answers))).numpy() for answers in (then, *now)]
    if len(now) == 1:
        differ = (labels[0] != labels[1]) & (difference.max(1) > APART / 10) | (difference.max(1) > APART)
        return Compared(proportion(int(differ.sum()), len(then)), None, largest)
    differ, chance = labels[0] != labels[1], labels[1] != labels[2]
    return Compared(proportion(int(differ.sum()), len(then)), proportion(int(chance.sum()), len(then)), largest)
