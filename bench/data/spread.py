"""Which images to take of many, without chance: each class in proportion, evenly over its own."""

from __future__ import annotations

import numpy as np


def evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions, ascending, of `count` images; of all where there are no more. `labels`: `(n,)` int64.

    A class gives its share, rounded so that `count` is met: one of each class first, where `count` is as large. Within
    a class the chosen lie evenly in the order of the source. Every n-th image of all would be of one class alone where
    a source goes round n classes.
    """
    order = labels.argsort(kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    starts, owners = sizes.cumsum() - sizes, np.repeat(np.arange(len(sizes)), sizes)
    # The k-th image of a class of n, from 0 on, is due when the share (k + 1/2)/n of all images is taken; the first at
    # once. This rounds shares to the nearest (Webster, Sainte-Laguë).
    k = np.arange(len(labels)) - starts[owners]
    due = np.where(k > 0, (k + 0.5) / sizes[owners], 0)
    quotas = np.bincount(owners[due.argsort(kind="stable")[:count]], minlength=len(sizes))
    chosen = np.zeros(len(labels), bool)
    for start, size, quota in zip(starts, sizes, quotas, strict=True):
        chosen[order[start + (2 * np.arange(quota) + 1) * size // max(1, 2 * quota)]] = True
    return chosen.nonzero()[0]
