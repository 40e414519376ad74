"""A sorting network cut down to what the median needs."""

from __future__ import annotations

from typing import NamedTuple


class Comparator(NamedTuple):
    """Compare lanes a < b: put the smaller value on a (if `low` is wanted) and the greater on b (if `high` is)."""

    a: int
    b: int
    low: bool
    high: bool


def merge_exchange(n: int) -> list[tuple[int, int]]:
    """Comparators `(a, b)`, in order, that sort any n values (Batcher; Knuth vol. 3, §5.2.2, Algorithm M)."""
    pairs = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while distance > 0:
            pairs += [(i, i + distance) for i in range(n - distance) if i & p == r]
            distance, q, r = q - p, q // 2, p
        p //= 2
    return pairs


def median_network(n: int) -> tuple[Comparator, ...]:
    """Comparators after which lane `n // 2` holds the value of that rank, counted from 0: the median of an odd n, the
    greater of the two middle values of an even one. What no later step reads is left out."""
    read = {n // 2}
    kept = []
    for a, b in reversed(merge_exchange(n)):
        if a in read or b in read:
            kept.append(Comparator(a, b, a in read, b in read))
            read |= {a, b}
    return tuple(reversed(kept))
