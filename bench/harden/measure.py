"""What a network or a victim is worth, on training images that are held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...attacks.base import Query
from ...attacks.levels import Levels
from ...models.answers import label_of, labelled
from ...models.base import Classifier
from ..asking.clean import tau_of
from .adversary import Adversary, Logits, fgsm, pgd
from .steps import Row

MEASURED_STEPS = 40
"""PGD's steps in measurements: more than in training, so that a network is not only measured by what it has seen."""
HELD_OUT, CHOOSING = "held-out images", "images to choose by"
"""What a line of the log is measured on, in words; see `harden_data.Images`."""
_AT_ONCE = 500

Answers = Callable[[Tensor], Tensor]
"""Images -> probabilities `(n, K)` whose sum lacks the rejected mass."""


@dataclass(frozen=True)
class MeasuredModel:
    """Something that answers."""

    answers: Answers
    logits: Logits | None
    classes: int
    levels: Levels
    """What adversarial images are rounded to."""

    def row(self, images: Tensor, labels: Tensor, epsilon: float, rng: torch.Generator, *, strong: bool) -> Row:
        """Clean accuracy, clean rejections, and the share fooled by FGSM (`strong`: by PGD too) of those right before.

        Adversarial images are rounded to levels, and fool where they are accepted with another label than the true one.
        """
        label = self.labels(images)
        right = label == labels
        row: Row = {"clean_accuracy": _share(right), "clean_rejected": _share(label < 0)}
        attacks: dict[str, Adversary] = {"fgsm": fgsm(epsilon)}
        if strong:
            attacks["pgd"] = pgd(epsilon, MEASURED_STEPS)
        for name, adversary in attacks.items():
            if self.logits is not None and bool(right.any()):
                made = self.adversarial(adversary, images[right], labels[right], rng)
                after = self.labels(made)
                row[f"{name}_fooled"] = _share((after >= 0) & (after != labels[right]))
        return row

    def adversarial(self, adversary: Adversary, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Adversarial images, rounded to the levels."""
        assert self.logits is not None
        parts = zip(images.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True)
        return torch.cat(
            [self.levels.rounded(adversary.images(self.logits, x, y, self.classes, rng)) for x, y in parts]
        )

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """`(n, K)`, the rejected mass missing."""
        return torch.cat([self.answers(part) for part in images.split(_AT_ONCE)])

    def labels(self, images: Tensor) -> Tensor:
        """`(n,)` int64: the label, -1 where rejected."""
        return label_of(self.probabilities(images))

    def tau(self, images: Tensor, labels: Tensor, quantile: float) -> float | None:
        """The `quantile` of the confidence in images that are accepted and right; None where there are none."""
        answers = self.probabilities(images)
        return tau_of(answers.amax(1)[label_of(answers) == labels], quantile)


def of_network(network: nn.Module, classes: int, levels: Levels) -> MeasuredModel:
    """A network of logits, the last of which rejects where there are more than `classes`."""
    return MeasuredModel(lambda images: network(images).softmax(1)[:, :classes], network, classes, levels)


def of_victim(victim: Classifier, rng: torch.Generator, levels: Levels) -> MeasuredModel:
    """A defended model; `rng` is on its device."""
    ask = victim.logits
    logits: Logits | None = None if ask is None else lambda images: ask(images, rng)
    return MeasuredModel(lambda images: victim.probabilities(images, rng), logits, victim.classes, levels)


class Reached:
    """Watches an evolution: in which generation each class of each run is first accepted at each confidence."""

    def __init__(self, runs: int, classes: int, children: int, thresholds: dict[str, float]):
        """`thresholds`: what each confidence is called."""
        self.classes, self.children, self.thresholds = classes, children, thresholds
        self.asked = torch.zeros(runs, dtype=torch.int64)
        self.first = {name: torch.zeros(runs, classes, dtype=torch.int64) for name in thresholds}
        """`(runs, classes)`: counted from 1; 0 where never."""

    def __call__(self, query: Query, answers: Tensor) -> None:
        """See `fooling_class.evolved`."""
        own, owners = answers[:, : self.classes].cpu(), query.owners.cpu()
        label, confidence = labelled(own)
        self.asked += torch.bincount(owners, minlength=len(self.asked))
        generation = -(-self.asked // self.children)
        for name, threshold in self.thresholds.items():
            hit = (label >= 0) & (confidence >= threshold)
            cells = torch.zeros_like(self.first[name], dtype=torch.bool)
            cells[owners[hit], label[hit]] = True
            new = cells & (self.first[name] == 0)
            self.first[name] = torch.where(new, generation[:, None].expand_as(new), self.first[name])

    @property
    def generations(self) -> int:
        """How many there were, in the run that was asked most."""
        return -(-int(self.asked.max()) // self.children)

    def row(self) -> Row:
        """For each confidence, the share of runs and classes that got there and the median generation of those."""
        row: Row = {}
        for name, first in self.first.items():
            there = first[first > 0]
            row[name] = {
                "fooled": int((first > 0).sum()),
                "of": first.numel(),
                "median_generation": float(there.double().median()) if len(there) else None,
            }
        return row


def _share(hits: Tensor) -> float:
    return round(float(hits.double().mean()), 6)
