"""MAP-Elites with one cell per class (Mouret & Clune 2015, as Nguyen, Yosinski & Clune use it, CVPR 2015).

Every child is tried on every cell and takes each one where the victim is strictly more confident in that cell's class
than it was for the cell's elite, so one image may hold many cells. Nothing but elites survives. All functions work on
many independent runs at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Contest(NamedTuple):
    """What one generation changed."""

    confidence: Tensor
    """`(runs, k)`: each cell's confidence after it."""
    run: Tensor
    """`(m,)` int64: the run of each cell that changed hands."""
    cell: Tensor
    """`(m,)` int64: that cell."""
    child: Tensor
    """`(m,)` int64: the child, 0..n-1 of that run, that holds it now."""


def empty_cells(runs: int, cells: int, device: torch.device) -> Tensor:
    """`(runs, cells)` confidences that any image beats."""
    return torch.full((runs, cells), -torch.inf, device=device)


def contest(confidence: Tensor, offered: Tensor) -> Contest:
    """Let n children of each run compete for its cells.

    Trying them one after the other under a strict > leaves each cell with the first of the most confident children, if
    that one beats the elite: a maximum, which is what is computed.

    Args:
        confidence: `(runs, k)`, what the elites reach; -inf where a cell is empty.
        offered: `(runs, n, k)`, what each child reaches in each cell.
    """
    best, child = offered.max(1)  # the first of equals
    run, cell = (best > confidence).nonzero(as_tuple=True)
    return Contest(torch.maximum(confidence, best), run, cell, child[run, cell])


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
