"""What a submission says of each defense: its kind and its parameters. Reading them runs nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .checks import File, NamesFile, Spec


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


class OnnxDefense(NamesFile):
    """A defense of one's own as an ONNX graph: images in, images of the same shape out."""

    kind: Literal["onnx"]
    role: Literal["preprocess"]
    """What the graph does: it changes the image before the model sees it."""
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


Defense = Annotated[BitDepth | Jpeg | Median | OnnxDefense, Field(discriminator="kind")]
