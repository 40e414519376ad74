"""What the parts of published.py share: the row, the setting, and how an attack is driven and judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from foolbench.attacks.base import Fool, Perturb
from foolbench.bench.asking.answers import checked_answers
from foolbench.bench.asking.reading import hits_fool, hits_perturb, reading_of
from foolbench.bench.battery.ground import Asking
from foolbench.bench.running.drive import Meter, drive_black_box
from foolbench.bench.running.oracle import DrivenOracle
from foolbench.bench.scores.intervals import wilson
from foolbench.models.base import Classifier
from torch import Tensor

BATCH = 256
UNBOUNDED = 10**12
Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """How much of everything is done."""

    quick: bool = False
    """Fewer networks, images, runs and generations."""
    images: int | None = None
    """At most so many images (or runs) a row; None: what the part itself thinks right."""
    classes: int | None = None
    """So many of ImageNet's classes for gradient ascent, evenly spread; None: 20, or 2 where it is quick."""

    def many(self, full: int, quick: int) -> int:
        """So many images, unless `images` says otherwise."""
        return min(full, self.images) if self.images is not None else (quick if self.quick else full)


def row(
    name: str,
    ours: float | None,
    *,
    published: float | None,
    source: str,
    ok: bool | None,
    low: float | None = None,
    high: float | None = None,
    difference: str = "",
    **more: Any,
) -> Row:
    """One line of the table. `ok` None: nothing to hold it against, or not measured; the difference says which."""
    front = {"name": name, "ours": ours, "low": low, "high": high, "published": published, "source": source, "ok": ok}
    return front | {"difference_in_setup": difference} | more


def share(name: str, k: int, n: int, *, published: float | None, source: str, ok: bool | None, **more: Any) -> Row:
    """A row whose figure is k of n, with Wilson's interval."""
    low, high = wilson(k, n) if n else (None, None)
    return row(name, k / n if n else None, low=low, high=high, published=published, source=source, ok=ok, n=n, **more)


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the seconds it took."""
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def search(
    classifier: Classifier, attack: Any, task: Fool | Perturb, tau: float = 0.0, seed: int = 0
) -> tuple[Tensor, Meter]:
    """Drive a black-box attack as the bench does: its finals, and what each spent until fooled (Fool: at `tau`)."""

    def hit(probabilities: Tensor, owners: Tensor) -> Tensor:
        if isinstance(task, Fool):
            return hits_fool(probabilities, task.targets, tau)
        targets = None if task.targets is None else task.targets[owners]
        return hits_perturb(probabilities, task.labels[owners], targets).unsqueeze(1)

    owners, each = (task.runs, len(task.targets)) if isinstance(task, Fool) else (len(task.images), 1)
    meter = Meter(owners, each, UNBOUNDED, UNBOUNDED, hit, lambda asked, fooled: None, classifier.device)
    finals = drive_black_box(
        attack,
        task,
        classifier,
        meter,
        attack_rng=seeded(seed),
        victim_rng=seeded(1),
        how=Asking(BATCH),
        stop=lambda: False,
    )
    return finals, meter


def ascend(classifier: Classifier, attack: Any, task: Fool | Perturb, batch: int = BATCH) -> Tensor:
    """Drive a white-box attack as the bench does: its finals."""
    return attack.ascend(task, oracle(classifier, _owners(task), batch), seeded(0))


def oracle(classifier: Classifier, owners: int, batch: int = BATCH) -> DrivenOracle:
    """What a white-box attack asks, with no budget."""

    def never(probabilities: Tensor, rows: Tensor) -> Tensor:
        return torch.zeros(len(rows), 1, dtype=torch.bool)

    meter = Meter(owners, 1, UNBOUNDED, UNBOUNDED, never, lambda asked, fooled: None, classifier.device)
    return DrivenOracle(classifier, meter, seeded(1), Asking(batch), 1, lambda: False)


def probabilities(classifier: Classifier, images: Tensor, batch: int = BATCH) -> Tensor:
    """`(n, c, h, w)` rounded to 8 bits -> `(n, K)`."""
    return checked_answers(classifier, images, seeded(1), Asking(batch))


def labels(classifier: Classifier, images: Tensor) -> Tensor:
    """`(n,)`: the accepted labels of images rounded to 8 bits."""
    return reading_of(probabilities(classifier, images)).label


def seeded(seed: int) -> torch.Generator:
    """A stream of its own."""
    return torch.Generator().manual_seed(seed)


def _owners(task: Fool | Perturb) -> int:
    return task.runs * len(task.targets) if isinstance(task, Fool) else len(task.images)
