"""FGSM on MNIST beside Goodfellow's table, and its images bit for bit beside those of three other libraries."""
# The peers are in a dependency group of their own: uv run --group peers …
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from foolbench.attacks.base import Perturb
from foolbench.attacks.fgsm import Fgsm
from published_networks import Network, network, network_names, panel_network
from published_rows import Row, Setting, ascend, probabilities, row, share, timed
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 0.25
TABLE = "Goodfellow 2015, section 4 (ε = .25, whole test set)"
PUBLISHED = {"mnist-logistic": ("softmax regression", 0.999, 0.793), "mnist-mlp": ("maxout, 2 × 240", 0.894, 0.976)}
PANEL = ("mnist-logistic", "mnist-mlp", "mnist-lenet-a", "mnist-lenet-b", "mnist-resnet")
TINY = 1e-4
"""Pixels whose gradient is this small beside the image's largest count as zero: there rounding decides the sign."""
DOUBT = 1e-3
"""Images whose label lacks less than this of probability 1 count as having no gradient: there the peers' cross-entropy
takes it from a float32 difference that has lost its digits (our objective keeps them), and below 1e-7 it is 0."""
Made = Callable[[nn.Module, Tensor, Tensor], Tensor]


def rows(setting: Setting, folder: Path) -> Iterator[Row]:
    """Errors at ε = .25; then equality."""
    for name in PANEL:
        yield from _errors(panel_network(name), setting)
    for name in network_names("mnist") if not setting.quick else []:
        yield from _errors(network(name), setting)
    for net in (panel_network("mnist-lenet-a"), network("cifar10_onepixel_lenet")):
        for library, distribution, made in PEERS:
            yield _equality(net, library, distribution, made, setting)


def _errors(net: Network, setting: Setting) -> Iterator[Row]:
    n = setting.many(10_000, 1000)
    images, truth = net.pool.images[:n], net.pool.labels[:n]
    task = Perturb(images, truth, net.pool.donors, net.pool.mean)
    theirs, error, confidence = PUBLISHED.get(net.name, ("maxout, 2 × 240", 0.894, 0.976))
    if net.classifier.logits is None:
        return
    finals, seconds = timed(lambda: ascend(net.classifier, Fgsm(EPSILON), task))
    answers = probabilities(net.classifier, finals)
    kept = _scores(answers, truth)
    with torch.no_grad():  # the paper's own way: neither clipped nor rounded
        step = EPSILON * _gradient(net.module, images, truth).sign()
        free = _scores(torch.cat([net.module(part).softmax(1) for part in (images + step).split(250)]), truth)
    comparable = net.name in PUBLISHED
    found = share(
        f"FGSM ε = .25, {net.name}: error", kept[0], n, published=error, source=f"{TABLE}: {theirs}", ok=None,
        difference="clipped to [0, 1], 8-bit; other weights" + ("" if comparable else ", another kind of network"),
        confidence_on_errors=kept[1], published_confidence_on_errors=confidence,
        clean_error=float((probabilities(net.classifier, images).argmax(1) != truth).float().mean()), seconds=seconds,
    )  # fmt: skip
    yield found | {"ok": found["ours"] >= error if comparable else None}
    found = share(
        f"FGSM ε = .25, {net.name}: error, not clipped", free[0], n, published=error, source=f"{TABLE}: {theirs}",
        ok=None, difference="other weights" + ("" if comparable else ", another kind of network"),
        confidence_on_errors=free[1], published_confidence_on_errors=confidence,
    )  # fmt: skip
    yield found | {"ok": found["ours"] >= error if comparable else None}
    if comparable:
        yield row(
            f"FGSM ε = .25, {net.name}: mean confidence on errors, not clipped", free[1], published=confidence,
            source=f"{TABLE}: {theirs}", ok=None, difference="other weights; no figure to reach", n=free[0],
        )  # fmt: skip


def _scores(answers: Tensor, truth: Tensor) -> tuple[int, float | None]:
    """How many are wrong, and the mean confidence on those."""
    confidence, label = answers.max(1)
    wrong = label != truth
    return int(wrong.sum()), float(confidence[wrong].mean()) if bool(wrong.any()) else None


def _gradient(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of the labels' cross-entropy, in batches."""
    found = []
    with torch.enable_grad():
        for part, truth in zip(images.split(250), labels.split(250), strict=True):
            leaf = part.clone().requires_grad_(True)
            found += torch.autograd.grad(F.cross_entropy(module(leaf), truth, reduction="sum"), leaf)
    return torch.cat(found)


def _equality(net: Network, library: str, distribution: str, made: Made, setting: Setting) -> Row:
    name = f"FGSM, {net.name}: pixels bit-equal to {library}'s"
    n, epsilon = setting.many(200, 50), 0.1
    images, truth = net.pool.images[:n], net.pool.labels[:n]
    try:
        source = f"{library} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        missing = "not measured: not installed, run with --group peers"
        return row(name, None, published=1.0, source=library, ok=None, difference=missing)
    module = net.module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = made(module, images, truth)
    ours = ascend(net.classifier, Fgsm(epsilon), Perturb(images, truth, net.pool.donors, net.pool.mean), batch=n)
    size = _gradient(module, images, truth).abs()
    with torch.no_grad():
        doubt = 1 - module(images).double().softmax(1).gather(1, truth[:, None])
    sure = (doubt < DOUBT).view(-1, 1, 1, 1)
    clear = (size > TINY * size.amax((1, 2, 3), keepdim=True)) & ~sure
    same = (ours == theirs) & clear
    return row(
        name, float(same.sum() / clear.sum()), published=1.0, source=source, ok=bool((same == clear).all()),
        difference=f"ε = {epsilon}; pixels whose gradient is above {TINY} of the image's largest, "
        f"{int((~sure).sum())} of {n} images (the others are certain to {DOUBT})", n=int(clear.sum()),
        differ=int((clear & ~same).sum()), equal_everywhere=float((ours == theirs).float().mean()),
    )  # fmt: skip


def _foolbox(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    _, clipped, _ = foolbox.attacks.FGSM()(wrapped, images, labels, epsilons=[0.1])
    return clipped[0]


def _torchattacks(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import torchattacks

    return torchattacks.FGSM(module, eps=0.1)(images, labels)


def _art(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        module, loss=nn.CrossEntropyLoss(), input_shape=tuple(images.shape[1:]), nb_classes=10, clip_values=(0.0, 1.0),
        device_type="cpu",
    )  # fmt: skip
    onehot = np.eye(10, dtype=np.float32)[labels.numpy()]
    attack = FastGradientMethod(classifier, eps=0.1, batch_size=len(images))
    return torch.from_numpy(attack.generate(images.numpy(), onehot))


PEERS: tuple[tuple[str, str, Made], ...] = (
    ("foolbox", "foolbox", _foolbox),
    ("torchattacks", "torchattacks", _torchattacks),
    ("ART", "adversarial-robustness-toolbox", _art),
)
