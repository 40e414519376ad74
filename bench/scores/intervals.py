"""Proportions with Wilson's interval, and the bootstrap over tasks behind scores that are no proportions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from ...leaderboard.record.bootstrap import CONFIDENCE, interval, mean, weights
from ...leaderboard.record.record import Measure
from ...leaderboard.record.survival import survives_fool

Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def proportion(k: int, n: int, reason: str | None = None) -> Measure:
    """k of n with its 95% Wilson score interval; null with a reason when n is 0."""
    if n == 0:
        return Measure(value=None, k=0, n=0, reason=reason or "nothing to measure it on")
    low, high = wilson(k, n)
    return Measure(value=k / n, low=low, high=high, k=k, n=n)


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95% score interval of k successes in n > 0 trials (Wilson 1927)."""
    share = k / n
    middle = share + Z**2 / (2 * n)
    half = Z * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = ((middle + side) / (1 + Z**2 / n) for side in (-half, half))
    # Exactly so in real numbers; rounding would leave 1e-17 there.
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def unmeasured(reason: str) -> Measure:
    """Null, and why."""
    return Measure(value=None, reason=reason)


@dataclass(frozen=True)
class Tally:
    """Who survived what: all that scores are made of."""

    right: np.ndarray
    """`(n,)` bool: evaluation images accepted and right."""
    alive: Mapping[str, np.ndarray]
    """Perturb attacks: `(m,)` bool for the first m evaluation images: right before, and not fooled after."""
    fooled: Mapping[str, np.ndarray]
    """Fool attacks: `(cells,)` bool, one a class and run."""


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights: how often each task was drawn in each resample. The first row is the sample itself."""

    images: np.ndarray
    """`(1 + r, n)`."""
    cells: Mapping[str, np.ndarray]
    """Per Fool attack `(1 + r, cells)`."""


def resamples(tally: Tally, count: int, rng: np.random.Generator) -> Resamples:
    """Draw tasks with replacement: an image with all that was done to it is one task, a class and run another."""

    def draw(n: int) -> np.ndarray:
        return np.concatenate([np.ones((1, n)), weights(n, rng, count)])

    return Resamples(draw(len(tally.right)), {name: draw(len(cells)) for name, cells in sorted(tally.fooled.items())})


def survivals(tally: Tally, draws: Resamples) -> dict[str, np.ndarray]:
    """Per attack `(1 + r,)`: robust accuracy (Perturb) or `survives_fool` (Fool); 0 where no image was drawn."""
    clean = clean_accuracy(tally, draws)
    survival = {}
    for name, alive in tally.alive.items():
        survival[name] = mean(draws.images[:, : len(alive)], alive, empty=0.0)
    for name, fooled in tally.fooled.items():
        survival[name] = survives_fool(clean, mean(draws.cells[name], fooled))
    return survival


def clean_accuracy(tally: Tally, draws: Resamples) -> np.ndarray:
    """`(1 + r,)`."""
    return mean(draws.images, tally.right)


def bootstrapped(values: np.ndarray) -> Measure:
    """`(1 + r,)`: the sample's own value, with the 95% percentile interval of the resamples."""
    low, high = interval(values[1:])
    return Measure(value=float(values[0]), low=low, high=high)
