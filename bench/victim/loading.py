"""From what a submission says of a model to the loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_never

from ...models.loaded import Loaded
from ...models.onnx.load import load_onnx
from ...models.preprocess import Preprocess
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
            from ...models.modules.timm import load_timm  # on use: importing timm and torchvision takes seconds

            return load_timm(
                model.name,
                weights=None if model.weights is None else folder / model.weights,
                pretrained=model.pretrained,
                sha256=model.sha256,
                num_classes=model.num_classes or ground.battery.classes + (model.reject_index is not None),
                in_chans=model.in_chans or ground.spec.shape[0],
                args=dict(model.args),
                preprocess=None if model.input is None else preprocess_of(model.input),
                output=model.output,
                reject_index=model.reject_index,
                **common(ground),
            )
        case _:
            assert_never(model)


def load_onnx_file(model: OnnxFile, folder: Path, ground: Ground) -> Loaded:
    """Load one classifying graph, of the model itself or of a defense. Raises like `load_model`."""
    return load_onnx(
        folder / model.path,
        preprocess=preprocess_of(model.input),
        output=model.output,
        output_name=model.output_name,
        input_name=model.input.name,
        reject_index=model.reject_index,
        sha256=model.sha256,
        **common(ground),
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


def common(ground: Ground) -> dict[str, Any]:
    """What every loader of classifiers is given of the battery, and how it is to answer."""
    return {
        "shape": ground.spec.shape,
        "classes": ground.battery.classes,
        "device": ground.device,
        "images": ground.data.pixels(ground.device),
        "rng": generator(ground.spec.name, "certificate", device=ground.device),
        "backend": ground.backend,
        "batch": ground.spec.batch,
        "room": ground.memory,
    }


def graph_keywords(defense: OnnxDefense, ground: Ground) -> dict[str, Any]:
    """What the loaders of defenses that are graphs of images are given, the file's path apart."""
    return {
        "shape": ground.spec.shape,
        "layout": defense.layout,
        "scale": defense.scale,
        "channels": defense.channels,
        "input_name": defense.name,
        "output_name": defense.output_name,
        "sha256": defense.sha256,
        "device": ground.device,
        "images": ground.data.pixels(ground.device),
        "room": ground.memory,
    }
