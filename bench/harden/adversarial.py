"""`adversarial`: training on adversarial images (Goodfellow et al., ICLR 2015, section 6; Madry et al., ICLR 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...models.training.train import Loss
from .epochs import Course
from .setup import Product, TrainingSetup
from .steps import Step, Tensors

PAPERS = {"fgsm": "https://arxiv.org/abs/1412.6572", "pgd": "https://arxiv.org/abs/1706.06083"}


@dataclass(frozen=True)
class AdversarialRecipe:
    """Train on a mixture of the loss on clean images and that on adversarial ones made against the network as it is.

    As the papers, with FGSM half and half, with PGD adversarial images alone. Departures: adversarial images are
    clipped to [0, 1] (Goodfellow's are not); epsilon grows over the first epochs, without which small networks often
    stay at chance; and images are moved a little, as in every training here. They are made with the network in
    evaluation mode, so that a batch norm lets no image's gradient depend on another image.
    """

    setup: TrainingSetup

    def steps(self) -> list[Step]:
        """See bench/harden/harden.py."""
        return self._course().steps()

    def product(self, tensors: Tensors) -> Product:
        """See bench/harden/harden.py."""
        how = self.setup.how
        steps = f", {how.steps} steps" if how.attack == "pgd" else ""
        title = f"adversarial training, {how.attack.upper()} at {how.distance(self.setup.battery):.3g}{steps}"
        if how.weight == 1:
            title = "ordinary training"
        return Product(self._course().network(tensors), None, title, PAPERS[how.attack], {})

    def _course(self) -> Course:
        return self.setup.course("adversarial training", losses=self._losses)

    def _losses(self, rng: torch.Generator, k: int, tensors: Tensors) -> Loss | None:
        how, weight = self.setup.how, self.setup.how.weight
        if weight == 1:
            return None
        growing = max(1, math.ceil(how.ramp * self.setup.training().epochs))
        adversary = how.adversary(self.setup.battery, min(1.0, (k + 1) / growing))

        def mixed(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            network.eval()
            made = adversary.images(network, images, labels, self.setup.classes, rng)
            network.train()
            loss = functional.cross_entropy(network(made), labels)
            if weight == 0:
                return loss
            return weight * functional.cross_entropy(network(images), labels) + (1 - weight) * loss

        return mixed
