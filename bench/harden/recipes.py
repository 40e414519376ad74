"""Which recipe makes which model file of the panels and of the example submissions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
from torch import Tensor, nn

from ...models.training import classical
from ...models.training.export import export
from ...models.training.networks import LeNet5, Mlp, SmallResNet, initialised
from ...models.training.train import Training, fit
from ..choices import unknown_word
from ..machine.seeds import generator
from .fooling_class import FoolingClass
from .recipe import CPU, Recipe, TrainingSet

SHAPE = (1, 8, 8)
CLASSES = 10

RESNET = "resnet10t"
RESNET_ARGS = {"stem_width": 8, "channels": [16, 32, 48, 64]}
RESNET_SIZE = (16, 16)


def train(name: str, out: Path) -> Path:
    """Make a recipe's model files in the folder `out`; see Recipe.make. Raises InvalidInput for an unknown name."""
    return recipe(name).make(out)


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises InvalidInput where there is none."""
    if name not in RECIPES:
        raise unknown_word("foolbench train", name, tuple(RECIPES))
    return RECIPES[name]


_DIGITS = TrainingSet("digits-v1")


def _with_fooling_class() -> bytes:
    rng = generator("recipe", "digits-lenet-fooling-class", device=CPU)

    def lenet(images: Tensor, labels: Tensor, classes: int) -> nn.Module:
        network = initialised(lambda: LeNet5(classes), rng)
        fit(network, images, labels, Training(), rng)
        return network

    network = FoolingClass().train(*_DIGITS.load(), CLASSES, lenet, rng)
    return export(network, shape=SHAPE, classes=CLASSES + 1, title="LeNet-5 with a class of fooling images")


def _timm_resnet() -> bytes:
    import timm  # on use: importing it takes seconds

    rng = generator("recipe", "digits-resnet", device=CPU)
    network = initialised(lambda: timm.create_model(RESNET, num_classes=CLASSES, in_chans=SHAPE[0], **RESNET_ARGS), rng)
    enlarge = nn.Upsample(RESNET_SIZE, mode="bilinear", align_corners=False)
    fit(nn.Sequential(enlarge, network), *_DIGITS.load(), Training(epochs=40), rng)
    return safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})


_LENET = _DIGITS.network("digits-lenet", LeNet5, "LeNet-5", Training())

_DIGITS_PANEL = {
    "digits-lenet-a.onnx": _DIGITS.network("digits-panel/lenet-a", LeNet5, "LeNet-5, first initialisation", Training()),
    "digits-lenet-b.onnx": _DIGITS.network(
        "digits-panel/lenet-b", LeNet5, "LeNet-5, second initialisation", Training()
    ),
    "digits-mlp.onnx": _DIGITS.network("digits-panel/mlp", Mlp, "multilayer perceptron", Training()),
    "digits-resnet.onnx": _DIGITS.network("digits-panel/resnet", SmallResNet, "small ResNet", Training(epochs=40)),
    "digits-logistic.onnx": _DIGITS.classical(classical.logistic_regression),
    "digits-svm.onnx": _DIGITS.classical(classical.linear_svm),
    "digits-forest.onnx": _DIGITS.forest("digits-panel/forest", classical.Forest()),
    "digits-knn.onnx": _DIGITS.classical(classical.nearest_neighbours),
}

_MNIST = TrainingSet("mnist-v1")
_MNIST_LENET = partial(LeNet5, shape=(1, 28, 28))
_MNIST_NETWORK = Training(epochs=3, batch=128, shift=1.5)
_MNIST_FIRST = 20_000
"""For the classifiers whose training takes more than in proportion to its images."""

_MNIST_PANEL = {
    "mnist-lenet-a.onnx": _MNIST.network(
        "mnist-panel/lenet-a", _MNIST_LENET, "LeNet-5, first initialisation", _MNIST_NETWORK
    ),
    "mnist-lenet-b.onnx": _MNIST.network(
        "mnist-panel/lenet-b", _MNIST_LENET, "LeNet-5, second initialisation", _MNIST_NETWORK
    ),
    "mnist-mlp.onnx": _MNIST.network(
        "mnist-panel/mlp", partial(Mlp, shape=(1, 28, 28)), "multilayer perceptron", _MNIST_NETWORK
    ),
    "mnist-resnet.onnx": _MNIST.network(
        "mnist-panel/resnet", partial(SmallResNet, stem=2), "small ResNet", _MNIST_NETWORK
    ),
    "mnist-logistic.onnx": _MNIST.classical(partial(classical.logistic_regression, inverse_penalty=0.01), _MNIST_FIRST),
    "mnist-svm.onnx": _MNIST.classical(partial(classical.linear_svm, inverse_penalty=0.01), _MNIST_FIRST),
    "mnist-forest.onnx": _MNIST.forest("mnist-panel/forest", classical.Forest(40, 100), _MNIST_FIRST),
    # As many of the images as a megabyte holds.
    "mnist-knn.onnx": _MNIST.classical(partial(classical.nearest_neighbours, pool=2), 4000),
}

_CIFAR10 = TrainingSet("cifar10-v1")
_CIFAR10_LENET = partial(LeNet5, shape=(3, 32, 32))
_CIFAR10_NETWORK = Training(epochs=40, rate=3e-3, shift=3.0, mirror=True)

_CIFAR10_PANEL = {
    "cifar10-lenet-a.onnx": _CIFAR10.network(
        "cifar10-panel/lenet-a", _CIFAR10_LENET, "LeNet-5, first initialisation", _CIFAR10_NETWORK
    ),
    "cifar10-lenet-b.onnx": _CIFAR10.network(
        "cifar10-panel/lenet-b", _CIFAR10_LENET, "LeNet-5, second initialisation", _CIFAR10_NETWORK
    ),
    "cifar10-resnet.onnx": _CIFAR10.network(
        "cifar10-panel/resnet", partial(SmallResNet, channels=3, stem=2), "small ResNet", _CIFAR10_NETWORK
    ),
}
"""Convolutional networks alone: on 4,000 images an MLP is right on 35% and a forest on 33%, and transfer counts only
images that both sides get right."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "digits-panel": Recipe("the eight reference models of digits-v1", 30, _DIGITS_PANEL),
        "mnist-panel": Recipe("the eight reference models of mnist-v1", 240, _MNIST_PANEL),
        "cifar10-panel": Recipe("the three reference models of cifar10-v1", 300, _CIFAR10_PANEL),
        "digits-lenet": Recipe("LeNet-5", 4, {"lenet.onnx": _LENET}),
        "digits-lenet-bit-depth": Recipe("LeNet-5, to stand behind bit-depth reduction", 4, {"lenet.onnx": _LENET}),
        "digits-lenet-fooling-class": Recipe(
            "LeNet-5 with an 11th class of fooling images", 60, {"lenet.onnx": _with_fooling_class}
        ),
        "digits-resnet": Recipe("a small ResNet of timm's", 15, {"resnet.safetensors": _timm_resnet}),
        "digits-forest": Recipe(
            "a random forest", 1, {"forest.onnx": _DIGITS.forest("digits-forest", classical.Forest())}
        ),
    }
)
