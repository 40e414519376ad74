"""Summaries of measurements in which NaN stands for "not defined"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spearman(curves: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spearman's correlation of each row of `(t, K)` with 1..K, ties at their mean rank: `(t,)`.

    NaN at the end of a row shortens it. A row that is constant or has fewer than two values gives NaN.
    """
    there = ~np.isnan(curves)
    length = there.sum(1)
    below = (curves[:, None, :] < curves[:, :, None]).sum(2)
    equal = (curves[:, None, :] == curves[:, :, None]).sum(2)
    middle = (length[:, None] - 1) / 2
    ranks = np.where(there, below + (equal - 1) / 2 - middle, 0.0)
    steps = np.where(there, np.arange(curves.shape[1])[None] - middle, 0.0)
    size = np.sqrt((ranks**2).sum(1) * (steps**2).sum(1))
    product = (ranks * steps).sum(1)
    return np.divide(product, size, out=np.full(len(curves), np.nan), where=size > 0).astype(np.float32)


def quartiles(values: NDArray[np.float32]) -> dict[str, float | int | None]:
    """Median, quartiles and number of the values that are defined; None where there is none."""
    defined = values[~np.isnan(values)].astype(np.float64)
    low, middle, high = np.quantile(defined, (0.25, 0.5, 0.75)).tolist() if len(defined) else (None, None, None)
    return {"median": middle, "q25": low, "q75": high, "n": len(defined)}


def share(happened: NDArray[np.bool_]) -> dict[str, float | int | None]:
    """k of n, and their quotient."""
    k, n = int(happened.sum()), len(happened)
    return {"value": k / n if n else None, "k": k, "n": n}
