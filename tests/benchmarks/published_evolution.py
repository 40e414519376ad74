"""Evolution and CPPN on MNIST: after how many generations a network is certain of every digit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from foolbench.attacks.base import Fool
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.evolution import Evolution
from published_networks import Network, network, network_names, panel_network
from published_rows import Row, Setting, probabilities, row, search, timed
from torch import Tensor, arange

CERTAIN = 0.9999
CHILDREN = 200
DIRECT = "Nguyen 2015, section 3.1: every digit in under 50 generations"
INDIRECT = "Nguyen 2015, section 3.1: median of the digits by generation 200"
QUICK = ("mnist_vnncomp21_verivital_Convnet_maxpool", "mnist_vnncomp21_mnist-net_256x2", "mnist_zoo_mnist-8")
PANEL = ("mnist-lenet-a", "mnist-lenet-b")
"""The shipped panel's LeNet-5, the nearest to the paper's network."""
DIFFERENCE = "another network (theirs: LeNet in Caffe)"


def rows(setting: Setting, folder: Path) -> Iterator[Row]:
    """Both encodings on each network, the panel's first."""
    runs = setting.many(3, 1)
    nets = [panel_network(name) for name in PANEL]
    nets += [network(name) for name in (QUICK if setting.quick else network_names("mnist"))]
    for net in nets:
        yield _row(net, "evolution", Evolution(children=CHILDREN, generations=200), runs)
        yield _row(net, "cppn", Cppn(children=CHILDREN, generations=200), runs)


def _row(net: Network, name: str, attack: Evolution | Cppn, runs: int) -> Row:
    task = Fool(net.classifier.shape, arange(10), runs, net.pool.mean)
    (_, meter), seconds = timed(lambda: search(net.classifier, attack, task, CERTAIN))
    reached = generations(meter.first)
    whole = name == "evolution"
    each = [_when(run, 10 if whole else 5) for run in reached]  # the median of ten is there when the fifth is
    done = [g for g in each if g is not None]
    missing = sum(g is None for run in reached for g in run)
    ours = float(statistics.median(done)) if len(done) == runs else None
    limit = 50 if whole else 200
    medians = [median([run[digit] for run in reached]) for digit in range(10)]
    natural = float(probabilities(net.classifier, net.pool.images[:1000]).amax(1).median())
    return row(
        f"{name} on {net.name}: generation at which {'all digits' if whole else 'half of the digits'} have 99.99%",
        ours,
        low=float(min(done)) if ours is not None else None,
        high=float(max(done)) if ours is not None else None,
        published=float(limit),
        source=DIRECT if whole else INDIRECT,
        ok=ours is not None and (ours < limit if whole else ours <= limit),
        difference=DIFFERENCE
        + (f"; {missing} of {10 * runs} not reached in {attack.generations}" if missing else "")
        + (f"; its median confidence on test images is {natural:.2f}" if natural < 0.99 else ""),
        n=runs,
        natural_confidence=natural,
        detail="digit by digit: " + ", ".join("–" if g is None else f"{g:g}" for g in medians),
        digits=[[run[digit] for run in reached] for digit in range(10)],
        seconds=seconds,
    )


def generations(first: Tensor) -> list[list[int | None]]:
    """`(runs, classes)` queries to success, -1 for never -> the generation of each, the random first one being 1."""
    return [[None if spent < 0 else -(-spent // CHILDREN) for spent in run] for run in first.tolist()]


def median(generations: list[int | None]) -> float | None:
    """The middle one, where never (None) is later than any; None where that is, or is next to, the middle."""
    found = statistics.median(math.inf if g is None else g for g in generations)
    return None if found == math.inf else float(found)


def _when(run: list[int | None], many: int) -> int | None:
    """The generation at which so many digits are there."""
    done = sorted(g for g in run if g is not None)
    return done[many - 1] if len(done) >= many else None
