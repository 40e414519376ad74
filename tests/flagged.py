"""Planted networks measured in seconds, and the flags that they earn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from foolbench.bench import evaluate
from foolbench.bench.battery.ground import Execution
from foolbench.bench.evaluation.pipeline import Run, evaluate_subject
from foolbench.bench.scores.flags import flags_of
from foolbench.leaderboard.record.record import Flag, Record
from foolbench.leaderboard.record.store import RunFolder
from foolbench.models.base import Classifier
from planted import battery, halves, left_or_right, small, subject
from torch import Tensor, nn

SHAPE = (1, 8, 8)
FGSM = small(fgsm={})


def run(net: nn.Module, folder: Path, attacks: dict[str, Any] = FGSM, count: int = 20, **options: Any) -> Run:
    """A network as it is, on `count` halves."""
    planted = battery(folder, *halves(count), attacks=attacks, train=halves(8, seed=1))
    return evaluate(net, battery=planted, out=folder / "run", device="cpu", **options)


def judged(victim: Classifier, folder: Path, name: str = "run", **options: Any) -> Run:
    """A Classifier that no loader has looked at, on 8 halves under FGSM."""
    planted = battery(folder, *halves(8), attacks=FGSM)
    return evaluate_subject(subject(victim, **options), planted, Execution("cpu"), out=folder / name)


def titles(record: Record) -> dict[str, str]:
    return {name: attack.title for name, attack in record.battery.attacks.items()}


def flag(made: Run, code: str, attack: str | None = None) -> Flag:
    """The one flag of this kind. Whoever reads the record back finds the same flags in it."""
    (found,) = [f for f in made.record.flags if f.code == code and f.attack == attack]
    assert found.sentence.endswith(".")
    kept = RunFolder(made.folder).record
    again = flags_of(kept.attacks, kept.scores, kept.seen, titles(kept), kept.transfer)
    assert again == kept.flags == made.record.flags
    return found


class Rounding(nn.Module):
    """Sees 3 bits: no gradient anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = left_or_right()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner((images * 8).round() / 8)


class WrongGradient(nn.Module):
    """The right answers, and the gradient of something else."""

    class Lie(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Tensor) -> Tensor:
            return logits.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return -3 * gradients[0]

    def __init__(self) -> None:
        super().__init__()
        self.inner = left_or_right()

    def forward(self, images: Tensor) -> Tensor:
        return self.Lie.apply(self.inner(images))  # type: ignore[no-any-return]
