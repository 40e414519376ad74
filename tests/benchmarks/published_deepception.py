"""Deepception-style (reconstructed): four properties of every small network, and fooling by number of copies.

Only the abstract of Ouarti & Carmona 2018 is known here. It says that a patch's response varies by two to three orders
of magnitude with its position, and that 88% of images fooled a 19-layer VGG. What is measured is a reconstruction on
other networks and data, so its figures stand beside theirs and are held against nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from foolbench.attacks.base import Perturb
from foolbench.attacks.deepception import Deepception
from foolbench.attacks.patches.bank import PATCH_KINDS
from foolbench.attacks.responses.psychophysics import Psychophysics
from foolbench.bench.battery.ground import Asking
from foolbench.bench.honesty.properties import ask
from published_networks import Network, network, network_names
from published_rows import BATCH, Row, Setting, labels, row, search, seeded, share, timed

ABSTRACT = "Ouarti & Carmona 2018, abstract"
RECONSTRUCTED = "reconstruction; other networks and data"
SIZES = {"mnist": (7, 3), "cifar10": (8, 4)}
"""Side and stride, as in the batteries."""
COPIES = (1, 2, 4, 8)
PROPERTIES = {
    "local_range": ("local: log10 of largest ÷ smallest response over windows", None),
    "spatial_range": ("spatial: log10 of largest ÷ smallest response over positions", 2.0),
    "activators": ("activation: share of measured positions above chance's 95%", None),
    "inhibitors": ("inhibition: share of measured positions below minus that", None),
    "gain": ("cumulative: response with 4 copies ÷ with one", None),
}
QUICK = (
    *("mnist_vnncomp21_verivital_Convnet_maxpool", "mnist_vnncomp21_mnist-net_256x2"),
    *("cifar10_onepixel_lenet", "cifar10_vnncomp21_marabou_cifar10_medium"),
)


def rows(setting: Setting, folder: Path) -> Iterator[Row]:
    """Properties first, then the ratios."""
    names = QUICK if setting.quick else network_names("mnist") + network_names("cifar10")
    for name in names:
        yield from _properties(network(name), setting.many(50, 10))
    for name in names:
        yield from _ratios(network(name), setting.many(100, 20))


def _task(net: Network, n: int) -> Perturb:
    """The first n images that the network gets right."""
    pool = net.pool
    right = (labels(net.classifier, pool.images[: 4 * n]) == pool.labels[: 4 * n]).nonzero().squeeze(1)[:n]
    return Perturb(pool.images[right], pool.labels[right], pool.donors, pool.mean)


def _properties(net: Network, n: int) -> Iterator[Row]:
    side, stride = SIZES[net.dataset]
    task = _task(net, n)
    measuring = Psychophysics(side=side, stride=stride, copies=4).measure(task, seeded(0))
    found, seconds = timed(lambda: ask(measuring, net.classifier, seeded(1), Asking(BATCH)))
    summary = found.summary()
    for key, (title, published) in PROPERTIES.items():
        spread = summary[key]
        yield row(
            f"{net.name}: {title}", spread["median"], low=spread["q25"], high=spread["q75"], published=published,
            source=ABSTRACT, ok=None, difference=f"{RECONSTRUCTED}; median and quartiles of images", n=spread["n"],
            seconds=seconds,
        )  # fmt: skip
    falls = summary["falls"]
    yield share(
        f"{net.name}: cumulative: images whose response falls", int(falls["k"] or 0), int(falls["n"] or 0),
        published=None, source=ABSTRACT, ok=None, difference=RECONSTRUCTED,
    )  # fmt: skip


def _ratios(net: Network, n: int) -> Iterator[Row]:
    side, stride = SIZES[net.dataset]
    task = _task(net, n)
    for copies in COPIES:
        attacks = {kind: Deepception(side=side, stride=stride, copies=copies, patch=kind) for kind in PATCH_KINDS}
        found, seconds = timed(lambda a=attacks: {kind: _fooled(net, task, attack) for kind, attack in a.items()})
        controls = ", ".join(f"{kind} {k / len(task.images):.2f}" for kind, k in found.items() if kind != "donor")
        area = copies * side**2 / (net.classifier.shape[1] * net.classifier.shape[2])
        yield share(
            f"{net.name}: fooling ratio, {copies} cop{'y' if copies == 1 else 'ies'}", found["donor"], len(task.images),
            published=0.88, source=f"{ABSTRACT}: VGG-VDD-19", ok=None, controls={**found}, seconds=seconds,
            difference=f"{RECONSTRUCTED}; at most {area:.0%} of the area; controls: {controls}",
        )  # fmt: skip


def _fooled(net: Network, task: Perturb, attack: Deepception) -> int:
    finals, _ = search(net.classifier, attack, task)
    label = labels(net.classifier, finals)
    return int(((label >= 0) & (label != task.labels)).sum())
