"""Fooling images by gradient ascent (Nguyen, Yosinski & Clune 2015), with the gain-controlled step of its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .base import Fool, Objective, Oracle
from .entry import Entry
from .levels import WHITE
from .spec import AtLeastOne, Attack, BatteryFacts, FoolSpec, Rate


@dataclass(frozen=True)
class GradientAscent:
    """Nguyen, Yosinski & Clune, "Deep neural networks are easily fooled" (CVPR 2015), section 3.3, as released
    (Evolving-AI-Lab/fooling, caffe/ascent); the logit objective is Simonyan, Vedaldi & Zisserman's (2013).

    From the training mean plus faint noise, each step adds `rate * gradient` to an image and shrinks its offset from
    the mean by `decay`. The rate is chosen so that the predicted gain in the target's probability p is
    `gain = min(early, late * (1 - p))`. For the softmax objective that is `rate = gain / |gradient|²`. It does not
    depend on the scale of pixels: here they are [0, 1], in the code 0..255.

    Departures from the code:

    - It uses the same formula for a logit z, which turns negative above 1. Here the step asks for the logit gain that,
      with all other logits standing still, gives the same gain in p: `rate = (logit(p + gain) - logit(p)) / |dz/dx|²`.
    - A slip in a name made it return its last iterate; here the iterate with the highest p is returned.
    - Iterates are rounded to the task's levels before they are asked (the offset itself is kept in floating point), so
      that the p that chooses among them is the one that the judge will see.
    - An image whose gradient vanishes is left as it is, as there; one that is certain (`certain`) stops early too.
    - The paper's other regularisers (blur, clipping of small pixels) are not part of it.

    p is the softmax over all logits, "none of these" included where the victim rejects. All runs and targets ascend
    together, one gradient a step each, and those that have stopped leave the batch.
    """

    objective: Literal["softmax", "logit"]
    """What is ascended: the target's probability or its logit."""
    decay: float = 0.0
    """Share of the offset from the mean that is lost each step: L2 decay."""
    steps: int = 500
    """Gradients an image, at most."""
    early: float = 0.03
    """Predicted gain in p of each step, while p is low."""
    late: float = 0.1
    """The same as a share of what is still missing, 1 - p, when p is high."""
    max_rate: float = 1e12 / 255**2
    """Cap of the rate, in pixels of [0, 1] (the code's 1e12 in pixels of 0..255)."""
    noise: float = 1 / 255
    """Standard deviation of the noise added to the mean at the start (the code's 1 in pixels of 0..255), where the task
    has 256 gray levels; where it has fewer, as much larger, since less than a level would be lost to rounding."""
    certain: float = 1e-9
    """An image stops when 1 - p is at most this (float32 cannot tell p from 1 below 3e-8); 0: never."""

    def __post_init__(self):
        if self.steps < 1 or not 0 <= self.decay < 1 or not 0 < self.early < 1 or not 0 < self.late < 1:
            raise Unexpected(
                "steps >= 1, decay in [0, 1), early and late in (0, 1)",
                f"{self.steps}, {self.decay}, {self.early} and {self.late}",
                "correct the one outside",
            )

    def ascend(self, task: Fool, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """One image for each run and target, `(runs, targets, c, h, w)`, each on the task's levels."""
        count = task.runs * len(task.targets)
        targets = task.targets.repeat(task.runs)
        noise = self.noise * WHITE / task.levels.top
        offset = noise * torch.randn((count, *task.shape), generator=rng, device=rng.device)
        finals = task.levels.rounded(task.mean + offset)
        best = torch.full((count,), -torch.inf, dtype=torch.float64, device=finals.device)
        left = torch.arange(count, device=finals.device)

        for _ in range(self.steps):
            if not len(left):
                break
            aims = targets[left]
            images = (task.mean + offset[left]).clamp_(0, 1)
            asked = task.levels.rounded(images)
            seen = oracle.gradient(asked, left, self._objective(aims))
            log_p, log_rest = _log_odds(seen.logits, aims)
            odds = log_p - log_rest
            better = odds > best[left]
            finals[left[better]], best[left[better]] = asked[better], odds[better]

            norms = seen.gradients.flatten(1).double().square().sum(1)
            rates = (self._gain(log_p, log_rest) / norms).clamp(max=self.max_rate)
            moved = images - task.mean + rates.float().view(-1, 1, 1, 1) * seen.gradients
            offset[left] = moved * (1 - self.decay)
            go_on = (norms > 0) & norms.isfinite() & (log_rest.exp() > self.certain)
            left = left[go_on]
        return finals.unflatten(0, (task.runs, -1))

    def _objective(self, aims: Tensor) -> Objective:
        def objective(logits: Tensor, rows: Tensor) -> Tensor:
            # In float32 the softmax's own gradient would be lost to rounding long before p is certain.
            values = logits if self.objective == "logit" else logits.double().softmax(1)
            return values.gather(1, aims[rows, None]).squeeze(1)

        return objective

    def _gain(self, log_p: Tensor, log_rest: Tensor) -> Tensor:
        """The gain in the objective that a step asks for, from log p and log(1 - p)."""
        p, rest = log_p.exp(), log_rest.exp()
        gain = (self.late * rest).clamp(max=self.early)
        if self.objective == "softmax":
            return gain
        share = (self.early / rest).clamp(max=self.late)  # gain / (1 - p), which stays exact as 1 - p goes to 0
        return (p + gain).log() - log_p - (-share).log1p()


def _log_odds(logits: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of each row's class, `(n,)` float64, without cancellation at either end."""
    scores = logits.double().log_softmax(1)
    own = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, aims[:, None], True)
    return scores.gather(1, aims[:, None]).squeeze(1), scores.masked_fill(own, -torch.inf).logsumexp(1)


class GradientAscentSpec(FoolSpec):
    """`gradient_ascent` in a battery's YAML: every objective with every decay; task by task the best counts."""

    targets: tuple[Annotated[int, Field(ge=0)], ...] | None
    """Classes aimed at; null for all."""
    steps: AtLeastOne
    early: Annotated[float, Field(gt=0)]
    late: Annotated[float, Field(gt=0)]
    objectives: Annotated[tuple[Literal["softmax", "logit"], ...], Field(min_length=1)]
    decays: Annotated[tuple[Rate, ...], Field(min_length=1)]


def entries(spec: GradientAscentSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """A setting for each objective with each decay; an image spends a gradient a step and one query."""
    for objective in spec.objectives:
        for decay in spec.decays:
            yield Entry(
                f"gradient_ascent_{objective}_{decay:g}",
                "gradient_ascent",
                f"{objective}, L2 decay {decay:g}",
                GradientAscent(objective=objective, decay=decay, steps=spec.steps, early=spec.early, late=spec.late),
                "fool",
                "white",
                spec.runs,
                spec.runs_per_shard,
                spec.steps + 1,
                targets=spec.targets or tuple(range(facts.classes)),
                best_of=True,
            )


ATTACK = Attack(
    name="gradient_ascent",
    title="Gradient ascent",
    sentence=(
        "Share of classes for which ascending the victim’s gradient from noise found an image that it accepts as that "
        "class with at least the confidence τ (Nguyen 2015, Simonyan 2013). The best of objectives and decays counts."
    ),
    task="fool",
    box="white",
    spec=GradientAscentSpec,
    entries=entries,
    example={
        "runs": 2,
        "targets": None,
        "steps": 10,
        "early": 0.03,
        "late": 0.1,
        "objectives": ["softmax", "logit"],
        "decays": [0, 0.01],
        "runs_per_shard": 2,
    },
)
