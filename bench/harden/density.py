"""`density`: a generative model of the training images beside the classifier (Nguyen et al., CVPR 2015, discussion)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from ...attacks.base import Fool
from ...attacks.cppn import Cppn
from ...attacks.evolution import Evolution
from ...models.base import Classifier
from ...models.conditions import Conditions
from ...models.modules.module import from_module
from ...models.preprocess import Preprocess
from ..errors import InvalidInput, ModelFailure, Problem, Unexpected, Where
from ..submission.detectors import Density
from ..victim.detecting import detecting
from ..victim.fitting import training_images
from .adversary import fgsm
from .fooling_class import evolved
from .measure import CHOOSING, of_network, of_victim
from .setup import Product, TrainingSetup, as_bytes, as_images
from .steps import Row, Step, Tensors, Tick

DIMENSIONS = (5, 10, 20, 30, 50, 100)
"""Principal components that are tried."""
_NOISE = 1000


@dataclass(frozen=True)
class DensityRecipe:
    """Choose how many principal components the `density` defense looks at.

    The defense is fitted to training images when a submission is loaded, so nothing but its parameters is written. It
    is judged by images that it is not fitted to. Of the numbers of components that were tried, at the same share of
    clean images to reject, that one is taken which rejects the most on average over four kinds of images made against
    the classifier alone: evolved, painted by CPPNs, uniform noise, FGSM. An attack on the whole of classifier and
    density is another matter, which `evaluate` measures.
    """

    setup: TrainingSetup

    def steps(self) -> list[Step]:
        """See bench/harden/harden.py."""
        _, steps = self.setup.classifier()
        made = Step("the density", "images to reject", self._made)
        tried = [
            Step("the density", f"{d} dimensions", lambda tensors, tick, d=d: self._tried(tensors, d))
            for d in self._candidates
        ]
        return [*steps, made, *tried]

    def product(self, tensors: Tensors) -> Product:
        """See bench/harden/harden.py."""
        best = self._candidates[int(tensors["rejected"].argmax())]
        defense = self._spec(best).model_dump(mode="json", include={"kind", "dimensions", "images", "reject"})
        network = self.setup.classifier()[0].network(tensors)
        return Product(network, None, f"density, {best} dimensions", "https://arxiv.org/abs/1412.1897", {}, (defense,))

    @cached_property
    def _candidates(self) -> tuple[int, ...]:
        how = self.setup.how
        room = min(math.prod(self.setup.battery.spec.shape), self.setup.images.fitted * 2 // 3 - 1)
        if how.dimensions is not None:
            if how.dimensions > room:
                where = Where(key="--dimensions")
                fix = f"--dimensions {room}"
                raise InvalidInput(Problem("FB114", f"at most {room} here", f"{how.dimensions}", fix, where))
            return (how.dimensions,)
        return tuple(d for d in DIMENSIONS if d <= room) or (room,)

    @property
    def _choosing(self) -> Tensor:
        """Images that the defense is not fitted to."""
        return self.setup.images.train[self.setup.images.choosing]

    def _spec(self, dimensions: int) -> Density:
        setup = self.setup
        return Density(kind="density", dimensions=dimensions, images=setup.images.fitted, reject=setup.how.reject)

    def _made(self, tensors: Tensors, tick: Tick) -> tuple[Tensors, Row]:
        """Fooling images against the classifier alone."""
        setup, how = self.setup, self.setup.how
        network = setup.classifier()[0].network(tensors)
        targets = torch.arange(setup.classes, device=setup.device)
        task = Fool(setup.battery.spec.shape, targets, how.runs, setup.images.mean, setup.levels)
        kept = dict(tensors)
        for place, kind in enumerate((Evolution, Cppn)):
            name = kind.__name__.lower()
            attack = kind(generations=how.generations)
            search = attack.search(task, setup.rng_there("density", name))
            kept[f"images.{name}"] = as_bytes(evolved(search, network, setup.levels))
            tick((place + 1) / 2)
        return kept, {}

    def _tried(self, tensors: Tensors, dimensions: int) -> tuple[Tensors, Row]:
        setup = self.setup
        victim = self._victim(tensors, dimensions)
        measured = of_victim(victim, setup.rng_there("density", "victim"), setup.levels)
        rejected = {name: _rejected(measured.labels(images)) for name, images in self._bad(tensors)}
        mean = sum(rejected.values()) / len(rejected)
        so_far = tensors.get("rejected", torch.zeros(0, dtype=torch.float64))
        clean = _rejected(measured.labels(self._choosing))
        row = {"on": CHOOSING, "clean_rejected": clean, "rejected": rejected, "mean_rejected": mean}
        return {**tensors, "rejected": torch.cat([so_far, torch.tensor([mean], dtype=torch.float64)])}, row

    def _bad(self, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
        setup = self.setup
        for name in ("evolution", "cppn"):
            yield name, as_images(tensors[f"images.{name}"], setup.device)
        noise = torch.rand(_NOISE, *setup.battery.spec.shape, generator=setup.rng("density", "noise"))
        yield "noise", setup.levels.rounded(noise).to(setup.device)
        bare = of_network(setup.classifier()[0].network(tensors), setup.classes, setup.levels)
        adversary = fgsm(setup.how.distance(setup.battery))
        clean = self._choosing
        yield "fgsm", bare.adversarial(adversary, clean, bare.labels(clean), setup.rng("density", "fgsm"))

    def _victim(self, tensors: Tensors, dimensions: int) -> Classifier:
        setup = self.setup
        rng = setup.rng_there("certificate")
        conditions = Conditions(setup.battery.spec.shape, setup.classes, setup.device, setup.images.held, rng)
        network = setup.classifier()[0].network(tensors)
        inner = from_module(network, conditions, preprocess=Preprocess()).classifier
        try:
            return detecting(inner, self._spec(dimensions), setup.battery, partial(training_images, setup.battery))
        except Unexpected as error:
            raise ModelFailure(Problem.of("FB301", error, Where(key="the density"))) from error


def _rejected(labels: Tensor) -> float:
    return round(float((labels < 0).double().mean()), 6)
