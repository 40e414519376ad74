"""The bootstrap: tasks drawn with replacement, and what is read off the resamples (Efron 1979, percentile interval)."""

from __future__ import annotations

import numpy as np

CONFIDENCE = 0.95
"""Of every interval, here and for proportions."""


def weights(n: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """`(resamples, n)` float64: how often each of n tasks was drawn, n draws with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64) if n else np.zeros((resamples, 0))


def mean(weights: np.ndarray, values: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    """`(resamples, n)`, `(n,)` -> `(resamples,)`: weighted means, `empty` where a resample drew none of these tasks."""
    total = weights.sum(axis=1)
    return np.divide(weights @ values, total, out=np.full(len(total), empty), where=total > 0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """`(resamples,)` -> the 95% percentile interval; NaN, of a resample that drew nothing, is left out."""
    low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
