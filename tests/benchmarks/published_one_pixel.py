"""One pixel, image by image, against the results that a repository publishes with two of its networks."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from foolbench.attacks.base import Perturb
from foolbench.attacks.one_pixel import OnePixel
from published_networks import Network, network
from published_rows import Row, Setting, labels, probabilities, search, share, timed
from torch import Tensor

REPOSITORY = "Hyperparticle/one-pixel-attack-keras, networks/results"
README = "Hyperparticle/one-pixel-attack-keras, README: 100 images"
NETWORKS = {"lecun_net": "cifar10_onepixel_lenet", "resnet": "cifar10_onepixel_resnet32"}
RATES = {"lecun_net": (0.63, 0.92, 0.93), "resnet": (0.34, 0.79, 0.79)}
PIXELS = (1, 3, 5)
ITERATIONS = 75
SEARCHES = {
    "repository's DE": OnePixel(iterations=ITERATIONS, f=(0.5, 1.0), strategy="best1", first="latin", outside="redraw"),
    "paper's DE": OnePixel(iterations=ITERATIONS),
}
CLOSE = 2e-3
"""Probabilities of a replayed image this near to each other are the same network's: the file gives coordinates and
colours to four digits, which moves some colours by a gray level."""


@dataclass(frozen=True)
class Attempt:
    """One published attack."""

    image: int
    """Index in CIFAR-10's test set."""
    truth: int
    target: int | None
    label: int
    """What the network said afterwards."""
    confidence: float
    """How sure it was of that."""
    before: float
    """Probability of the true class on the clean image."""
    genes: tuple[float, ...]
    """x, y, r, g, b a pixel. There x counts rows."""

    @property
    def hit(self) -> bool:
        """Whether it reached what it aimed at. The file's own `success` says less of a targeted attack: that the label
        is wrong."""
        return self.label != self.truth if self.target is None else self.label == self.target


def attempts(folder: Path, model: str, pixels: int, targeted: bool) -> list[Attempt]:
    """Those on the first 1000 test images, in the file's order. Targets are not in it: each image was aimed at all nine
    other classes in rising order, and nine rows in a row hold one image."""
    name = "targeted" if targeted else "untargeted"
    with (folder / "published" / f"one_pixel_{name}.csv").open(newline="") as file:
        lines = [row for row in csv.DictReader(file) if row["model"] == model and int(row["pixels"]) == pixels]
    found = []
    for at, line in enumerate(lines):
        truth = int(line["true_class"])
        found.append(
            Attempt(
                image=int(line["cifar10_test_index"]),
                truth=truth,
                target=[k for k in range(10) if k != truth][at % 9] if targeted else None,
                label=int(line["predicted_class"]),
                confidence=float(line["predicted_class_prob_after"]),
                before=float(line["true_class_prob_before"]),
                genes=tuple(map(float, line["perturbation(x,y,r,g,b)*"].split())),
            )
        )
    return [attempt for attempt in found if attempt.image < 1000]


def replayed(images: Tensor, tried: list[Attempt]) -> Tensor:
    """The images that the attempts ended with, `(n, 3, h, w)`."""
    made = images[[attempt.image for attempt in tried]].clone()
    for image, attempt in zip(made, tried, strict=True):
        for x, y, *colours in torch.tensor(attempt.genes).view(-1, 5).tolist():
            image[:, min(int(x), 31), min(int(y), 31)] = torch.tensor([min(int(c), 255) for c in colours]) / 255
    return made


def rows(setting: Setting, folder: Path) -> Iterator[Row]:
    """Replays; then both kinds of attack by both searches; then the same on other images of the test set."""
    for model, stem in NETWORKS.items():
        net = network(stem)
        yield from _replays(model, net, folder)
        slow = setting.quick and model == "resnet"
        for targeted in (False, True):
            for pixels in PIXELS:
                if not slow or (pixels == 1 and not targeted):
                    yield from _image_by_image(model, net, attempts(folder, model, pixels, targeted), pixels, setting)
        if not slow:
            yield from _others(model, net, setting)


def _replays(model: str, net: Network, folder: Path) -> Iterator[Row]:
    """Whether ours is the network that the results were made with."""
    tried = [a for pixels in PIXELS for targeted in (False, True) for a in attempts(folder, model, pixels, targeted)]
    images = net.pool.images
    clean = probabilities(net.classifier, images[[a.image for a in tried]])
    after = probabilities(net.classifier, replayed(images, tried))
    rows = torch.arange(len(tried))
    before = clean[rows, torch.tensor([a.truth for a in tried])]
    near = (before - torch.tensor([a.before for a in tried])).abs() < 1e-4
    yield share(
        f"{model}: published clean probabilities that come out the same", int(near.sum()), len(tried), published=1.0,
        source=REPOSITORY, ok=bool(near.all()), difference="converted from Keras to ONNX; equal to 1e-4",
    )  # fmt: skip
    same = after.argmax(1) == torch.tensor([a.label for a in tried])
    same &= (after.amax(1) - torch.tensor([a.confidence for a in tried])).abs() < CLOSE
    yield share(
        f"{model}: published perturbed images that come out the same", int(same.sum()), len(tried), published=1.0,
        source=REPOSITORY, ok=None, difference=f"genes known to 4 digits only; label equal, probability to {CLOSE}",
    )  # fmt: skip


def _image_by_image(model: str, net: Network, tried: list[Attempt], pixels: int, setting: Setting) -> Iterator[Row]:
    # The repository's file holds nine rows an image where it aims.
    tried = tried[: setting.many(len(tried), 2 if model == "resnet" else len(tried))]
    images, truth = net.pool.images, torch.tensor([a.truth for a in tried])
    targeted = tried[0].target is not None
    task = Perturb(
        images[[a.image for a in tried]],
        truth,
        net.pool.donors,
        net.pool.mean,
        torch.tensor([a.target for a in tried]) if targeted else None,
    )
    theirs = torch.tensor([a.hit for a in tried])
    repeats = 3 if model == "lecun_net" and not setting.quick else 1
    for name, attack in _searches(setting.quick and (targeted or model == "resnet")):
        runs, seconds = timed(lambda a=attack: [attacked(net, a, task, pixels, seed) for seed in range(repeats)])
        k, published = sum(int(run.sum()) for run in runs), float(theirs.float().mean())
        difference = "same images, network and budget" + (
            f"; {repeats} runs of ours, one of theirs" if repeats > 1 else ""
        )
        if name == "paper's DE":
            difference += "; rand/1, F = 0.5, nearest bound instead of best/1, F 0.5-1, redraw"
        if targeted:
            difference += "; published hits counted anew: label = target (targets by the file's order)"
        yield share(
            f"{model}, {pixels} px, {'targeted' if targeted else 'untargeted'}, {name}", k, len(tried) * repeats,
            published=published, source=REPOSITORY, ok=k >= repeats * int(theirs.sum()),
            difference=f"{difference}; image by image: {_compared(runs[0], theirs)}",
            hits=[int(run.sum()) for run in runs], only_ours=int((runs[0] & ~theirs).sum()),
            only_published=int((theirs & ~runs[0]).sum()), agree=int((runs[0] == theirs).sum()), seconds=seconds,
        )  # fmt: skip


def _compared(ours: Tensor, theirs: Tensor) -> str:
    """In words."""
    same, more, less = int((ours == theirs).sum()), int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return f"{same} alike, {more} ours alone, {less} theirs alone"


def _others(model: str, net: Network, setting: Setting) -> Iterator[Row]:
    """The first test images that the network gets right, beside the rate that was published of 100 others."""
    pool = net.pool
    right = (labels(net.classifier, pool.images) == pool.labels).nonzero().squeeze(1)
    right = right[: setting.many(100 if model == "lecun_net" else 30, 10)]
    task = Perturb(pool.images[right], pool.labels[right], pool.donors, pool.mean)
    for pixels, published in zip(PIXELS, RATES[model], strict=True):
        for name, attack in _searches(setting.quick):
            ours, seconds = timed(lambda a=attack, p=pixels: attacked(net, a, task, p))
            yield share(
                f"{model}, {pixels} px, untargeted, {name}, first images", int(ours.sum()), len(right),
                published=published, source=README, ok=int(ours.sum()) >= published * len(right),
                difference="other images of the same test set", seconds=seconds,
            )  # fmt: skip


def attacked(net: Network, attack: OnePixel, task: Perturb, pixels: int, seed: int = 0, block: int = 20) -> Tensor:
    """`(t,)` bool: which images fall, as their 8-bit finals say. Attacked in blocks, to bound the memory."""
    settings = replace(attack, pixels=pixels, population=_population(pixels), targeted=task.targets is not None)
    fell = []
    for start in range(0, len(task.images), block):
        rows = slice(start, start + block)
        part = replace(
            task, images=task.images[rows], labels=task.labels[rows],
            targets=None if task.targets is None else task.targets[rows],
        )  # fmt: skip
        finals, _ = search(net.classifier, settings, part, seed=seed)
        label = labels(net.classifier, finals)
        fell.append((label >= 0) & (label != part.labels) if part.targets is None else label == part.targets)
    return torch.cat(fell)


def _searches(one: bool) -> list[tuple[str, OnePixel]]:
    """Both, or the repository's alone."""
    return list(SEARCHES.items())[: 1 if one else None]


def _population(pixels: int) -> int:
    """Theirs: 400, rounded down to a multiple of the number of genes."""
    return 400 // (5 * pixels) * (5 * pixels)
