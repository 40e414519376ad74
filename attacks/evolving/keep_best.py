"""What both controls share: images that nobody optimised, of which the best for each class is kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base import Fool, Query, Search
from .map_elites import contest, empty_cells, install_, standings


def keep_best(task: Fool, children: int, generations: int, draw: Callable[[int], Tensor]) -> Search:
    """Ask about `children` images a run, `generations` times over, and return the best of each run for each target, as
    an evolving attack would choose it (`standings`).

    `draw(n)` gives n images `(n, c, h, w)` float32 in [0, 1] on the task's device.
    """
    device = task.mean.device
    targets = task.targets.to(device)
    owners = torch.arange(task.runs, device=device).repeat_interleave(children)
    standing = empty_cells(task.runs, len(targets), device)
    kept = torch.zeros(task.runs, len(targets), *task.shape, device=device)
    for _ in range(generations):
        images = draw(task.runs * children)
        answers = yield Query(images, owners)
        result = contest(standing, standings(answers, targets).view(task.runs, children, len(targets)))
        standing = result.standing
        install_(kept, images.view(task.runs, children, *task.shape), result)
    return kept
