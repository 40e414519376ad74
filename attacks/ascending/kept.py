"""Which of an ascent's images is its result."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Fool


class Kept:
    """Task by task the best image that was asked about, as the judge would choose it: one that the victim accepts as
    the class before any that it does not, then by confidence. So a success is never lost to a later iterate."""

    def __init__(self, task: Fool) -> None:
        count = task.runs * len(task.targets)
        device = task.mean.device
        self.images = task.mean.expand(count, *task.shape).clone()
        self._labelled = torch.zeros(count, dtype=torch.bool, device=device)
        self._confidence = torch.full((count,), -torch.inf, device=device)
        self._odds = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)

    def offer(self, rows: Tensor, images: Tensor, labelled: Tensor, confidence: Tensor, odds: Tensor) -> None:
        """One image for each of the tasks `rows` `(n,)`: whether it has the class's label, the victim's confidence in
        it, float32 as the judge reads it, and its log-odds, float64, which tell apart what float32 does not."""
        same = labelled == self._labelled[rows]
        held, odds_held = self._confidence[rows], self._odds[rows]
        surer = (confidence > held) | ((confidence == held) & (odds > odds_held))
        better = (labelled & ~same) | (same & surer)
        won = rows[better]
        self.images[won], self._labelled[won] = images[better], labelled[better]
        self._confidence[won], self._odds[won] = confidence[better], odds[better]
