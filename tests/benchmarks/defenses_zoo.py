"""The defenses that defenses.py measures: one of each kind, with its parameters on each data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

DataSet = Literal["digits", "mnist", "cifar10"]
Value = bool | int | float | str


@dataclass(frozen=True)
class Each:
    """A parameter that differs between the data sets."""

    digits: Value
    mnist: Value
    cifar10: Value


@dataclass(frozen=True)
class Defense:
    """One defense, stated as a submission states it."""

    name: str
    """What the row is called."""
    kind: str
    why: str
    """Where the parameters come from."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Keys of a submission's `defenses` entry; an `Each` where the data sets differ."""

    def stated(self, dataset: DataSet) -> dict[str, Any]:
        """The entry of a submission's `defenses`, without the files that it names."""
        own = {k: getattr(v, dataset) if isinstance(v, Each) else v for k, v in self.parameters.items()}
        return {"kind": self.kind} | own


def _of(kind: str, why: str, name: str = "", /, **parameters: Any) -> Defense:
    return Defense(name or kind, kind, why, parameters)


DEFENSES = (
    _of("bit_depth", "Xu 2018 on MNIST and CIFAR-10; the shipped submission on digits", bits=Each(3, 1, 5)),
    _of("jpeg", "Dziugaite 2016", quality=75),
    _of("median", "Xu 2018", size=2),
    _of("gaussian_blur", "ours: mild, since 0.7 costs the MNIST network half of its accuracy", sigma=0.5),
    _of("total_variation", "the default weight of scikit-image's denoise_tv_chambolle", weight=0.1),
    _of("random_resize_pad", "Xie 2018: a tenth of the side (299 to 331 there)", grow=Each(1, 3, 3)),
    _of("gaussian_noise", "ours: a tenth of the pixel range, on photographs half of it", sigma=Each(0.1, 0.1, 0.05)),
    _of(
        "randomized_smoothing",
        "Cohen 2019's two smallest sigmas; 12 samples of the 100 there, as each query costs that many, and a tenfold "
        "alpha, so that 11 of 12 must agree; 2 copies a gradient, of which 16 are averaged",
        sigma=Each(0.12, 0.25, 0.12),
        samples=12,
        alpha=0.01,
        gradient_samples=2,
    ),
    _of("pca", "ours: about 95% of the training images' variance, on CIFAR-10 98%", components=Each(28, 154, 400)),
    _of("feature_squeezing", "Xu 2018's squeezers, without non-local means", bits=Each(3, 1, 5), size=2),
    _of("max_softmax", "the defaults"),
    _of("energy", "the defaults"),
    _of("density", "one Gaussian a class; the rest as in docs/defenses.md", covariance="own", shrinkage=0.1),
    _of("mahalanobis", "the defaults"),
    _of("ensemble", "with two other networks for the same data, which are listed in defenses_models.py"),
    _of(
        "package",
        "the example of docs/defenses.md: pixel values raised to a power",
        name="gamma",
        args={"exponent": 1.5},
    ),
    _of("onnx", "half-way to the mean of 3 × 3 pixels, as a graph", "onnx_preprocess", role="preprocess"),
    _of("onnx", "the distance from the mean of 3 × 3 pixels, as a graph", "onnx_detector", role="detector"),
)
NAMES = tuple(defense.name for defense in DEFENSES)
