"""What a submission says of each defense: its kind and its parameters. Reading them runs nothing."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ..errors import Several, Unexpected
from ..reading.values import File, NamesFile, Spec
from .detectors import Density, Energy, FeatureSqueezing, Mahalanobis, MaxSoftmax, Rejects
from .models import OnnxFile
from .packages import registered

_OF_DETECTORS = frozenset(Rejects.model_fields)


def _not_empty(models: tuple[OnnxFile, ...]) -> tuple[OnnxFile, ...]:
    # Not as a length in the field: a model that is wrong in itself would count as none at all.
    if not models:
        fix = "models: [{path: other.onnx, output: logits}]"
        raise Unexpected("at least 1 further model", "an empty list", fix)
    return models


class BitDepth(Spec):
    """Rounds pixels to `bits` bits a channel (feature squeezing, Xu 2018)."""

    kind: Literal["bit_depth"]
    bits: Annotated[int, Field(ge=1, le=8, examples=[3])]


class Jpeg(Spec):
    """Compresses the image as JPEG and opens it again."""

    kind: Literal["jpeg"]
    quality: Annotated[int, Field(ge=1, le=100, examples=[75])]


class Median(Spec):
    """A median filter over size × size pixels."""

    kind: Literal["median"]
    size: Annotated[int, Field(ge=2, le=15, examples=[3])]


class GaussianBlur(Spec):
    """A Gaussian blur of `sigma` pixels."""

    kind: Literal["gaussian_blur"]
    sigma: Annotated[float, Field(gt=0.125, le=16, examples=[1.0])]


class TotalVariation(Spec):
    """Total-variation denoising (Rudin, Osher, Fatemi 1992; Guo 2018)."""

    kind: Literal["total_variation"]
    weight: Annotated[float, Field(gt=0, le=10, examples=[0.1])]
    """Of the variation; in units of the pixel range."""
    iterations: Annotated[int, Field(ge=1, le=500)] = 50


class RandomResizePad(Spec):
    """Resizes the image by a random number of pixels and pads it at a random place (Xie 2018)."""

    kind: Literal["random_resize_pad"]
    grow: Annotated[int, Field(ge=1, le=4096, examples=[4])]
    """At most so many pixels; no more than the image's longer side."""


class GaussianNoise(Spec):
    """Adds Gaussian noise to every pixel, new at every look."""

    kind: Literal["gaussian_noise"]
    sigma: Annotated[float, Field(gt=0, le=1, examples=[0.1])]
    """Standard deviation in units of the pixel range."""


class RandomizedSmoothing(Spec):
    """Votes over noisy copies of the image and abstains where the vote is close (Cohen 2019)."""

    kind: Literal["randomized_smoothing"]
    sigma: Annotated[float, Field(gt=0, le=2, examples=[0.25])]
    """Standard deviation of the noise in units of the pixel range."""
    samples: Annotated[int, Field(ge=1, le=100_000, examples=[100])]
    """Noisy copies: queries of the model for each image."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.001
    """The largest p-value at which it answers."""
    gradient_samples: Annotated[int, Field(ge=1, le=256)] = 8
    """Noisy copies that a gradient is taken through."""

    @model_validator(mode="after")
    def _may_decide(self) -> RandomizedSmoothing:
        # The least p-value is that of all copies agreeing, 2 / 2^samples; frexp, for an exact power of two.
        fewest = 2 - math.frexp(self.alpha)[1]
        if self.samples < fewest:
            got = f"{self.samples}, so few that it would abstain even where all agree"
            expected = f"at least {fewest} samples at alpha {self.alpha:g}"
            raise Unexpected(expected, got, f"samples: {fewest}", at=("samples",))
        return self


class Pca(Spec):
    """Projects the image on the training images' first principal components."""

    kind: Literal["pca"]
    components: Annotated[int, Field(ge=1, le=1_000_000, examples=[20])]
    images: Annotated[int, Field(ge=2, le=100_000)] = 10_000
    """How many training images it is fitted to, at most."""


class Ensemble(Spec):
    """Averages the probabilities of the model and of further ONNX models."""

    kind: Literal["ensemble"]
    models: Annotated[
        tuple[OnnxFile, ...], AfterValidator(_not_empty), Field(max_length=32, json_schema_extra={"minItems": 1})
    ]
    """Beside the model itself."""


class PackageDefense(Spec):
    """A defense that an installed Python package registers."""

    kind: Literal["package"]
    name: Annotated[str, Field(min_length=1, examples=["my_defense"]), AfterValidator(registered)]
    """The name in the entry-point group `foolbench.defenses`."""
    args: dict[str, bool | int | float | str | tuple[bool | int | float | str, ...]] = Field(default_factory=dict)
    """Arguments of the package's factory."""


class OnnxDefense(NamesFile, Rejects):
    """A defense of one's own as an ONNX graph: it changes the image, or tells genuine from adversarial."""

    kind: Literal["onnx"]
    role: Literal["preprocess", "detector"]
    """What the graph gives: `preprocess`, an image of the same shape, for the model to see; `detector`, how suspicious
    the image is, one number, or the probabilities that it is genuine and that it is not."""
    path: Annotated[File, Field(examples=["defense.onnx"])]
    """The .onnx file, inside the YAML's folder."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: Literal[1, 255] = 1
    """The largest pixel value, of what the graph takes and of what it returns."""
    channels: Literal["same", "bgr"] = "same"
    """`bgr`: the graph takes and returns the battery's RGB reversed."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """The graph's input; its only one when absent."""
    output_name: Annotated[str, Field(min_length=1)] | None = None
    """Which of the graph's outputs; needed where it has several."""

    @model_validator(mode="after")
    def _for_its_role(self) -> OnnxDefense:
        fix = "remove it, or role: detector"
        Several.check(
            Unexpected(f"`{name}` with `role: detector` only", "it with preprocess", fix, at=(name,))
            for name in sorted(self.model_fields_set & _OF_DETECTORS)
            if self.role == "preprocess"
        )
        return self


Defense = Annotated[
    BitDepth
    | Jpeg
    | Median
    | GaussianBlur
    | TotalVariation
    | RandomResizePad
    | GaussianNoise
    | RandomizedSmoothing
    | Pca
    | FeatureSqueezing
    | MaxSoftmax
    | Energy
    | Density
    | Mahalanobis
    | Ensemble
    | PackageDefense
    | OnnxDefense,
    Field(discriminator="kind"),
]
