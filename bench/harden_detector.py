"""`detector`: a second network that tells adversarial images from genuine ones (Metzen et al., ICLR 2017)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..defenses.threshold import Clean, Threshold
from ..models.panel.train import Loss
from .drive import eight_bit
from .errors import ModelFailure, Problem
from .harden_epochs import Course
from .harden_measure import of_network
from .harden_shop import Product, Shop
from .harden_start import Fresh
from .harden_steps import Row, Step, Tensors

FILE = "detector.onnx"


@dataclass(frozen=True)
class DetectorRecipe:
    """Train a network of one output on images and, of each, the adversarial one made against the classifier.

    As the paper's static detector, with a network of its own where the paper branches off the classifier's layers; the
    classifier stays as it is. Adversarial images are rounded to 8 bits as the genuine ones are, or their finer
    grays alone would give them away; and images are not moved, since interpolation would too.
    """

    shop: Shop

    def steps(self) -> list[Step]:
        """See bench/harden.py."""
        _, steps = self.shop.classifier()
        return [*steps, *self._course().steps()]

    def product(self, tensors: Tensors) -> Product:
        """See bench/harden.py."""
        shop = self.shop
        detector = self._course().network(tensors)
        at = self._threshold(detector)
        content = self._fresh().to_onnx(detector)
        defense = {"kind": "onnx", "role": "detector", "path": FILE, "sha256": hashlib.sha256(content).hexdigest()}
        title = f"detector of {shop.how.attack.upper()} at {shop.how.distance(shop.battery):.3g}"
        network = shop.classifier()[0].network(tensors)
        paper = "https://arxiv.org/abs/1702.04267"
        return Product(
            network, None, title, paper, {FILE: content}, ({**defense, "threshold": at.value, "spread": at.spread},)
        )

    def _threshold(self, detector: nn.Module) -> Threshold:
        """By held-out images, since those that it was trained on score lower than new ones."""
        shop = self.shop
        with torch.no_grad():
            scores = detector(shop.images.held).squeeze(1)
        try:
            return Clean(shop.images.held, shop.rng_there("threshold"), shop.how.reject).threshold(scores)
        except ValueError as error:
            message, _, fix = str(error).rpartition(": ")
            raise ModelFailure(Problem("FB301", f"the detector: {message}.", fix)) from error

    def _fresh(self) -> Fresh:
        return Fresh(self.shop.how.network, self.shop.battery.spec.shape, 1, self.shop.device)

    def _course(self) -> Course:
        shop = self.shop
        training = shop.how.training(len(shop.images.train), shop.battery.spec.shape, moved=False)
        return Course(
            "the detector",
            "detector",
            self._fresh().build,
            # A batch holds each image twice, and the cycle is as high as for fresh classifiers of half its batch.
            replace(training, rate=training.rate / 2),
            lambda tensors: (shop.images.train, shop.images.labels),
            self._losses,
            self._check,
            ("harden", shop.battery.spec.name, shop.how.seed, "detector"),
        )

    def _losses(self, rng: torch.Generator, k: int, tensors: Tensors) -> Loss:
        shop = self.shop
        model = shop.classifier()[0].network(tensors)
        adversary = shop.how.adversary(shop.battery)

        def told_apart(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            genuine = eight_bit(images)
            made = eight_bit(adversary.images(model, genuine, labels, shop.classes, rng))
            scores = network(torch.cat([genuine, made])).squeeze(1)
            truth = torch.cat([torch.zeros(len(genuine)), torch.ones(len(made))]).to(scores.device)
            return functional.binary_cross_entropy_with_logits(scores, truth)

        return told_apart

    def _check(self, network: nn.Module, tensors: Tensors) -> Row:
        """The share of held-out adversarial images that score above all but `reject` of the genuine ones."""
        shop = self.shop
        measured = of_network(shop.classifier()[0].network(tensors), shop.classes)
        held, labels = shop.images.held, shop.images.held_labels
        made = measured.adversarial(shop.how.adversary(shop.battery), held, labels, shop.rng("check"))
        with torch.no_grad():
            genuine, adversarial = (network(images).squeeze(1) for images in (held, made))
        threshold = genuine.quantile(1 - shop.how.reject)
        return {"detected": float((adversarial > threshold).double().mean())}
