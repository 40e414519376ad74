"""From what a submission says of a detector to the Classifier that rejects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from ...defenses.detectors.density import density
from ...defenses.detectors.energy import energy
from ...defenses.detectors.feature_squeezing import feature_squeezing
from ...defenses.detectors.mahalanobis import mahalanobis
from ...defenses.detectors.max_softmax import max_softmax
from ...defenses.detectors.onnx_detector import onnx_detector
from ...defenses.detectors.threshold import CleanImages, Threshold
from ...models.base import Classifier
from ...models.onnx.score_graph import load_score_graph
from ..battery.battery import Battery
from ..battery.ground import Ground
from ..data.spread import evenly
from ..errors import EnvironmentFault, Unexpected
from ..machine.seeds import generator
from ..submission.defenses import OnnxDefense
from ..submission.detectors import Density, Energy, FeatureSqueezing, Mahalanobis, MaxSoftmax, Rejects
from .fitting import TrainingImages
from .loading import load_graph

_NEEDS_NONE = "or give `spread` beside `threshold`, and none are needed"

HELD_OUT = 3
"""Of each class one training image of so many chooses the threshold of what is fitted to the others. On the images that
it was fitted to, a density of many parameters is far higher than on new ones, and a threshold from there rejects too
many of those."""


def detecting(
    inner: Classifier,
    defense: FeatureSqueezing | MaxSoftmax | Energy | Density | Mahalanobis,
    battery: Battery,
    training: TrainingImages,
) -> Classifier:
    """Let one detector reject, fitted to what `training` gives. Raises ValueError, and what `training` raises."""
    match defense:
        case FeatureSqueezing():
            at = _by_clean_images(inner, defense, defense.kind, battery, training)
            return feature_squeezing(inner, at, bits=defense.bits, size=defense.size)
        case MaxSoftmax():
            at = _by_clean_images(inner, defense, defense.kind, battery, training)
            return max_softmax(inner, at, temperature=defense.temperature)
        case Energy():
            at = _by_clean_images(inner, defense, defense.kind, battery, training)
            return energy(inner, at, temperature=defense.temperature)
        case Density():
            return density(
                inner,
                *_fitting(inner, defense, battery, training),
                features=defense.features,
                dimensions=defense.dimensions,
                covariance=defense.covariance,
                shrinkage=defense.shrinkage,
                components=defense.components,
            )
        case Mahalanobis():
            return mahalanobis(
                inner,
                *_fitting(inner, defense, battery, training),
                features=defense.features,
                dimensions=defense.dimensions,
                shrinkage=defense.shrinkage,
            )
        case _:
            assert_never(defense)


def detecting_by_graph(
    inner: Classifier, defense: OnnxDefense, folder: Path, ground: Ground, training: TrainingImages
) -> Classifier:
    """Let a graph of the researcher's own reject. Raises ModelFileError, ValueError and RuntimeError."""
    graph = load_graph(load_score_graph, defense, folder, ground)
    at = _by_clean_images(inner, defense, "onnx", ground.battery, training)
    return onnx_detector(inner, graph.run, at, graph.differentiable, name=defense.path)


def _fitting(
    inner: Classifier, defense: Density | Mahalanobis, battery: Battery, training: TrainingImages
) -> tuple[Threshold | CleanImages, Tensor, Tensor, torch.Generator]:
    """The threshold or the images held out to choose it by; images and labels to fit on; chance for the fit."""
    images, labels = training(defense.images)
    fit, held = _parted(labels)
    at = _at(inner, defense, defense.kind, battery, images[held])
    rng = generator(battery.spec.name, "defense", defense.kind, "fit", device=inner.device)
    return at, images[fit], labels[fit], rng


def _by_clean_images(
    inner: Classifier, defense: Rejects, kind: str, battery: Battery, training: TrainingImages
) -> Threshold | CleanImages:
    if defense.threshold is not None and defense.spread is not None:
        return Threshold(defense.threshold, defense.spread)
    try:
        images, _ = training(defense.images)
    except Unexpected as error:
        if defense.threshold is None:
            raise
        raise Unexpected(error.expected, error.got, f"{error.fix}; {_NEEDS_NONE}") from error
    except EnvironmentFault as error:
        if defense.threshold is None:
            raise
        told = (replace(problem, fix=f"{problem.fix}; {_NEEDS_NONE}") for problem in error.problems)
        raise EnvironmentFault(*told) from error
    return _at(inner, defense, kind, battery, images)


def _at(inner: Classifier, defense: Rejects, kind: str, battery: Battery, images: Tensor) -> Threshold | CleanImages:
    if defense.threshold is not None and defense.spread is not None:
        return Threshold(defense.threshold, defense.spread)
    rng = generator(battery.spec.name, "defense", kind, device=inner.device)
    return CleanImages(images.to(inner.device), rng, defense.reject, defense.threshold)


def _parted(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positions to fit to and positions to choose the threshold by, each class in both in proportion."""
    held = evenly(labels.numpy(), len(labels) // HELD_OUT)
    fit = np.setdiff1d(np.arange(len(labels)), held)
    return torch.from_numpy(fit), torch.from_numpy(held)
