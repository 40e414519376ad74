"""`detector`: a second network that tells adversarial images from genuine ones (Metzen et al., ICLR 2017)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...defenses.detectors.threshold import CleanImages, Threshold
from ...models.training.train import Loss
from ..errors import ModelFailure, Problem, Unexpected, Where
from .epochs import Course
from .measure import HELD_OUT, of_network
from .setup import Product, TrainingSetup
from .start import Fresh
from .steps import Row, Step, Tensors

FILE = "detector.onnx"


@dataclass(frozen=True)
class DetectorRecipe:
    """Train a network of one output on images and, of each, the adversarial one made against the classifier. The
    classifier's training images that it is not trained on choose its threshold.

    As the paper's static detector, with a network of its own where the paper branches off the classifier's layers; the
    classifier stays as it is. Adversarial images are rounded to the levels as the genuine ones are, or their finer
    grays alone would give them away; and images are not moved, since interpolation would too.
    """

    setup: TrainingSetup

    def steps(self) -> list[Step]:
        """See bench/harden/harden.py."""
        _, steps = self.setup.classifier()
        return [*steps, *self._course().steps()]

    def product(self, tensors: Tensors) -> Product:
        """See bench/harden/harden.py."""
        setup = self.setup
        detector = self._course().network(tensors)
        at = self.threshold(detector)
        content = self._fresh().to_onnx(detector)
        defense = {"kind": "onnx", "role": "detector", "path": FILE, "sha256": hashlib.sha256(content).hexdigest()}
        title = f"detector of {setup.how.attack.upper()} at {setup.how.distance(setup.battery):.3g}"
        network = setup.classifier()[0].network(tensors)
        paper = "https://arxiv.org/abs/1702.04267"
        return Product(
            network, None, title, paper, {FILE: content}, ({**defense, "threshold": at.value, "spread": at.spread},)
        )

    def threshold(self, detector: nn.Module) -> Threshold:
        """By images that it was not trained on, since those score lower than new ones.

        Raises ModelFailure where all score the same, or not a finite number.
        """
        setup = self.setup
        with torch.no_grad():
            scores = detector(self._choosing).squeeze(1)
        try:
            return CleanImages(self._choosing, setup.rng_there("threshold"), setup.how.reject).threshold(scores)
        except Unexpected as error:
            raise ModelFailure(Problem.of("FB301", error, Where(key="the detector"))) from error

    @property
    def _choosing(self) -> Tensor:
        return self.setup.images.train[self.setup.images.choosing]

    def _fresh(self) -> Fresh:
        return Fresh(self.setup.how.network, self.setup.battery.spec.shape, 1, self.setup.device)

    def _course(self) -> Course:
        setup = self.setup
        own = ~setup.images.choosing
        training = setup.how.training(int(own.sum()), setup.battery.spec.shape, moved=False)
        return Course(
            "the detector",
            "detector",
            self._fresh().build,
            # A batch holds each image twice, and the cycle is as high as for fresh classifiers of half its batch.
            replace(training, rate=training.rate / 2),
            lambda tensors: (setup.images.train[own], setup.images.labels[own]),
            self._losses,
            self._check,
            ("harden", setup.battery.spec.name, setup.how.seed, "detector"),
        )

    def _losses(self, rng: torch.Generator, k: int, tensors: Tensors) -> Loss:
        setup = self.setup
        model = setup.classifier()[0].network(tensors)
        adversary = setup.how.adversary(setup.battery)

        def told_apart(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            genuine = setup.levels.rounded(images)
            made = setup.levels.rounded(adversary.images(model, genuine, labels, setup.classes, rng))
            scores = network(torch.cat([genuine, made])).squeeze(1)
            truth = torch.cat([torch.zeros(len(genuine)), torch.ones(len(made))]).to(scores.device)
            return functional.binary_cross_entropy_with_logits(scores, truth)

        return told_apart

    def _check(self, network: nn.Module, tensors: Tensors) -> Row:
        """The share of adversarial images of held-out ones that score above all but `reject` of those to choose by."""
        setup = self.setup
        measured = of_network(setup.classifier()[0].network(tensors), setup.classes, setup.levels)
        held, labels = setup.images.held, setup.images.held_labels
        made = measured.adversarial(setup.how.adversary(setup.battery), held, labels, setup.rng("check"))
        with torch.no_grad():
            genuine, adversarial = (network(images).squeeze(1) for images in (self._choosing, made))
        threshold = genuine.quantile(1 - setup.how.reject)
        return {"on": HELD_OUT, "detected": float((adversarial > threshold).double().mean())}
