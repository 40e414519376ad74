"""Every kind of defense that rejects, in front of LeNet-5 on the digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from defense_victims import CPU, ask_logits
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.victim.assemble import panel_classifier
from foolbench.bench.victim.fitting import training_images
from foolbench.defenses.detectors.density import density
from foolbench.defenses.detectors.energy import energy
from foolbench.defenses.detectors.feature_squeezing import feature_squeezing
from foolbench.defenses.detectors.mahalanobis import mahalanobis
from foolbench.defenses.detectors.max_softmax import max_softmax
from foolbench.defenses.detectors.onnx_detector import onnx_detector
from foolbench.defenses.detectors.reject import SLOPE
from foolbench.defenses.detectors.threshold import CleanImages, Threshold
from foolbench.models.base import Classifier
from planted import ground, seeded
from torch import Tensor

At = Threshold | CleanImages
Detector = Callable[[Classifier, At], Classifier]


@cache
def digits() -> tuple[Classifier, Tensor, Tensor, Tensor]:
    """LeNet-5 on the digits; evaluation images, training images and their labels."""
    battery = read_battery("digits-v1")
    given = ground(battery)
    return panel_classifier(given, "lenet-a"), given.data.pixels(CPU), *training_images(battery, 900)


def noise(n: int = 100, seed: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), generator=seeded(seed)).float() / 255


def clean(reject: float = 0.05) -> CleanImages:
    return CleanImages(digits()[2], seeded(), reject)


def fitted(detector: Callable[..., Classifier], **parameters: object) -> Detector:
    """Fitted to the training images, with a generator on the model's device."""

    def build(inner: Classifier, at: At) -> Classifier:
        return detector(inner, at, *digits()[2:], torch.Generator(inner.device).manual_seed(0), **parameters)

    return build


def brightness(images: Tensor) -> Tensor:
    return images.flatten(1).mean(1)


DETECTORS: dict[str, Detector] = {
    "max_softmax": max_softmax,
    "max_softmax_hot": lambda inner, at: max_softmax(inner, at, temperature=10),
    "energy": energy,
    "squeezing_bits": lambda inner, at: feature_squeezing(inner, at, bits=1),
    "squeezing_median": lambda inner, at: feature_squeezing(inner, at, size=2),
    "squeezing": lambda inner, at: feature_squeezing(inner, at, bits=2, size=3),
    "density": fitted(density),
    "density_own": fitted(density, covariance="own", shrinkage=0.2, dimensions=12),
    "density_logits": fitted(density, features="logits"),
    "mixture": fitted(density, components=5),
    "mixture_own": fitted(density, components=5, covariance="own", dimensions=12),
    "mahalanobis": fitted(mahalanobis),
    "mahalanobis_pixels": fitted(mahalanobis, features="pixels"),
    "onnx_exact": lambda inner, at: onnx_detector(inner, brightness, at, brightness),
    "onnx": lambda inner, at: onnx_detector(inner, brightness, at),
}
SURROGATES = {"squeezing_bits": ("feature_squeezing",), "squeezing": ("feature_squeezing",), "onnx": ("onnx",)}
"""Those whose gradient is a declared stand-in."""


def score_of(detector: Detector, inner: Classifier, images: Tensor) -> Tensor:
    """The scores, read back from the logits of a rejection."""
    answer = ask_logits(detector(inner, Threshold(0.0, 1.0)), images).double()
    odds = answer[:, -1] - answer[:, :-1].amax(1)
    return torch.where(odds > 0, (odds - 0.01).expm1(), odds + 0.01) / SLOPE
