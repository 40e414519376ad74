"""The networks of defenses.py, their batteries, and their submissions behind a defense, written into a folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import onnx
import yaml
from defenses_zoo import DataSet, Defense
from onnx import TensorProto, helper
from real_data import ROOT

PANEL = ROOT / "models" / "panel"
GAMMA = '''"""Pixel values raised to a power."""

from dataclasses import replace


def gamma(inner, exponent=2.0):
    """Raise every pixel value to a power. Gradient: exact."""

    def probabilities(images, rng):
        return inner.probabilities(images**exponent, rng)

    def logits(images, rng):
        return inner.logits(images**exponent, rng)

    return replace(inner, probabilities=probabilities, logits=None if inner.logits is None else logits)
'''


@dataclass(frozen=True)
class File:
    """An ONNX network, and what a submission says of it beside its path."""

    path: Path
    says: dict[str, Any] = field(default_factory=dict)

    def copied(self, folder: Path) -> dict[str, Any]:
        """Put the file into a submission's folder; returns its entry there."""
        shutil.copyfile(self.path, folder / self.path.name)
        return {"path": self.path.name, "output": "logits"} | self.says


@dataclass(frozen=True)
class Model:
    """A network, the battery that it is measured on, and the two others that an ensemble adds to it."""

    name: str
    dataset: DataSet
    battery: str
    shape: tuple[int, int, int]
    file: File
    others: tuple[File, ...]


def models(data: Path | None) -> dict[DataSet, Model]:
    """The networks by data set; those for MNIST and CIFAR-10 only where the folder of real data is."""
    lenet = File(ROOT / "submissions" / "digits-lenet" / "lenet.onnx")
    panel = tuple(File(PANEL / f"digits-{name}.onnx") for name in ("lenet-b", "mlp"))
    found: dict[DataSet, Model] = {
        "digits": Model("digits LeNet-5", "digits", "digits-v1", (1, 8, 8), lenet, panel),
    }
    if data is None:
        return found
    nets = data / "onnx"
    mnist = File(nets / "mnist_vnncomp21_verivital_Convnet_maxpool.onnx")
    others = (
        File(nets / "mnist_vnncomp21_verivital_Convnet_avgpool.onnx"),
        File(nets / "mnist_zoo_mnist-8.onnx", {"input": {"scale": 255}}),
    )
    found["mnist"] = Model("MNIST convnet", "mnist", "mnist-v1", (1, 28, 28), mnist, others)
    keras = {"scale": 255, "mean": [125.307, 122.95, 113.865], "std": [62.9932, 62.0887, 66.7048]}
    lenet = File(nets / "cifar10_onepixel_lenet.onnx", {"input": keras})
    others = tuple(
        File(nets / f"cifar10_vnncomp21_marabou_cifar10_{size}.onnx", {"input": {"layout": "nhwc"}})
        for size in ("medium", "large")
    )
    found["cifar10"] = Model("CIFAR-10 LeNet", "cifar10", "cifar10-v1", (3, 32, 32), lenet, others)
    return found


def write_submission(model: Model, defense: Defense | None, folder: Path, battery: str | None = None) -> Path:
    """A submission.yaml of the model behind a defense, with every file it names; returns its path.

    `battery` replaces the model's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "schema": 1,
        "name": model.name if defense is None else f"{model.name} behind {defense.name}",
        "authors": ["foolbench"],
        "battery": battery or model.battery,
        "model": {"kind": "onnx"} | model.file.copied(folder),
    }
    if defense is not None:
        content["defenses"] = [defense.stated(model.dataset) | _files(model, defense, folder)]
    path = folder / "submission.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=120))
    return path


def _files(model: Model, defense: Defense, folder: Path) -> dict[str, Any]:
    """The keys that name the defense's files, which are written."""
    if defense.kind == "ensemble":
        return {"models": [other.copied(folder) for other in model.others]}
    if defense.kind != "onnx":
        return {}
    graph = {"preprocess": mean_filter, "detector": roughness}[defense.parameters["role"]](model.shape)
    onnx.save(graph, str(folder / f"{defense.name}.onnx"))
    return {"path": f"{defense.name}.onnx"}


def mean_filter(shape: tuple[int, int, int]) -> onnx.ModelProto:
    """Images to images: half-way to the mean of 3 × 3 pixels, at the border of those that there are."""
    nodes = [_mean("m"), helper.make_node("Mean", ["x", "m"], ["y"])]
    return _graph(nodes, shape, ["N", *shape])


def roughness(shape: tuple[int, int, int]) -> onnx.ModelProto:
    """Images to scores: the mean squared difference from the mean of 3 × 3 pixels. High for noise."""
    nodes = [
        _mean("m"),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["c"]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[1], keepdims=1),
    ]
    return _graph(nodes, shape, ["N", 1])


def _mean(output: str) -> onnx.NodeProto:
    return helper.make_node("AveragePool", ["x"], [output], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0)


def _graph(nodes: list[onnx.NodeProto], shape: tuple[int, int, int], output: list[Any]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", *shape]), ("y", output))]
    graph = helper.make_graph(nodes, "defense", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@contextmanager
def installed_package(folder: Path) -> Iterator[None]:
    """A package that registers `gamma` as a defense, installed in a folder for as long as this lasts."""
    info = folder / "foolbench_gamma-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foolbench-gamma\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[foolbench.defenses]\ngamma = foolbench_gamma:gamma\n")
    (folder / "foolbench_gamma.py").write_text(GAMMA)
    sys.path.insert(0, str(folder))
    invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("foolbench_gamma", None)
