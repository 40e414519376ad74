"""Networks trained to withstand L∞ changes of 2/255 must withstand them better than ordinary ones as accurate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from foolbench.attacks.base import Perturb
from foolbench.attacks.fgsm import Fgsm, SmallestEpsilon
from foolbench.bench.scores.intervals import wilson
from published_networks import Network, network
from published_rows import Row, Setting, ascend, labels, row, share

LIMIT = 2 / 255
SOURCE = "trained for L∞ 2/255 (VNN-COMP 2021)"
PAIRS = {
    "cifar10_vnncomp21_oval21_cifar_base_kw": ("cifar10_vnncomp21_marabou_cifar10_small", "provably robust"),
    "cifar10_vnncomp21_oval21_cifar_deep_kw": ("cifar10_vnncomp21_marabou_cifar10_small", "provably robust"),
    "cifar10_vnncomp21_oval21_cifar_wide_kw": ("cifar10_vnncomp21_marabou_cifar10_small", "provably robust"),
    "cifar10_vnncomp21_resnet_2b": ("cifar10_vnncomp21_marabou_cifar10_medium", "adversarially trained"),
    "cifar10_vnncomp21_resnet_4b": ("cifar10_emclab_squeezenet", "adversarially trained"),
}
"""Each robust network with the ordinary one that is nearest to it in clean accuracy."""


def rows(setting: Setting, folder: Path) -> Iterator[Row]:
    """Of the images right before, the share still right after FGSM at 2/255; and the median smallest step."""
    n = setting.many(1000, 300)
    seen: dict[str, tuple[float, int, int, float]] = {}
    for robust, (ordinary, kind) in PAIRS.items():
        for name in (robust, ordinary):
            if name not in seen:
                seen[name] = _measure(network(name), n)
        clean, held, right, smallest = seen[robust]
        other_clean, other_held, other_right, other_smallest = seen[ordinary]
        difference = f"{kind}, clean accuracy {clean:.3f}; beside it {ordinary}, ordinary, {other_clean:.3f}"
        yield share(
            f"FGSM 2/255, {robust}: share that holds", held, right, published=None, source=SOURCE, beside=ordinary,
            ok=wilson(held, right)[0] > wilson(other_held, other_right)[1], ordinary=other_held / other_right,
            difference=f"{difference}: {other_held / other_right:.3f}",
        )  # fmt: skip
        yield row(
            f"FGSM, {robust}: median smallest step that flips, gray levels", _finite(smallest), published=None,
            source=SOURCE, ok=smallest > other_smallest, beside=ordinary, ordinary=_finite(other_smallest),
            difference=f"{difference}: {other_smallest:g}", n=right,
        )  # fmt: skip


def _measure(net: Network, n: int) -> tuple[float, int, int, float]:
    """Clean accuracy on n images; of those right, how many hold at 2/255, and the median smallest step in levels."""
    images, truth = net.pool.images[:n], net.pool.labels[:n]
    right = labels(net.classifier, images) == truth
    task = Perturb(images[right], truth[right], net.pool.donors, net.pool.mean)
    held = labels(net.classifier, ascend(net.classifier, Fgsm(LIMIT), task)) == task.labels
    finals = ascend(net.classifier, SmallestEpsilon(largest=1.0, coarse=51, bisections=8), task)
    flipped = labels(net.classifier, finals) != task.labels
    steps = ((finals - task.images).abs().flatten(1).amax(1) * 255).round().tolist()
    median = statistics.median(step if flip else math.inf for step, flip in zip(steps, flipped.tolist(), strict=True))
    return float(right.float().mean()), int(held.sum()), int(right.sum()), median


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
