"""What a ranked row came to, task by task, and how long each task held out: the definition that scores and boards use.

Endurance is the area over the run-time distribution on a logarithmic axis, as COCO reports it (Hansen et al. 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .bootstrap import mean
from .measure import Measure


def held_queries(lost: np.ndarray, first: float, budget: float) -> np.ndarray:
    """`(t,)` in [0, 1]: log(q / first) ÷ log(budget / first) for tasks lost after q forward passes; NaN, never lost: 1.

    0 up to `first`, what an attack asks before it can have learned anything. Where the budget leaves nothing to learn
    with, a task holds out wholly or not at all.
    """
    never = np.isnan(lost)
    if budget <= first:
        return never.astype(float)
    with np.errstate(divide="ignore"):
        share = np.log(np.maximum(np.where(never, budget, lost), 1e-12) / first) / np.log(budget / first)
    return np.where(never, 1.0, np.clip(share, 0.0, 1.0))


def held_epsilon(lost: np.ndarray, curve: Sequence[float]) -> np.ndarray:
    """`(t,)` in [0, 1]: the area under "not yet lost" from ε = 0 to the largest ε of the ascending `curve`, as a share
    of that range (NaN, never lost: 1). Between two ε the line is straight, so that the mean over tasks is the area
    under the robust accuracy drawn from point to point."""
    grid = np.array([0.0, *curve])
    at = np.searchsorted(grid, np.where(np.isnan(lost), grid[-1], lost) - 1e-9)
    at = np.clip(at, 1, len(grid) - 1)
    middle = (grid[at - 1] + grid[at]) / 2
    return np.where(np.isnan(lost), 1.0, middle / grid[-1])


class RankedRow(BaseModel):
    """One row of the ranking: one or more attacks, of which the one that gets there first counts, task by task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    title: str
    entries: list[str] = Field(min_length=1)
    """The attacks that it counts, by their names in `attacks`; the first is the one that it is named after."""
    first: int = Field(default=1, ge=1)
    """Forward passes that an attack makes before it can have learned anything."""
    budget: int = Field(default=1, ge=1)
    """Forward passes granted to a task by the attack that is granted most; a gradient is three."""
    curve: list[float] = Field(default_factory=list)
    """Rows over ε: the grid, ascending, in units of the pixel range. Empty: the row is over queries."""
    epsilon: float | None = None
    """Rows over ε: the headline, at which survival is told."""
    control: str | None = None
    """Fool: the control whose endurance the lift is taken from."""
    reason: str | None = None
    """Why `first` is what it is."""

    def held(self, lost: np.ndarray) -> np.ndarray:
        """`(t,)` in [0, 1]: how long each task held out. `lost`: forward passes, or the ε, at which it was lost; NaN
        where it never was."""
        return held_epsilon(lost, self.curve) if self.curve else held_queries(lost, self.first, self.budget)

    def stood(self, lost: np.ndarray) -> np.ndarray:
        """`(t,)` bool: not lost within the whole budget, or up to the headline ε."""
        return np.isnan(lost) if self.epsilon is None else ~(lost <= self.epsilon + 1e-9)


class RowResult(BaseModel):
    """What a ranked row came to. Columns hold one value a task, in one order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endurance: Measure
    """0 to 1: the mean over tasks of how long each held out; Fool: times clean accuracy."""
    survival: Measure
    """0 to 1: the share not lost within the whole budget, or up to the headline ε; Fool: times clean accuracy."""
    endurance_99: Measure | None = None
    """Fool: endurance at a flat confidence of 0.99 instead of τ."""
    survival_99: Measure | None = None
    lift: Measure | None = None
    """Fool: endurance less that of the control at the same budget; below zero where the attack does better than it."""
    words: str | None = None
    """What a reader must know of the row before comparing it."""
    tasks: list[tuple[int, int]] = Field(default_factory=list)
    """Perturb: (image, its class). Fool: (run, class aimed at)."""
    counts: list[bool] = Field(default_factory=list)
    """Perturb: whether the victim had the image accepted and right before; the others hold out 0."""
    lost: list[float | None] = Field(default_factory=list)
    """Forward passes (rows over ε: the smallest ε of the grid) at which the task was lost; null where it never was."""
    lost_99: list[float | None] = Field(default_factory=list)
    """Fool: the same at a flat 0.99."""
    by: list[str | None] = Field(default_factory=list)
    """The attack's setting that took it."""


def column(values: Sequence[float | None]) -> np.ndarray:
    """A column of a row as floats; NaN for null."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def weighted(values: np.ndarray, weights: np.ndarray, clean: np.ndarray | None) -> np.ndarray:
    """`(t,)`, `(r, t)` -> `(r,)`: a row's endurance or survival in resamples. `clean`: a Fool row's clean accuracy in
    the same resamples `(r,)`; None for Perturb, where a resample that drew no image counts 0."""
    if clean is None:
        return mean(weights, values, empty=0.0)
    return clean * mean(weights, values)
