"""How an image moves along its gradient: by a gain that is asked for, or by Adam."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Fool
from .climb import Look
from .odds import Kind


class GainControlled:
    """Nguyen 2015's step: so long that p, the class's probability, is predicted to rise by `gain`; see
    GradientAscent."""

    def __init__(self, kind: Kind, early: float, late: float, decay: float, max_rate: float) -> None:
        self.kind, self.early, self.late, self.decay, self.max_rate = kind, early, late, decay, max_rate

    def __call__(self, look: Look) -> Tensor:
        """See Step."""
        rates = (self.gain(look.log_p, look.log_rest) / look.squares).clamp(max=self.max_rate)
        return (look.offsets + rates.float().view(-1, 1, 1, 1) * look.gradients) * (1 - self.decay)

    def restart(self, rows: Tensor) -> None:
        """Nothing is remembered."""

    def gain(self, log_p: Tensor, log_rest: Tensor) -> Tensor:
        """The gain in the objective that a step asks for, from log p and log(1 - p)."""
        p, rest = log_p.exp(), log_rest.exp()
        gain = (self.late * rest).clamp(max=self.early)
        if self.kind == "softmax":
            return gain
        share = (self.early / rest).clamp(max=self.late)  # gain / (1 - p), which stays exact as 1 - p goes to 0
        return (p + gain).log() - log_p - (-share).log1p()


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1), each image with moments and a count of its own."""

    def __init__(self, task: Fool, rate: float, beta1: float, beta2: float) -> None:
        count = task.runs * len(task.targets)
        self.rate, self.beta1, self.beta2 = rate, beta1, beta2
        self.first = task.mean.new_zeros(count, *task.shape)
        self.second = torch.zeros_like(self.first)
        self.taken = task.mean.new_zeros(count)

    def __call__(self, look: Look) -> Tensor:
        """See Step. Gradients are scaled to length 1 each before they are averaged: their size says nothing of how far
        to go, and where it changes by orders of magnitude the second moment would stop the image for long."""
        rows = look.rows
        unit = (look.gradients.double() / look.squares.sqrt().view(-1, 1, 1, 1)).float()
        self.taken[rows] += 1
        first = self.first[rows].lerp_(unit, 1 - self.beta1)
        second = self.second[rows].lerp_(unit.square(), 1 - self.beta2)
        self.first[rows], self.second[rows] = first, second
        taken = self.taken[rows].view(-1, 1, 1, 1)
        first, second = first / (1 - self.beta1**taken), second / (1 - self.beta2**taken)
        return look.offsets + self.rate * first / (second.sqrt() + TINY)

    def restart(self, rows: Tensor) -> None:
        """See Step."""
        self.first[rows], self.second[rows], self.taken[rows] = 0, 0, 0


TINY = 1e-12
"""Keeps a pixel that the victim never looked at where it is."""
