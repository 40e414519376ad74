"""What answers for a network: ONNX Runtime, eager torch, compiled torch. All must say the same."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foolbench.models.backend import check_backend
from foolbench.models.choices import Backend
from foolbench.models.conditions import Conditions
from foolbench.models.loaded import Loaded
from foolbench.models.memory import Room
from foolbench.models.modules.module import from_module
from foolbench.models.onnx.check import ModelFileError
from foolbench.models.onnx.load import load_onnx
from foolbench.models.onnx.ports import Names
from foolbench.models.preprocess import Preprocess
from model_files import CPU, pictures, seeded
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
LENET = ROOT / "models" / "panel" / "digits-lenet-a.onnx"
FOREST = ROOT / "models" / "panel" / "digits-forest.onnx"
COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
needs_compiler = pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")
SHAPE = (1, 8, 8)


def conditions(count: int, **changes: Any) -> Conditions:
    return replace(Conditions(SHAPE, 10, CPU, pictures(count, SHAPE), seeded()), **changes)


def lenet(**kwargs: Any) -> Loaded:
    return load_onnx(LENET, conditions(40, **kwargs), preprocess=Preprocess(), output="logits")


@pytest.mark.parametrize("backend", ["torch", pytest.param("compiled", marks=needs_compiler)])
def test_every_backend_of_a_file_answers_as_onnx_runtime_does(backend):
    by_default, other = lenet(), lenet(backend=backend, batch=20)
    assert by_default.backend == "onnxruntime-cpu"
    assert other.backend == {"torch": "torch (onnx2fx)", "compiled": "torch (compiled)"}[backend]
    for count in (1, 6, 20, 47):  # more than a batch, and less than any size that was compiled
        images = pictures(count, SHAPE)
        torch.testing.assert_close(
            other.classifier.probabilities(images, seeded()),
            by_default.classifier.probabilities(images, seeded()),
            atol=1e-5,
            rtol=0,
        )


@needs_compiler
def test_nothing_is_compiled_once_a_network_is_loaded():
    shape = (3, 8, 8)
    as_stored = pictures(40, shape).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    where = conditions(40, shape=shape, images=as_stored, backend="compiled", batch=20)
    loaded = from_module(net, where, preprocess=Preprocess())
    with torch.compiler.set_stance("fail_on_recompile"):
        for images in (as_stored, as_stored.clone(memory_format=torch.contiguous_format), as_stored.flip(3)):
            for count in (1, 6, 20, 40):
                loaded.classifier.probabilities(images[:count], seeded())


class Net(nn.Module):
    """Small, with what an exporter must get right: a batch size of any kind, a reshape, a pooling."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(self.conv(x).relu(), 2)
        return self.head(pooled.reshape(x.shape[0], -1))


class FixedWhenExported(Net):
    """`len` is a plain number to an exporter: the graph takes two images and no more."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.ones(len(x), 1)


def module(net: nn.Module, backend: Backend = "auto", export: bool = False) -> Loaded:
    return from_module(net, conditions(30, backend=backend), preprocess=Preprocess(), export=export)


def test_a_module_of_one_s_own_answers_itself_and_exported_the_same():
    net = Net()
    own, exported = module(net), module(net, backend="onnxruntime")
    assert own.backend == "torch"
    assert exported.backend == "onnxruntime-cpu (exported)"
    for count in (1, 5, 64):
        images = pictures(count, SHAPE)
        torch.testing.assert_close(
            exported.classifier.probabilities(images, seeded()),
            own.classifier.probabilities(images, seeded()),
            atol=1e-6,
            rtol=0,
        )


def test_what_cannot_be_exported_answers_itself_unless_the_export_was_asked_for():
    assert module(FixedWhenExported(), export=True).backend == "torch"
    with pytest.raises(ModelFileError, match="got a failure of ONNX Runtime") as refused:
        module(FixedWhenExported(), backend="onnxruntime")
    assert refused.value.kind == "backend"


def test_a_file_without_a_torch_copy_is_refused_to_torch():
    where, names = conditions(40, backend="torch"), Names(output="probabilities")
    with pytest.raises(ModelFileError, match="no torch copy") as refused:
        load_onnx(FOREST, where, preprocess=Preprocess(), output="probabilities", names=names)
    assert refused.value.kind == "backend"


def test_a_backend_that_answers_otherwise_is_refused():
    def truth(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10]

    check_backend("compiled", lambda images: truth(images) + 1e-6, truth, pictures(20, SHAPE), Room())
    with pytest.raises(ModelFileError, match=r"differ by up to 0\.01"):
        check_backend("compiled", lambda images: truth(images) + 0.01, truth, pictures(20, SHAPE), Room())
