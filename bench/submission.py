"""submission.yaml -> `Submission`: a model, its defenses, who, which battery.

A submission is data: reading one runs nothing of it, and imports neither torch nor onnx.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from .checks import File, NamesFile, Pixels, Positive, Spec, Text, Web, file_sha256, yaml_folder
from .defense_specs import Defense
from .wording import nearest, refuse
from .yaml_source import Source, read_source

_TIMM_REFUSED = frozenset(
    {"model_name", "checkpoint_path", "cache_dir", "num_classes", "in_chans", "scriptable", "exportable", "no_jit"}
    | {"model_cfg", "feature_cfg", "features_only", "kwargs_filter", "load_fn"}
)
"""Arguments of timm.create_model that load files of their own (pickles among them) or that have a key of their own; so
is everything that begins with `pretrained`."""


def shipped_batteries() -> list[str]:
    """Names of the batteries that come with foolbench."""
    found = (Path(entry.name) for entry in resources("foolbench.bench.batteries").iterdir())
    return sorted(path.stem for path in found if path.suffix == ".yaml")


def _battery(name: str, info: ValidationInfo) -> str:
    folder = yaml_folder(info)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if folder is not None and not (folder / name).is_file():
            raise refuse("FB108", f"Expected a battery's YAML file, and {name[:60]} is not there.", "correct the path")
    elif name not in (shipped := shipped_batteries()):
        fix = f"battery: {nearest(name, shipped) or shipped[0]}"
        raise refuse("FB110", f"Expected {', '.join(shipped)} or the path of a YAML file, got {name[:60]!r}.", fix)
    return name


def _version(schema: int) -> int:
    if schema != 1:
        fix = "schema: 1, or update foolbench" if schema > 1 else "schema: 1"
        raise refuse("FB111", f"Expected schema 1, got schema {schema}.", fix)
    return schema


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
            message = f"Expected as many numbers as mean has ({mean}), or one, got {std}."
            raise refuse("FB104", message, "give mean and std one number a channel", at=("std",))
        return self


class OnnxModel(NamesFile):
    """A classifier as an ONNX graph."""

    kind: Literal["onnx"]
    path: Annotated[File, Field(examples=["model.onnx"])]
    """The .onnx file, inside the YAML's folder."""
    input: Input = Input()
    output: Literal["logits", "probabilities"]
    """What the graph returns."""
    output_name: Annotated[str, Field(min_length=1)] | None = None
    """Which of the graph's outputs; needed where it has several."""
    reject_index: Annotated[int, Field(ge=0)] | None = None
    """The output that means "none of the classes"."""


class TimmModel(NamesFile):
    """A classifier from timm, with weights of one's own (safetensors) or timm's."""

    kind: Literal["timm"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?$", examples=["resnet18"])]
    """timm's name of the architecture, with `.tag` when pretrained."""
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
            raise refuse("FB104", f"Expected either `weights` or `pretrained: true`, got {got}.", fix)
        if self.weights is not None and not self.weights.endswith(".safetensors"):
            message = f"Expected a .safetensors file, got {self.weights[:60]!r}: pickles are never loaded."
            raise refuse("FB203", message, "save the weights with safetensors.torch.save_file", at=("weights",))
        if self.pretrained and "." not in self.name:
            message = f"Expected a name with its weights' tag, got {self.name!r}."
            raise refuse("FB104", message, f"name: {self.name}.TAG, as timm.list_pretrained() has it", at=("name",))
        if self.pretrained and self.sha256 is not None:
            raise refuse("FB104", "Expected `sha256` beside `weights`, not `pretrained`.", "remove it", at=("sha256",))
        for name in (name for name in self.args if name in _TIMM_REFUSED or name.startswith("pretrained")):
            message = f"Expected arguments of the architecture, got `{name}`, which is not passed on."
            raise refuse("FB104", message, "remove it, or use the model's own key", at=("args", name))
        return self


Model = Annotated[OnnxModel | TimmModel, Field(discriminator="kind")]


class Links(Spec):
    """Where to read on."""

    paper: Annotated[Web, Field(examples=["https://arxiv.org/abs/…"])] | None = None
    code: Annotated[Web, Field(examples=["https://github.com/…"])] | None = None


class Submission(Spec):
    """A model, the defenses in front of it, who made them, and the battery that measures them."""

    schema_version: Annotated[
        int, AfterValidator(_version), Field(alias="schema", examples=[1], json_schema_extra={"const": 1})
    ]
    """The version of this format."""
    name: Annotated[Text, Field(examples=["LeNet-5 behind 3-bit squeezing"])]
    """What the leaderboard calls it."""
    authors: Annotated[tuple[Text, ...], Field(min_length=1, max_length=100, examples=[["A. Author"]])]
    battery: Annotated[str, AfterValidator(_battery), Field(examples=["digits-v1"])]
    """A battery that comes with foolbench, or the path of a YAML file of one's own."""
    model: Annotated[Model, Field(examples=[{"kind": "onnx", "path": "model.onnx", "output": "logits"}])]
    defenses: tuple[Defense, ...] = ()
    """Applied in this order."""
    links: Links = Links()


@dataclass(frozen=True)
class GivenSubmission:
    """A submission with the folder and the file it came from."""

    spec: Submission
    folder: Path
    """Where its relative paths start."""
    path: Path
    source: Source
    """For problems that only show later: `given.source.problem(code, ("model", "path"), message, fix)`."""
    as_given: dict[str, Any]
    """The YAML's values as they were written, defaults left out."""

    def files(self) -> dict[str, Path]:
        """Every file that it names, by the name in the YAML. A battery of one's own is not among them."""
        named = (part.named() for part in (self.spec.model, *self.spec.defenses) if isinstance(part, NamesFile))
        return {name: self.folder / name for name in named if name is not None}

    def digest(self) -> str:
        """sha256 of what it means: the parsed values with all defaults, and the content of every file it names.

        Comments, formatting and the order of keys leave it alone. Raises OSError where a file has gone meanwhile.
        """
        meaning = self.spec.model_dump(mode="json", by_alias=True)
        contents = {name: file_sha256(path) for name, path in self.files().items()}
        text = json.dumps({"submission": meaning, "files": contents}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_submission(path: Path) -> GivenSubmission:
    """Read and check a submission.yaml and the presence (and sha256, where given) of its files.

    Raises InvalidInput with all Problems.
    """
    path = Path(path)
    spec, source = read_source(path, Submission, context={"folder": path.parent})
    return GivenSubmission(spec, path.parent, path, source, source.value)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a submission, for editors."""
    schema = Submission.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "foolbench submission"}
