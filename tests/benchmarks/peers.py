"""The same attacks in other libraries, at a query budget that is stated, with success counted the same way.

Each function takes a victim and images on the victim's device, runs one library's own attack there as far as the
library can (SciPy, pyribs and neat-python make their images on the host) and returns what it cost.
"""
# The peers are in a dependency group of their own: uv run --group peers …
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from floor import now
from torch import Tensor, nn
from victims import Victim

MODULES = ("art", "foolbox", "neat", "ribs", "torchattacks")
"""What the libraries are imported as; SciPy is always there."""


def absent() -> tuple[str, ...]:
    """Those that are not installed."""
    return tuple(name for name in MODULES if find_spec(name) is None)


@dataclass(frozen=True)
class Cost:
    """What an attack cost and how often it succeeded."""

    seconds: float
    queries: int
    success: float


class Counting(nn.Module):
    """Counts the images that pass through."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module, self.images = module, 0

    def forward(self, images: Tensor) -> Tensor:
        """Pass them on."""
        self.images += len(images)
        return self.module(images)


def _measured(victim: Victim, images: Tensor, labels: Tensor, run: Callable[[Counting], Tensor]) -> Cost:
    model = Counting(victim.module).eval()
    started = now(victim.device)
    finals = run(model)
    seconds = now(victim.device) - started
    rounded = finals.to(victim.device, torch.float32).clamp(0, 1).mul(255).round().div(255)
    label = victim.classifier.probabilities(rounded, torch.Generator(victim.device)).argmax(1)
    return Cost(seconds, model.images, float((label != labels).float().mean()))


def torchattacks_one_pixel(victim: Victim, images: Tensor, labels: Tensor, population: int, iterations: int) -> Cost:
    """torchattacks.OnePixel."""
    import torchattacks

    def run(model: Counting) -> Tensor:
        return torchattacks.OnePixel(model, pixels=1, steps=iterations, popsize=population, inf_batch=400)(
            images, labels
        )

    return _measured(victim, images, labels, run)


def art_one_pixel(victim: Victim, images: Tensor, labels: Tensor, population: int, iterations: int) -> Cost:
    """art.attacks.evasion.PixelAttack with differential evolution; its population is fixed at about 400."""
    from art.attacks.evasion import PixelAttack

    def run(model: Counting) -> Tensor:
        attack = PixelAttack(_art(model, victim, images), th=1, es=1, max_iter=iterations, verbose=False)
        onehot = np.eye(victim.classifier.classes, dtype=np.float32)[labels.cpu().numpy()]
        return torch.from_numpy(attack.generate(images.cpu().numpy(), onehot))

    return _measured(victim, images, labels, run)


def scipy_one_pixel(victim: Victim, images: Tensor, labels: Tensor, population: int, iterations: int) -> Cost:
    """scipy.optimize.differential_evolution, vectorised over the population, with the paper's strategy."""
    from scipy.optimize import differential_evolution

    c, h, w = images.shape[1:]
    bounds = [(0, h - 1e-6), (0, w - 1e-6), *[(0.0, 1.0)] * c]

    def run(model: Counting) -> Tensor:
        def render(image: Tensor, genes: np.ndarray) -> Tensor:
            out = image.repeat(genes.shape[1], 1, 1, 1)
            rows = torch.arange(genes.shape[1], device=image.device)
            y, x = (torch.from_numpy(gene).to(image.device, torch.int64) for gene in genes[:2])
            out[rows, :, y, x] = torch.from_numpy(genes[2:].T).to(image.device, torch.float32)
            return out

        def one(image: Tensor, label: int) -> Tensor:
            fooled: list[Tensor] = []

            def fitness(genes: np.ndarray) -> np.ndarray:
                tried = render(image, genes.reshape(len(bounds), -1))
                with torch.inference_mode():
                    probabilities = model(tried).softmax(1)
                hits = (probabilities.argmax(1) != label).nonzero()
                if len(hits) and not fooled:
                    fooled.append(tried[hits[0]])
                return probabilities[:, label].double().cpu().numpy()

            result = differential_evolution(
                fitness, bounds, strategy="rand1bin", mutation=0.5, recombination=1.0, maxiter=iterations, tol=0,
                atol=-1,
                popsize=max(1, population // len(bounds)), init="random", polish=False, vectorized=True, rng=1,
                updating="deferred", callback=lambda intermediate_result: bool(fooled),
            )  # fmt: skip
            return fooled[0] if fooled else render(image, np.asarray(result.x).reshape(-1, 1))

        return torch.cat([one(images[i : i + 1], int(labels[i])) for i in range(len(images))])

    return _measured(victim, images, labels, run)


def torchattacks_fgsm(victim: Victim, images: Tensor, labels: Tensor, epsilons: list[float]) -> Cost:
    """torchattacks.FGSM, once an ε: it knows no grid. Success at the largest ε."""
    import torchattacks

    def run(model: Counting) -> Tensor:
        return [torchattacks.FGSM(model, eps=epsilon)(images, labels) for epsilon in epsilons][-1]

    return _measured(victim, images, labels, run)


def art_fgsm(victim: Victim, images: Tensor, labels: Tensor, epsilons: list[float]) -> Cost:
    """art.attacks.evasion.FastGradientMethod, once an ε. Success at the largest ε."""
    from art.attacks.evasion import FastGradientMethod

    def run(model: Counting) -> Tensor:
        classifier = _art(model, victim, images)
        onehot = np.eye(victim.classifier.classes, dtype=np.float32)[labels.cpu().numpy()]
        shown = images.cpu().numpy()
        made = [FastGradientMethod(classifier, eps=e, batch_size=256).generate(shown, onehot) for e in epsilons]
        return torch.from_numpy(made[-1])

    return _measured(victim, images, labels, run)


def foolbox_fgsm(victim: Victim, images: Tensor, labels: Tensor, epsilons: list[float]) -> Cost:
    """foolbox.attacks.FGSM over its own grid of ε. Success at the largest ε."""
    import foolbox

    def run(model: Counting) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=victim.device)
        _, clipped, _ = foolbox.attacks.FGSM()(wrapped, images, labels, epsilons=epsilons)
        return clipped[-1]

    return _measured(victim, images, labels, run)


def _art(model: Counting, victim: Victim, images: Tensor):
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model, loss=nn.CrossEntropyLoss(), input_shape=tuple(images.shape[1:]), nb_classes=victim.classifier.classes,
        clip_values=(0.0, 1.0), device_type="gpu" if victim.device.type == "cuda" else "cpu",
    )  # fmt: skip
