"""What a submission says of a model: where it comes from, and what it expects of an image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..errors import Several, Unexpected
from ..reading.values import File, NamesFile, Pixels, Positive, Spec
from ..reading.wording import Refused

_TIMM_REFUSED = frozenset(
    {"model_name", "checkpoint_path", "cache_dir", "num_classes", "in_chans", "scriptable", "exportable", "no_jit"}
    | {"model_cfg", "feature_cfg", "features_only", "kwargs_filter", "load_fn"}
)
"""Arguments of timm.create_model that load files of their own (pickles among them) or that have a key of their own; so
is everything that begins with `pretrained`."""


class Input(Spec):
    """What the network expects of an image with pixels in [0, 1]."""

    size: Annotated[tuple[Pixels, Pixels] | None, Field(examples=[[28, 28]])] = None
    """Height and width; the battery's own when absent."""
    resize: Pixels | None = None
    """Resize the short side to this first, then cut `size` from the centre. When absent: resize to `size` at once."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    """How to resize, where `size` or `resize` asks for it."""
    scale: Literal[1, 255] = 1
    """What the largest pixel value is to become; `mean` and `std` are in these units."""
    mean: Annotated[tuple[float, ...], Field(min_length=1, examples=[[0.5]])] = (0.0,)
    """Subtracted: one number, or one a channel in the network's own channel order."""
    std: Annotated[tuple[Positive, ...], Field(min_length=1, examples=[[0.5]])] = (1.0,)
    """Divided by, after `mean`: one number, or one a channel in the network's own channel order."""
    channels: Literal["same", "bgr"] = "same"
    """`bgr`: reverse the battery's RGB."""
    layout: Literal["nchw", "nhwc", "flat"] = "nchw"
    """`flat`: the graph takes all values of an image in one row, in NCHW order."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """The graph's input; its only one when absent."""

    @model_validator(mode="after")
    def _same_length(self) -> Input:
        mean, std = len(self.mean), len(self.std)
        if 1 not in (mean, std) and mean != std:
            expected = f"as many numbers as mean has ({mean}), or one"
            raise Unexpected(expected, std, "give mean and std one number a channel", at=("std",))
        return self


class OnnxFile(NamesFile):
    """An ONNX graph that classifies, and how to read it."""

    path: Annotated[File, Field(examples=["model.onnx"])]
    """The .onnx file, inside the YAML's folder."""
    input: Input = Input()
    output: Literal["logits", "probabilities"]
    """What the graph returns."""
    output_name: Annotated[str, Field(min_length=1)] | None = None
    """Which of the graph's outputs; needed where it has several."""
    reject_index: Annotated[int, Field(ge=0)] | None = None
    """The output that means "none of the classes"."""


class OnnxModel(OnnxFile):
    """A classifier as an ONNX graph."""

    kind: Literal["onnx"]


class TimmModel(NamesFile):
    """A classifier from timm, with weights of one's own (safetensors) or timm's."""

    kind: Literal["timm"]
    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?$",
            description="timm's name of the architecture, such as resnet18, with its tag when pretrained, such as "
            "resnet18.a1_in1k",
            examples=["resnet18"],
        ),
    ]
    weights: Annotated[File, Field(examples=["model.safetensors"])] | None = None
    """A .safetensors file, inside the YAML's folder."""
    pretrained: bool = False
    """Fetch timm's own weights of the tag in `name`; needs the network."""
    num_classes: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Outputs of the network; the battery's classes (and one more with `reject_index`) when absent."""
    in_chans: Annotated[int, Field(ge=1, le=16)] | None = None
    """Input channels of the network; the battery's when absent."""
    args: dict[str, bool | int | float | str | tuple[int, ...]] = Field(default_factory=dict)
    """Further arguments of timm.create_model, such as `pad_type: same`."""
    input: Input | None = None
    """What timm states for these weights when absent."""
    output: Literal["logits", "probabilities"] = "logits"
    """What the network returns."""
    reject_index: Annotated[int, Field(ge=0)] | None = None
    """The output that means "none of the classes"."""

    def named(self) -> str | None:
        """The file, relative to the YAML's folder."""
        return self.weights

    @model_validator(mode="after")
    def _one_source(self) -> TimmModel:
        if (self.weights is not None) == self.pretrained:
            got = "both" if self.pretrained else "neither"
            fix = "remove one of the two" if self.pretrained else "weights: model.safetensors"
            raise Unexpected("either `weights` or `pretrained: true`", got, fix)
        if self.weights is not None and not self.weights.endswith(".safetensors"):
            got = f"{self.weights[:60]!r}: pickles are never loaded"
            fix = "save the weights with safetensors.torch.save_file"
            raise Refused("FB203", "a .safetensors file", got, fix, at=("weights",))
        if self.pretrained and "." not in self.name:
            fix = f"name: {self.name}.TAG, as timm.list_pretrained() has it"
            raise Unexpected("a name with its weights' tag", repr(self.name), fix, at=("name",))
        if self.pretrained and self.sha256 is not None:
            raise Unexpected("`sha256` beside `weights` only", "it beside `pretrained`", "remove it", at=("sha256",))
        expected, fix = "arguments of the architecture", "remove it, or use the model's own key"
        Several.check(
            Unexpected(expected, f"`{name}`, which is not passed on", fix, at=("args", name))
            for name in self.args
            if name in _TIMM_REFUSED or name.startswith("pretrained")
        )
        return self


Model = Annotated[OnnxModel | TimmModel, Field(discriminator="kind")]
"""The model of a submission."""
