"""Which recipe makes which model file of the panel and of the example submissions, all on digits-v1's training images.

Every recipe draws from a seed of its own name and works on one thread, so the same machine with the same library
versions makes the same file again, byte for byte. Elsewhere the last bits of sums differ, and grow in training: there a
recipe gives another network, of the same accuracy within noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
import timm
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ..models.panel import classical
from ..models.panel.export import export
from ..models.panel.networks import LeNet5, Mlp, SmallResNet, initialised
from ..models.panel.train import Training, fit
from .data import DigitsData, training
from .fooling_class import FoolingClass
from .seeds import generator, seed

DIGITS = DigitsData(kind="digits")
SHAPE = (1, 8, 8)
CLASSES = 10
CPU = torch.device("cpu")

RESNET = "resnet10t"
RESNET_ARGS = {"stem_width": 8, "channels": [16, 32, 48, 64]}
RESNET_SIZE = (16, 16)


@dataclass(frozen=True)
class Recipe:
    """How to make one model file, or several."""

    title: str
    seconds: float
    """About how long it takes on one core."""
    files: Mapping[str, Callable[[], bytes]]
    """File name -> what makes its content."""

    def make(self, out: Path) -> Path:
        """Write the files into `out`. Returns the file, or `out` where there are several."""
        out.mkdir(parents=True, exist_ok=True)
        with _one_thread():
            for name, content in self.files.items():
                (out / name).write_bytes(content())
        return out / next(iter(self.files)) if len(self.files) == 1 else out


def train(name: str, out: Path) -> Path:
    """Make a recipe's model files in the folder `out`; see Recipe.make. Raises KeyError for an unknown name."""
    return RECIPES[name].make(out)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are split by thread, so their last bits depend on how many there are."""
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _digits() -> tuple[Tensor, Tensor]:
    """Training images `(n, 1, 8, 8)` float32 in [0, 1] and labels `(n,)` int64."""
    images, labels = training(DIGITS, folder=Path(), shape=SHAPE, classes=CLASSES)
    return torch.from_numpy(images.copy()).float() / 255, torch.from_numpy(labels.copy())


def _network(name: str, build: Callable[[], nn.Module], title: str, how: Training) -> Callable[[], bytes]:
    """A network of the panel's own, as ONNX; `name` is its seed."""

    def make() -> bytes:
        rng = generator("recipe", name, device=CPU)
        network = initialised(build, rng)
        fit(network, *_digits(), how, rng)
        return export(network, shape=SHAPE, classes=CLASSES, title=title)

    return make


def _classical(build: Callable[[classical.Images, classical.Labels], bytes]) -> Callable[[], bytes]:
    def make() -> bytes:
        images, labels = _digits()
        return build(images.numpy(), labels.numpy())

    return make


def _forest(name: str) -> Callable[[], bytes]:
    # scikit-learn takes seeds of 32 bits.
    chosen = seed("recipe", name) % 2**32
    return _classical(lambda images, labels: classical.random_forest(images, labels, classical.Forest(), seed=chosen))


def _with_fooling_class() -> bytes:
    rng = generator("recipe", "digits-lenet-fooling-class", device=CPU)

    def lenet(images: Tensor, labels: Tensor, classes: int) -> nn.Module:
        network = initialised(lambda: LeNet5(classes), rng)
        fit(network, images, labels, Training(), rng)
        return network

    network = FoolingClass().train(*_digits(), CLASSES, lenet, rng)
    return export(network, shape=SHAPE, classes=CLASSES + 1, title="LeNet-5 with a class of fooling images")


def _timm_resnet() -> bytes:
    rng = generator("recipe", "digits-resnet", device=CPU)
    network = initialised(lambda: timm.create_model(RESNET, num_classes=CLASSES, in_chans=SHAPE[0], **RESNET_ARGS), rng)
    enlarge = nn.Upsample(RESNET_SIZE, mode="bilinear", align_corners=False)
    fit(nn.Sequential(enlarge, network), *_digits(), Training(epochs=40), rng)
    return safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})


_LENET = _network("digits-lenet", LeNet5, "LeNet-5", Training())

_PANEL = {
    "digits-lenet-a.onnx": _network("digits-panel/lenet-a", LeNet5, "LeNet-5, first initialisation", Training()),
    "digits-lenet-b.onnx": _network("digits-panel/lenet-b", LeNet5, "LeNet-5, second initialisation", Training()),
    "digits-mlp.onnx": _network("digits-panel/mlp", Mlp, "multilayer perceptron", Training()),
    "digits-resnet.onnx": _network("digits-panel/resnet", SmallResNet, "small ResNet", Training(epochs=40)),
    "digits-logistic.onnx": _classical(classical.logistic_regression),
    "digits-svm.onnx": _classical(classical.linear_svm),
    "digits-forest.onnx": _forest("digits-panel/forest"),
    "digits-knn.onnx": _classical(classical.nearest_neighbours),
}

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "digits-panel": Recipe("the eight reference models of digits-v1", 30, _PANEL),
        "digits-lenet": Recipe("LeNet-5", 4, {"lenet.onnx": _LENET}),
        "digits-lenet-bit-depth": Recipe("LeNet-5, to stand behind bit-depth reduction", 4, {"lenet.onnx": _LENET}),
        "digits-lenet-fooling-class": Recipe(
            "LeNet-5 with an 11th class of fooling images", 60, {"lenet.onnx": _with_fooling_class}
        ),
        "digits-resnet": Recipe("a small ResNet of timm's", 15, {"resnet.safetensors": _timm_resnet}),
        "digits-forest": Recipe("a random forest", 1, {"forest.onnx": _forest("digits-forest")}),
    }
)
