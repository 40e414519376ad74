"""From what a submission says of a model to the loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, assert_never

from ...models.conditions import Conditions
from ...models.loaded import Loaded
from ...models.onnx.image_function import ImageFunction
from ...models.onnx.load import load_onnx
from ...models.onnx.ports import Names
from ...models.preprocess import Preprocess
from ...models.slopes import whole_steps
from ..battery.ground import Ground
from ..machine.seeds import generator
from ..submission.defenses import OnnxDefense
from ..submission.models import Input, OnnxFile, OnnxModel, TimmModel


def load_model(model: OnnxModel | TimmModel, folder: Path, ground: Ground) -> Loaded:
    """Load a submission's model, certified on the battery's data. `folder` is where its relative paths start.

    Raises ModelFileError, ValueError and RuntimeError, and for lack of memory what models/memory.py names.
    """
    match model:
        case OnnxModel():
            return load_onnx_file(model, folder, ground)
        case TimmModel():
            from ...models.modules.timm import Architecture, load_timm  # on use: timm and torchvision take seconds

            classes = model.num_classes or ground.battery.classes + (model.reject_index is not None)
            network = Architecture(model.name, classes, model.in_chans or ground.spec.shape[0], dict(model.args))
            return load_timm(
                network,
                conditions_of(ground),
                weights=None if model.weights is None else folder / model.weights,
                pretrained=model.pretrained,
                sha256=model.sha256,
                preprocess=None if model.input is None else preprocess_of(model.input),
                output=model.output,
                reject_index=model.reject_index,
            )
        case _:
            assert_never(model)


def load_onnx_file(model: OnnxFile, folder: Path, ground: Ground) -> Loaded:
    """Load one classifying graph, of the model itself or of a defense. Raises like `load_model`."""
    return load_onnx(
        folder / model.path,
        conditions_of(ground),
        preprocess=preprocess_of(model.input),
        output=model.output,
        reject_index=model.reject_index,
        names=Names(model.input.name, model.output_name),
        sha256=model.sha256,
    )


def preprocess_of(given: Input) -> Preprocess:
    """What a submission says of its input, in the models' own terms."""
    return Preprocess(
        size=given.size,
        mean=given.mean,
        std=given.std,
        scale=given.scale,
        channels=given.channels,
        layout=given.layout,
        resize=given.resize,
        interpolation=given.interpolation,
    )


def conditions_of(ground: Ground) -> Conditions:
    """What a network is loaded for on this ground. Each has a stream of its own, which begins anew."""
    return Conditions(
        shape=ground.spec.shape,
        classes=ground.battery.classes,
        device=ground.device,
        images=ground.data.pixels(ground.device),
        rng=generator(ground.spec.name, "certificate", device=ground.device),
        steps=whole_steps(ground.levels.top),
        backend=ground.backend,
        batch=ground.spec.batch,
        room=ground.memory,
    )


class GraphLoader(Protocol):
    """`load_image_graph` or `load_score_graph`."""

    def __call__(
        self, path: Path, conditions: Conditions, *, preprocess: Preprocess, names: Names, sha256: str | None
    ) -> ImageFunction:
        """See there."""
        ...


def load_graph(load: GraphLoader, defense: OnnxDefense, folder: Path, ground: Ground) -> ImageFunction:
    """Load a defense that is a graph of images. Raises what `load` does."""
    return load(
        folder / defense.path,
        conditions_of(ground),
        preprocess=Preprocess(scale=defense.scale, channels=defense.channels, layout=defense.layout),
        names=Names(defense.name, defense.output_name),
        sha256=defense.sha256,
    )
