"""The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015), and the smallest step of it that flips a label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import mislabelled
from .base import Oracle, Perturb, WhiteBox
from .entry import Entry, FiniteDifferences, Limit
from .spec import AtLeastOne, Attack, BatteryFacts, Epsilon, EpsilonSpec, Rate, Strict, pixel_range


@dataclass(frozen=True)
class Fgsm:
    """Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples" (ICLR 2015), section 4.

    `x' = clip(x + epsilon * sign(gradient), 0, 1)`, with sign(0) = 0: one gradient an image, nothing else. Untargeted,
    the gradient is that of the log of the wrong classes' summed probability; targeted, that of the log probability of
    the image's target. Aimed at the class with the lowest clean logit it is the single-step "least likely class"
    method of Kurakin, Goodfellow & Bengio, "Adversarial machine learning at scale" (ICLR 2017).

    Departures: the paper does not clip. It ascends the label's cross-entropy; without rejection, log of the wrong
    classes' sum is an increasing function of that, so the sign is the same, but it does not vanish in float32 where
    the label's probability rounds to 1. Where the victim rejects, raising cross-entropy could merely get the image
    rejected; this objective asks for "accepted, and wrong".
    """

    epsilon: float
    """Step, in pixel values of [0, 1]."""
    targeted: bool = False
    """Whether to step towards the task's targets rather than away from its labels."""

    def __post_init__(self):
        if not 0 < self.epsilon <= 1:
            raise Unexpected("epsilon in (0, 1]", self.epsilon, "give it in pixel values of [0, 1]")

    def ascend(self, task: Perturb, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """Step once from every image; finals are `(t, c, h, w)`, not rounded. Draws nothing from `rng`.

        Raises ValueError when targeted and the task has no targets.
        """
        if self.targeted and task.targets is None:
            raise Unexpected("a task with targets for a targeted step", "None", "set Perturb.targets")
        sign = _direction(task, oracle, task.targets if self.targeted else None)
        return sign.mul_(self.epsilon).add_(task.images).clamp_(0, 1)


@dataclass(frozen=True)
class SmallestEpsilon:
    """The smallest untargeted Fgsm step that flips each image: coarse scan upward, then bisection.

    The sign of the gradient is taken once, at the image. Steps are whole gray levels of the battery, since the
    victim and the judge see no others: anything finer would ask the same image again. Along this ray flips need not be
    monotone in epsilon, so bisection alone could miss them: `coarse` equally spaced steps up to `largest` are tried in
    rising order, the first that flips ends the scan, and the bracket below it is bisected until it is one level wide
    or `bisections` are spent. Hence the step found flips, and the next lower one that was tried does not; a flip that
    comes and goes between two coarse steps below it can be missed.

    A flip is an image that the victim accepts with a label other than the task's. An image spends one gradient and at
    most `coarse + bisections` queries; all unfinished images of the block are asked together.
    """

    largest: float
    """Largest step, in pixel values of [0, 1]; at least one gray level, and rounded down to whole ones."""
    coarse: int
    """Steps of the scan; those that fall on one gray level are tried once."""
    bisections: int
    """At most so many halvings of the first bracket."""

    def __post_init__(self):
        if not 0 < self.largest <= 1:
            raise Unexpected("largest in (0, 1]", self.largest, "give it in pixel values of [0, 1]")
        if self.coarse < 1 or self.bisections < 0:
            raise Unexpected("coarse >= 1 and bisections >= 0", f"{self.coarse} and {self.bisections}", "raise them")

    def ascend(self, task: Perturb, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """Each image at its smallest flipping step, or at `largest` where none was found; `(t, c, h, w)`."""
        sign = _direction(task, oracle)
        device = task.images.device
        # Rounded down, but not because 8 / 255 * 255 may come out a hair below 8.
        top = int(self.largest * task.levels.top + 1e-6)
        high = torch.full((len(sign),), top, device=device)
        low = torch.zeros_like(high)

        left = torch.arange(len(sign), device=device)
        for level in sorted({round(top * k / self.coarse) for k in range(1, self.coarse + 1)} - {0}):
            if not len(left):
                break
            flips = _flips(task, oracle, sign, left, high.new_full(left.shape, level))
            high[left[flips]] = level
            left = left[~flips]
            low[left] = level

        for _ in range(self.bisections):
            left = torch.nonzero(high - low > 1).squeeze(1)
            if not len(left):
                break
            middle = (low[left] + high[left]) // 2
            flips = _flips(task, oracle, sign, left, middle)
            high[left[flips]] = middle[flips]
            low[left[~flips]] = middle[~flips]
        return _step(task, slice(None), sign, high)


def _direction(task: Perturb, oracle: Oracle, targets: Tensor | None = None) -> Tensor:
    """Sign of the gradient to ascend at every image: away from the labels, or towards the targets."""

    def objective(logits: Tensor, rows: Tensor) -> Tensor:
        scores = logits.log_softmax(1)
        real = scores[:, :-1] if oracle.rejects else scores
        if targets is not None:
            return real.gather(1, targets[rows, None]).squeeze(1)
        own = torch.zeros_like(real, dtype=torch.bool).scatter_(1, task.labels[rows, None], True)
        return real.masked_fill(own, -torch.inf).logsumexp(1)

    owners = torch.arange(len(task.images), device=task.images.device)
    name = "away from the labels" if targets is None else "towards the targets"
    return oracle.direction(task.images, owners, objective, name)


def _step(task: Perturb, rows: Tensor | slice, sign: Tensor, levels: Tensor) -> Tensor:
    """The task's images at `rows`, moved by whole gray levels `(n,)`, clipped and rounded to them."""
    return task.levels.moved(task.images[rows], sign[rows] * levels.view(-1, 1, 1, 1))


def _flips(task: Perturb, oracle: Oracle, sign: Tensor, left: Tensor, levels: Tensor) -> Tensor:
    """Whether the images `left`, moved by `levels`, are accepted with another label; both `(n,)`."""
    probabilities = oracle.probabilities(_step(task, left, sign, levels), left)
    return mislabelled(probabilities, task.labels[left])


class SmallestSpec(Strict):
    """The search for the smallest ε that flips an image: a coarse scan, then bisection of the first bracket."""

    largest: Rate
    coarse: AtLeastOne
    bisections: Annotated[int, Field(ge=0)]


class FiniteSpec(Strict):
    """Finite differences, for victims without gradients only: see bench/running/finite_difference.py."""

    queries: Annotated[int, Field(ge=3)]
    """Granted to each image's gradient."""
    step: Epsilon
    """Of whole gray levels, since queries have no others."""


class FgsmSpec(EpsilonSpec):
    """`fgsm` in a battery's YAML: one step at the headline ε, at each ε of the curve, and the smallest that flips."""

    smallest: SmallestSpec
    finite: FiniteSpec | None = None


def entries(spec: FgsmSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """The headline ε, the curve, the least likely class at the headline ε, and the smallest ε."""
    levels, finite = facts.levels, None
    if spec.finite is not None:
        steps = pixel_range(spec.finite.step) * levels.top
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-6:
            wanted, fix = "a step of whole gray levels, since queries have no others", f"write it as 1/{levels.top}"
            raise Unexpected(wanted, spec.finite.step, fix, at=("finite", "step"))
        finite = FiniteDifferences(spec.finite.queries, pixel_range(spec.finite.step))
    if spec.smallest.largest * levels.top < 1 - 1e-6:
        wanted = f"at least one gray level, 1/{levels.top}"
        raise Unexpected(wanted, spec.smallest.largest, "largest: 1.0", at=("smallest", "largest"))

    def entry(
        name: str,
        title: str,
        attack: WhiteBox[Any],
        epsilon: float,
        budget: int = 1,
        *,
        least_likely: bool = False,
        smallest: bool = False,
    ) -> Entry:
        return Entry(
            name,
            "fgsm",
            title,
            attack,
            "perturb",
            "white",
            spec.images,
            spec.images_per_shard,
            budget,
            limit=Limit("linf", epsilon),
            finite=finite,
            least_likely=least_likely,
            smallest=smallest,
            leaving=smallest,
        )

    headline = pixel_range(spec.epsilon)
    for at in spec.settings("fgsm"):
        yield entry(at.name, at.title, Fgsm(at.epsilon), at.epsilon)
    title = f"ε = {spec.epsilon}, at the least likely class"
    yield entry("fgsm_least_likely", title, Fgsm(headline, targeted=True), headline, least_likely=True)
    s = spec.smallest
    smallest = SmallestEpsilon(largest=s.largest, coarse=s.coarse, bisections=s.bisections)
    budget = 1 + s.coarse + s.bisections
    yield entry("fgsm_smallest", "smallest ε that flips", smallest, s.largest, budget, smallest=True)


ATTACK = Attack(
    name="fgsm",
    title="FGSM",
    sentence=(
        "Share of images whose label one step along the sign of the gradient changed, at the battery’s headline ε "
        "(Goodfellow 2015)."
    ),
    task="perturb",
    box="white",
    spec=FgsmSpec,
    entries=entries,
    example={
        "images": 8,
        "epsilon": 0.1,
        "curve": [0.05, 0.1],
        "smallest": {"largest": 1.0, "coarse": 4, "bisections": 2},
        "images_per_shard": 8,
    },
)
