"""MAP-Elites with one cell per class (Mouret & Clune 2015, as Nguyen, Yosinski & Clune use it, CVPR 2015).

Every child is tried on every cell and takes each one where it stands strictly higher than the cell's elite, so one
image may hold many cells. Nothing but elites survives. An image stands by the victim's confidence in the cell's class,
and one that the victim accepts as that class stands above all that it does not (`standings`). All functions work on
many independent runs at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..answers import label_of

_LABELLED = 2.0**32
"""By how much an image of the cell's label stands higher. A power of two keeps every bit of a confidence; a label needs
one above 1 / (classes + 1), so any image with it stands above every image without, up to 4 billion classes."""


class Contest(NamedTuple):
    """What one generation changed."""

    standing: Tensor
    """`(runs, k)`: where each cell's elite stands after it."""
    run: Tensor
    """`(m,)` int64: the run of each cell that changed hands."""
    cell: Tensor
    """`(m,)` int64: that cell."""
    child: Tensor
    """`(m,)` int64: the child, 0..n-1 of that run, that holds it now."""


def empty_cells(runs: int, cells: int, device: torch.device) -> Tensor:
    """`(runs, cells)` standings that any image beats."""
    return torch.full((runs, cells), -torch.inf, device=device)


def standings(probabilities: Tensor, targets: Tensor) -> Tensor:
    """`(n, K)`, `(k,)` -> `(n, k)`: where each image stands in the cell of each target.

    The confidence in the target, or where the victim accepts the image as that class, 2³² times it. So a cell that ever
    saw an image with its label holds, in the end, the most confident of those: one that fools at a threshold, whatever
    it is, if any image asked did. Confidence alone would let an image go that fools for one that is surer of the class
    and surer still of another, or rejected.

    Departure from Nguyen 2015, whose cells go by confidence alone.
    """
    own = probabilities.index_select(1, targets)
    return torch.where(label_of(probabilities)[:, None] == targets, own * _LABELLED, own)


def contest(standing: Tensor, offered: Tensor) -> Contest:
    """Let n children of each run compete for its cells.

    Trying them one after the other under a strict > leaves each cell with the first of the highest children, if that
    one beats the elite: a maximum, which is what is computed.

    Args:
        standing: `(runs, k)`, where the elites stand; -inf where a cell is empty.
        offered: `(runs, n, k)`, where each child stands in each cell.
    """
    best, child = offered.max(1)  # the first of equals
    run, cell = (best > standing).nonzero(as_tuple=True)
    return Contest(torch.maximum(standing, best), run, cell, child[run, cell])


def install_(elites: Tensor, children: Tensor, result: Contest) -> None:
    """Move the winners among `(runs, n, ...)` children into their cells of the contiguous `(runs, k, ...)` elites."""
    winners = children.flatten(0, 1).index_select(0, result.run * children.shape[1] + result.child)
    elites.view(-1, *elites.shape[2:]).index_copy_(0, result.run * elites.shape[1] + result.cell, winners)


def draw_parents(runs: int, cells: int, children: int, rng: torch.Generator) -> Tensor:
    """`(runs, children)` int64: the cell that each child's parent holds, uniform with replacement.

    A cell is full from the first generation on, since every image is tried on every cell, so the occupied cells are all
    cells; and whoever holds several is proportionally likelier to be drawn.
    """
    return torch.randint(cells, (runs, children), generator=rng, device=rng.device)
