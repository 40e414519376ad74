"""Proportions with Wilson's interval, and the bootstrap over tasks behind scores that are no proportions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from ...leaderboard.record.bootstrap import CONFIDENCE, interval, mean, weights
from ...leaderboard.record.record import Measure
from ...leaderboard.record.rows import weighted

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
class RowTally:
    """One ranked row, task by task; for Perturb the first t evaluation images."""

    fool: bool
    held: np.ndarray
    """`(t,)` in [0, 1]: how long it held out; 0 for an image that was wrong before."""
    stood: np.ndarray
    """`(t,)` bool: not lost within the budget, or up to the headline ε, and right before."""
    held_99: np.ndarray
    """Fool: the same at the flat confidence; for Perturb the same as `held`."""
    stood_99: np.ndarray


What = Literal["held", "stood", "held_99", "stood_99"]


@dataclass(frozen=True)
class Tally:
    """Who survived what, and how long: all that scores are made of."""

    right: np.ndarray
    """`(n,)` bool: evaluation images accepted and right."""
    rows: Mapping[str, RowTally]


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights: how often each task was drawn in each resample. The first row is the sample itself."""

    images: np.ndarray
    """`(1 + r, n)`."""
    cells: Mapping[str, np.ndarray]
    """Per Fool row `(1 + r, cells)`."""


def resamples(tally: Tally, count: int, rng: np.random.Generator) -> Resamples:
    """Draw tasks with replacement: an image with all that was done to it is one task, a class and run another."""

    def draw(n: int) -> np.ndarray:
        return np.concatenate([np.ones((1, n)), weights(n, rng, count)])

    images = draw(len(tally.right))
    return Resamples(images, {name: draw(len(row.held)) for name, row in sorted(tally.rows.items()) if row.fool})


def averages(tally: Tally, draws: Resamples, what: What) -> dict[str, np.ndarray]:
    """Per row `(1 + r,)`: its endurance (`held`) or survival (`stood`)."""
    clean = clean_accuracy(tally, draws)
    out = {}
    for name, row in tally.rows.items():
        values = getattr(row, what).astype(float)
        drawn = draws.cells[name] if row.fool else draws.images[:, : len(values)]
        out[name] = weighted(values, drawn, clean if row.fool else None)
    return out


def clean_accuracy(tally: Tally, draws: Resamples) -> np.ndarray:
    """`(1 + r,)`."""
    return mean(draws.images, tally.right)


def bootstrapped(values: np.ndarray) -> Measure:
    """`(1 + r,)`: the sample's own value, with the 95% percentile interval of the resamples."""
    low, high = interval(values[1:])
    return Measure(value=float(values[0]), low=low, high=high)
