"""One defense of a submission, put in front of a Classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, assert_never

from ...defenses.ensemble import ensemble
from ...defenses.images.bit_depth import bit_depth
from ...defenses.images.gaussian_blur import gaussian_blur
from ...defenses.images.gaussian_noise import gaussian_noise
from ...defenses.images.jpeg import jpeg
from ...defenses.images.median import median
from ...defenses.images.onnx_preprocess import onnx_preprocess
from ...defenses.images.pca import fitted, projected
from ...defenses.images.random_resize_pad import random_resize_pad
from ...defenses.images.total_variation import total_variation
from ...defenses.packaged import packaged
from ...defenses.randomized_smoothing import randomized_smoothing
from ...models.base import Classifier
from ...models.onnx.image_graph import load_image_graph
from ..battery.ground import Ground
from ..errors import Several, Unexpected
from ..submission.defenses import (
    BitDepth,
    Defense,
    Ensemble,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    Median,
    OnnxDefense,
    PackageDefense,
    Pca,
    RandomizedSmoothing,
    RandomResizePad,
    TotalVariation,
)
from ..submission.detectors import Density, Energy, FeatureSqueezing, Mahalanobis, MaxSoftmax
from ..submission.models import OnnxFile
from ..submission.packages import named
from .detecting import detecting, detecting_by_graph
from .fitting import TrainingImages
from .loading import load_graph, load_onnx_file

T = TypeVar("T")


class Cached:
    """What one defense that changes the image loads or is fitted with, kept, since the defense is put in front of
    two Classifiers where something behind it is fitted to what it passes on."""

    def __init__(self) -> None:
        self._kept: Any = None

    def get(self, make: Callable[[], T]) -> T:
        """What `make` returned the first time."""
        if self._kept is None:
            self._kept = make()
        return self._kept


def defended(
    inner: Classifier,
    defense: Defense,
    folder: Path,
    ground: Ground,
    training: TrainingImages,
    cached: Cached,
) -> Classifier:
    """Put one defense in front of a Classifier.

    `folder` is where the submission's relative paths start; `training` gives what the defense is fitted to; `cached` is
    the defense's own; what it loads answers by the fixed rule, whatever answers for the model. Raises Unexpected,
    Failed or ModelFileError where the defense does not fit the model or the battery, Several of them of several files,
    and what `training` raises.
    """
    match defense:
        case BitDepth():
            return bit_depth(inner, bits=defense.bits)
        case Jpeg():
            return jpeg(inner, quality=defense.quality)
        case Median():
            return median(inner, size=defense.size)
        case GaussianBlur():
            return gaussian_blur(inner, sigma=defense.sigma)
        case TotalVariation():
            return total_variation(inner, weight=defense.weight, iterations=defense.iterations)
        case RandomResizePad():
            return random_resize_pad(inner, grow=defense.grow)
        case GaussianNoise():
            return gaussian_noise(inner, sigma=defense.sigma)
        case RandomizedSmoothing():
            return randomized_smoothing(
                inner,
                sigma=defense.sigma,
                samples=defense.samples,
                alpha=defense.alpha,
                gradient_samples=defense.gradient_samples,
            )
        case Pca():
            fit = cached.get(lambda: fitted(training(defense.images)[0], inner.shape, defense.components))
            return projected(inner, *fit)
        case FeatureSqueezing() | MaxSoftmax() | Energy() | Density() | Mahalanobis():
            return detecting(inner, defense, ground.battery, training)
        case Ensemble():
            return ensemble(inner, _members(defense.models, folder, ground))
        case PackageDefense():
            return packaged(inner, defense.name, named(defense.name).load(), defense.args)
        case OnnxDefense(role="detector"):
            return detecting_by_graph(inner, defense, folder, ground, training)
        case OnnxDefense():
            graph = cached.get(lambda: load_graph(load_image_graph, defense, folder, ground))
            return onnx_preprocess(inner, graph.run, graph.differentiable, name=defense.path)
        case _:
            assert_never(defense)


def _members(models: Sequence[OnnxFile], folder: Path, ground: Ground) -> list[Classifier]:
    """Load an ensemble's further models. Raises Several: all that are wrong, each with its place among them."""
    loaded: list[Classifier] = []
    wrong: list[Unexpected] = []
    for i, model in enumerate(models):
        try:
            loaded.append(load_onnx_file(model, folder, replace(ground, backend="auto")).classifier)
        except Unexpected as error:
            error.at = ("models", i, *error.at)
            wrong.append(error)
    Several.check(wrong)
    return loaded
