"""One defense of a submission, put in front of a Classifier."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from ..defenses import bit_depth, jpeg, median, onnx_preprocess
from ..models.base import Classifier
from ..models.image_graph import load_image_graph
from .battery import Battery
from .data import Data
from .defense_specs import BitDepth, Defense, Jpeg, Median, OnnxDefense


def defended(inner: Classifier, defense: Defense, folder: Path, battery: Battery, data: Data) -> Classifier:
    """Put one defense in front of a Classifier.

    `folder` is where the submission's relative paths start. Raises ModelFileError, ValueError and RuntimeError where
    the defense does not fit the model or the battery.
    """
    match defense:
        case BitDepth():
            return bit_depth(inner, bits=defense.bits)
        case Jpeg():
            return jpeg(inner, quality=defense.quality)
        case Median():
            return median(inner, size=defense.size)
        case OnnxDefense():
            graph = load_image_graph(
                folder / defense.path,
                shape=battery.spec.shape,
                layout=defense.layout,
                scale=defense.scale,
                channels=defense.channels,
                input_name=defense.name,
                output_name=defense.output_name,
                sha256=defense.sha256,
                device=inner.device,
                images=data.pixels(inner.device),
            )
            return onnx_preprocess(inner, graph.run, graph.differentiable, name=defense.path)
        case _:
            assert_never(defense)
