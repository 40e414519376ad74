"""Small ONNX files made on the spot, and the real data and networks where they are present."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from foolbench.models.conditions import Conditions
from foolbench.models.loaded import Loaded
from foolbench.models.onnx.load import load_onnx
from foolbench.models.onnx.ports import Names
from foolbench.models.preprocess import Preprocess
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 8, 8), 10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 40, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """Images with flat zero and flat one regions, as digits have."""
    return (torch.rand(n, *shape, generator=seeded(1)) * 2 - 0.5).clamp(0, 1)


def graph(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    image: tuple[Any, ...] = ("N", *SHAPE),
    output: tuple[Any, ...] | dict[str, tuple[int, tuple[Any, ...]]] = ("N", CLASSES),
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from "x" to "y"; or to the named outputs, each with its type and shape."""
    outputs = output if isinstance(output, dict) else {"y": (dtype, output)}
    inner = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", dtype, image)],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(inner, opset_imports=opsets, ir_version=8)


def linear_weights(classes: int = CLASSES, pixels: int = 64, gain: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weight = (gain * rng.normal(size=(pixels, classes)) / 8).astype(np.float32)
    return {"w": weight, "b": rng.normal(size=classes).astype(np.float32)}


def linear(classes: int = CLASSES, **kwargs: Any) -> onnx.ModelProto:
    """Flatten and Gemm: logits."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    return graph(nodes, linear_weights(classes), output=("N", classes), **kwargs)


def linear_scores(images: torch.Tensor, classes: int = CLASSES) -> torch.Tensor:
    """What `linear` answers."""
    weights = linear_weights(classes)
    return images.flatten(1) @ torch.from_numpy(weights["w"]) + torch.from_numpy(weights["b"])


def conv(batch: Any = "N", flat: tuple[int, int] = (-1, 64)) -> onnx.ModelProto:
    """Conv, ReLU, max-pool, Reshape to `flat`, Gemm: logits."""
    rng = np.random.default_rng(0)
    weights = linear_weights() | {
        "k": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "s": np.array(flat, np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "s"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    return graph(nodes, weights, image=(batch, *SHAPE), output=(batch, CLASSES))


def load(model: onnx.ModelProto | bytes, folder: Path, **kwargs: Any) -> Loaded:
    """Save a model and load it as a submission would be."""
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    where, rest = apart(kwargs)
    names = Names(rest.pop("input_name", None), rest.pop("output_name", None))
    usual: dict[str, Any] = {"preprocess": Preprocess(), "output": "logits"}
    return load_onnx(path, where, names=names, **(usual | rest))


def apart(given: Mapping[str, Any], **usual: Any) -> tuple[Conditions, dict[str, Any]]:
    """Of a loader's keywords, those that are Conditions, filled up with what is usual here, and the rest."""
    every = {"shape": SHAPE, "classes": CLASSES, "device": CPU, "rng": seeded(), **usual, **given}
    every.setdefault("images", pictures(shape=every["shape"]))
    known = {field.name for field in fields(Conditions)}
    where = Conditions(**{name: value for name, value in every.items() if name in known})
    return where, {name: value for name, value in given.items() if name not in known}


# the real data and networks


def data_folder() -> Path | None:
    given = os.environ.get("FOOLBENCH_TEST_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if (folder / "models.json").is_file() else None


DATA = data_folder()
needs_data = pytest.mark.skipif(DATA is None, reason="no real data: set FOOLBENCH_TEST_DATA to its folder")
TABLE: dict[str, list[dict[str, Any]]] = json.loads((DATA / "models.json").read_text()) if DATA else {}


@cache
def real_images(dataset: str) -> tuple[torch.Tensor, torch.Tensor]:
    """`(n, c, h, w)` float32 in [0, 1] and labels: all MNIST test images, CIFAR-10's first 1000, or 1000 photographs
    cut to their central 256 x 256."""
    assert DATA is not None
    if dataset == "mnist":
        x = np.frombuffer(gzip.decompress((DATA / "mnist/t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
        y = np.frombuffer(gzip.decompress((DATA / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
        images = x.reshape(-1, 1, 28, 28)
    elif dataset == "cifar10":
        arrays = np.load(DATA / "cifar10/test1000.npz")
        images, y = arrays["x"].transpose(0, 3, 1, 2), arrays["y"]
    else:
        rows = list(csv.DictReader((DATA / "imagenet1k_sample/labels.csv").read_text().splitlines()))
        images = np.stack([_central(DATA / "imagenet1k_sample/images" / f"{row['wnid']}.jpg") for row in rows])
        y = np.array([int(row["class_index"]) for row in rows])
    return torch.tensor(images).float() / 255, torch.tensor(y).long()


def _central(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        width, height = picture.size
        left, top = (width - 255) // 2, (height - 255) // 2
        return np.asarray(picture.convert("RGB").crop((left, top, left + 256, top + 256))).transpose(2, 0, 1)


def real_preprocess(row: dict[str, Any]) -> Preprocess:
    """What models.json says of a network's input."""
    scale = 255 * row["scale"]
    size = tuple(row["input_shape"][2:]) if row["crop"] else None
    return Preprocess(
        size=size,
        resize=max(row["crop"]) if row["crop"] else None,
        interpolation="bicubic",
        mean=tuple(map(float, np.atleast_1d(row["mean"]))),
        std=tuple(map(float, np.atleast_1d(row["std"]))),
        scale=round(scale, 9),
        channels="bgr" if row["channel_order"] == "BGR" else "same",
        layout={"NCHW": "nchw", "NHWC": "nhwc"}.get(row["layout"].split()[0], "flat"),  # type: ignore[arg-type]
    )


def right_answers(loaded: Loaded, images: torch.Tensor, labels: torch.Tensor) -> int:
    """How many images the classifier gets right, 250 at a time."""
    rng = seeded()
    answers = [loaded.classifier.probabilities(block, rng).argmax(1) for block in images.split(250)]
    return int((torch.cat(answers) == labels).sum())
