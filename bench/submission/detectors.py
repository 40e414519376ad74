"""What a submission says of defenses that reject: their kinds and parameters, and from which score on they do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..errors import Unexpected
from ..reading.values import Spec


class Rejects(Spec):
    """From which score on a detector rejects."""

    reject: Annotated[float, Field(gt=0, le=0.5, examples=[0.02])] = 0.02
    """The share of clean training images to reject; this chooses the threshold."""
    threshold: float | None = None
    """The score from which on it rejects, in place of `reject`."""
    spread: Annotated[float, Field(gt=0, examples=[1.0])] | None = None
    """With `threshold`: how much the scores of clean images differ; measured on training images when absent."""
    images: Annotated[int, Field(ge=2, le=100_000)] = 2000
    """How many training images it is fitted to and its threshold is chosen by, at most."""

    @model_validator(mode="after")
    def _one_way(self) -> Rejects:
        if self.threshold is not None and "reject" in self.model_fields_set:
            raise Unexpected("either `threshold` or `reject`", "both", "remove one of the two", at=("threshold",))
        if self.threshold is None and self.spread is not None:
            fix = "remove it, or give a threshold"
            raise Unexpected("`spread` beside `threshold`", "it alone", fix, at=("spread",))
        return self


class FeatureSqueezing(Rejects):
    """Rejects images whose answer changes when they are squeezed (Xu 2018)."""

    kind: Literal["feature_squeezing"]
    bits: Annotated[int, Field(ge=1, le=8, examples=[3])] | None = None
    """Bit depth of one squeezer."""
    size: Annotated[int, Field(ge=2, le=15, examples=[2])] | None = None
    """Median window of the other squeezer."""

    @model_validator(mode="after")
    def _some(self) -> FeatureSqueezing:
        if self.bits is None and self.size is None:
            raise Unexpected("`bits` or `size` or both", "neither", "bits: 3, size: 2")
        return self


class MaxSoftmax(Rejects):
    """Rejects images whose largest softmax probability is low (Hendrycks 2017)."""

    kind: Literal["max_softmax"]
    temperature: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Divides the logits first."""


class Energy(Rejects):
    """Rejects images by the energy of their logits (Liu 2020)."""

    kind: Literal["energy"]
    temperature: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Divides the logits first."""


class OnFeatures(Rejects):
    """What is fitted to features of training images."""

    features: Literal["pixels", "logits"] = "pixels"
    """What it looks at: the image's principal components, or what the model says of it."""
    dimensions: Annotated[int, Field(ge=1, le=10_000, examples=[30])] | None = None
    """Principal components of `pixels`; 30 when absent."""
    shrinkage: Annotated[float, Field(ge=0, le=1)] = 0.01
    """How far covariances are drawn towards a multiple of the identity."""

    @model_validator(mode="after")
    def _of_pixels(self) -> OnFeatures:
        if self.features == "logits" and self.dimensions is not None:
            expected = "`dimensions` with `features: pixels` only"
            raise Unexpected(expected, "them with logits", "remove it", at=("dimensions",))
        return self


class Density(OnFeatures):
    """Rejects images that a density of training images finds improbable: p(x, y), not p(y|x)."""

    kind: Literal["density"]
    covariance: Literal["tied", "own"] = "tied"
    """One for all Gaussians, or one for each."""
    components: Annotated[int, Field(ge=1, le=1000, examples=[20])] | None = None
    """Gaussians of a mixture without classes; one Gaussian a class when absent."""


class Mahalanobis(OnFeatures):
    """Rejects images that are far from every class (Lee 2018)."""

    kind: Literal["mahalanobis"]
    features: Literal["pixels", "logits"] = "logits"
    """What it looks at: the image's principal components, or what the model says of it."""
