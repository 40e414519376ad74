"""Whether a victim knows the evaluation images: on images that it cannot know it must do as well."""

from __future__ import annotations

import numpy as np
import torch

from ...leaderboard.record.known import Known, Shares
from ...models.levels import from_bytes
from ..asking.reading import reading_of
from ..machine.seeds import generator, numpy_generator
from ..running.prepared import Prepared
from ..scores.intervals import proportion
from .changed import variants
from .questions import Question

OWN, OTHERS = "own", "others"


class Unknown:
    """Evaluation images, others of the data set, and variants of the first, all in one shuffled question."""

    def __init__(self, prepared: Prepared, digest: str) -> None:
        """The others, the variants and the order come from streams of the victim's `digest`: who prepares a victim for
        them changes them. Raises EnvironmentFault where the data cannot be read."""
        ground, spec = prepared.ground, prepared.spec.variants
        name, device = prepared.spec.name, prepared.clean.images.device
        self._name, self._how, self._spec, self._tau = name, ground.asking, spec, prepared.clean.tau
        rng = numpy_generator(name, "memorised", digest)
        own, truth = prepared.clean.images[: spec.images], prepared.clean.truth[: spec.images].cpu().numpy()
        others = ground.battery.others(ground.data, len(own), rng)
        changed = variants(from_bytes(own), spec, generator(name, "memorised", digest, device=device))
        parts = {OWN: own.cpu().numpy(), OTHERS: others.images}
        parts |= {kind: ground.levels.to_bytes(images).cpu().numpy() for kind, images in changed.items()}
        labels = {kind: others.labels if kind == OTHERS else truth for kind in parts}
        self._are, self._variants = others.are, tuple(changed)
        self._images, self._labels = np.concatenate([*parts.values()]), np.concatenate([*labels.values()])
        self._kinds = np.array([kind for kind, part in parts.items() for _ in part])
        self._order = rng.permutation(len(self._images))

    def question(self) -> Question:
        """What to ask a victim that was built anew."""
        return Question(self._images[self._order], (self._name, "memorised", "victim"), self._how)

    def known(self, answers: np.ndarray) -> Known:
        """From the `(1, n, K)` answers to it."""
        given = np.empty_like(answers[0])
        given[self._order] = answers[0]
        others = self._kinds == OTHERS
        return Known(
            own=shares(given, self._kinds == OWN, self._tau, self._labels),
            others=shares(given, others, self._tau, self._labels) if others.any() else None,
            others_are=self._are,
            variants={kind: shares(given, self._kinds == kind, self._tau, self._labels) for kind in self._variants},
            changed=shares(given, np.isin(self._kinds, self._variants), self._tau, self._labels),
            tolerated_others=self._spec.tolerated_others,
            tolerated=self._spec.tolerated,
        )


def shares(answers: np.ndarray, rows: np.ndarray, tau: float | None, labels: np.ndarray | None = None) -> Shares:
    """What `(n, K)` answers come to on some rows (`(n,)` bool); `labels` `(n,)` where the images have a class. Without
    a τ no answer is sure."""
    reading = reading_of(torch.from_numpy(np.ascontiguousarray(answers[rows])))
    label, n = reading.label.numpy(), int(rows.sum())
    sure = (label >= 0) & (reading.confidence.numpy() >= (np.inf if tau is None else tau))
    right = None if labels is None else proportion(int((label == labels[rows]).sum()), n)
    return Shares(proportion(int((label >= 0).sum()), n), proportion(int(sure.sum()), n), right)
