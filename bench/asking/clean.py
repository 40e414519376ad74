"""Before any attack: what the victim says of the clean images, and what follows from it (τ, who can be attacked)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...attacks.entry import Entry
from ...models.base import Classifier
from ...models.levels import from_bytes
from ...models.slopes import gradient_of, other_classes, vanishes
from ..battery.ground import Ground
from ..machine.memory import Memory
from ..machine.seeds import generator
from .answers import victim_call
from .informative import informative
from .out_of_distribution import asked, most_rejected, out_of_distribution, twice
from .reading import Reading, reading_of

NOWHERE = 0.5
"""Share of images with a vanishing gradient above which a victim counts as having none: attacks along it would leave
most images as they are, which must not read as robust."""
SAME = 1e-6
"""Answers of one image that differ by more than this between two calls make a victim `randomised`."""


@dataclass(frozen=True)
class CleanAnswers:
    """The victim on the evaluation images. Tensors on the victim's device, one row an image."""

    images: Tensor
    """`(n, c, h, w)` uint8."""
    truth: Tensor
    """`(n,)` int64."""
    reading: Reading
    tau: float | None
    """The confidence that a fooling image must reach; None when no clean image is accepted and right."""
    randomised: bool
    difference: float
    """The largest difference between two answers to the same image, clean or not (see out_of_distribution.py)."""
    zero_gradient_share: float | None
    """Share of images whose input gradient (of the log-odds of every class but the largest, which is what FGSM and its
    kin ascend) vanishes; None without gradients."""
    vanishes: Tensor | None = None
    """`(n,)` bool: on which of them."""
    share: Tensor | None = None
    """`(n,)`: share of the draws on which a randomised victim accepts the image as its class; None without chance."""
    blinds: str | None = None
    """What its answers to these and other images keep back from a search, in a clause; None where they tell enough, and
    where chance decides, since a search is shown the mean of several draws."""
    most_rejected: float = 0.0
    """The largest mass that an answer, to a clean image or another, keeps from the classes: the rejected mass."""

    @property
    def accepted(self) -> Tensor:
        """`(n,)` bool."""
        return self.reading.label >= 0

    @property
    def right(self) -> Tensor:
        """`(n,)` bool: accepted, and the true class; where chance decides, on more than half of the draws as well."""
        right = self.reading.label == self.truth
        return right if self.share is None else right & (self.share > 0.5)

    @property
    def least_likely(self) -> Tensor:
        """`(n,)` int64: the class that the victim finds least likely."""
        return self.reading.probabilities.argmin(1)

    def aims(self, entry: Entry, rows: Tensor | slice = slice(None)) -> Tensor | None:
        """The classes that a Perturb entry aims these images at, int64; None where any other label will do."""
        if entry.fixed_target is not None:
            return torch.full_like(self.truth[rows], entry.fixed_target)
        return self.least_likely[rows] if entry.least_likely else None


def examine(victim: Classifier, ground: Ground, digest: str = "") -> CleanAnswers:
    """Ask the victim about every evaluation image and about images unlike them, twice, and as often as the judge would
    where that shows that it is randomised. The images unlike them are drawn from a stream of the victim's `digest`, so
    that nobody knows them beforehand.
    """
    images = torch.tensor(ground.data.images).to(victim.device)
    truth = torch.tensor(ground.data.labels).to(victim.device)
    return examine_images(victim, ground, images, truth, digest)


def examine_images(victim: Classifier, ground: Ground, images: Tensor, truth: Tensor, digest: str = "") -> CleanAnswers:
    """`examine` on some images `(n, c, h, w)` uint8 with their classes `(n,)`, on the victim's device."""
    spec, memory = ground.spec, ground.memory
    name, how = spec.name, ground.asking
    rng = generator(name, "clean", device=victim.device)
    pixels = from_bytes(images)
    first, second = twice(victim, pixels, rng, how, memory)
    difference, kept = float((first - second).abs().max()), most_rejected(first)
    shown, told = [images], [first]
    if not (victim.rejects and (victim.randomised or difference > SAME)):  # else there is nothing left to learn
        # The name of the stream is old; another would move the numbers of records.
        other = generator(name, "strangers", digest, device=victim.device)
        unlike = out_of_distribution(images, other)
        here, there = twice(victim, unlike, other, how, memory)
        difference, kept = max(difference, float((here - there).abs().max())), max(kept, most_rejected(here))
        shown, told = [images, ground.levels.to_bytes(unlike)], [first, here]
    reading = reading_of(first)
    randomised = victim.randomised or difference > SAME
    share = None
    if randomised:
        labels = [reading.label, reading_of(second).label]
        labels += [reading_of(asked(victim, pixels, rng, how)).label for _ in range(spec.judge.draws - len(labels))]
        share = (torch.stack(labels) == truth).double().mean(0)
    right = reading.label == truth if share is None else (reading.label == truth) & (share > 0.5)
    tau = tau_of(reading.confidence[right], spec.judge.tau_quantile)
    clean = CleanAnswers(images, truth, reading, tau, randomised, difference, None, share=share, most_rejected=kept)
    if not randomised:
        # Without its logits, which no search sees.
        pictures, answers = (torch.cat(parts).cpu().numpy() for parts in (shown, told))
        seen = informative(replace(victim, logits=None), name, spec.batch, pictures, answers)
        clean = replace(clean, blinds=None if seen is None else seen.blinds)
    if victim.logits is None:
        return clean
    vanishes = _vanishes(victim, pixels, rng, spec.gradient_batch, memory)
    return replace(clean, zero_gradient_share=float(vanishes.double().mean()), vanishes=vanishes)


def blinded(victim: Classifier, clean: CleanAnswers) -> Classifier:
    """The victim as white-box attacks may use it: one whose gradient vanishes nearly everywhere has none."""
    if clean.zero_gradient_share is None or clean.zero_gradient_share <= NOWHERE:
        return victim
    reason = f"its gradient vanishes on {clean.zero_gradient_share:.0%} of the evaluation images"
    return replace(victim, logits=None, no_gradient=reason)


def _vanishes(victim: Classifier, pixels: Tensor, rng: torch.Generator, batch: int, memory: Memory) -> Tensor:
    ask = victim.logits
    assert ask is not None

    def vanished(images: Tensor) -> Tensor:
        # Of what is ascended: the classes alone. What is rejected may well have no gradient of its own.
        side = partial(other_classes, rejects=victim.rejects)
        return vanishes(gradient_of(lambda x: victim_call(ask, x, rng), images, side)[1])

    found = []
    for part in pixels.split(batch):
        found += memory.pieces(len(part), lambda rows, part=part: vanished(part[rows]))
    return torch.cat(found)


def tau_of(confidence: Tensor, quantile: float) -> float | None:
    """The `quantile` of the confidences, rounded down to one of them: at most that share lies below it."""
    if len(confidence) == 0:
        return None
    return float(confidence.double().sort().values[int(quantile * len(confidence))])
