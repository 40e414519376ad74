"""The victims that the benchmarks attack: the shipped LeNet-5, networks of ../shared/data where they are, and on a GPU
a ResNet-50."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from floor import Floor, fastest
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.machine.seeds import generator
from foolbench.models.base import Classifier
from foolbench.models.conditions import Conditions
from foolbench.models.loaded import Loaded
from foolbench.models.onnx.load import load_onnx
from foolbench.models.preprocess import Preprocess
from real_data import ROOT, DataError, check_networks, cifar, data_folder, idx
from rich.console import Console
from torch import Tensor, nn

BATCHES, GRADIENT_BATCHES = (64, 128, 256, 512, 1024), (50, 200)
"""Where the floor is looked for."""


@dataclass(frozen=True)
class Victim:
    """A network in every form that a benchmark needs, and images that it gets right, on its device."""

    name: str
    classifier: Classifier
    module: nn.Module
    """The same in torch, pixels in [0, 1] to logits, for attacks that only know torch."""
    images: Tensor
    """`(n, c, h, w)` float32 in [0, 1], 8-bit."""
    labels: Tensor
    batch: int
    """Images a forward pass, as the battery of these images has it."""
    gradient_batch: int
    backend: str
    """What answers queries, as the loader names it."""
    gradient_backend: str
    """What gradients come from."""
    large: bool = False
    """Asked a tenth of what others are, and not attacked by peers: what is known of it is time ÷ floor."""

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return self.classifier.device

    def fastest(self) -> Floor:
        """The backend and batch at which an answer costs least."""
        return fastest(Floor(b, call, self.images, n) for b, call in self.backends().items() for n in BATCHES)[1]

    def gradient(self) -> Floor:
        """A forward and a backward pass of the torch module with nothing around them, at its best batch."""

        def differentiate(images: Tensor) -> object:
            leaf = images.detach().requires_grad_(True)
            return torch.autograd.grad(self.module(leaf).sum(), leaf)

        name = "torch, forward and backward"
        return fastest(Floor(name, differentiate, self.images, n) for n in GRADIENT_BATCHES)[1]

    def backends(self) -> dict[str, Callable[[Tensor], object]]:
        """What could answer, by name: the classifier's own backend, and eager torch."""
        rng = torch.Generator(self.device).manual_seed(0)

        def eager(images: Tensor) -> object:
            with torch.inference_mode():
                return self.module(images)

        return {self.backend: lambda images: self.classifier.probabilities(images, rng), "eager torch": eager}


class _Logits(nn.Module):
    """A classifier's differentiable logits as a torch module."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier
        self.rng = torch.Generator(classifier.device).manual_seed(0)
        # some libraries ask a module's parameters for its device
        self.anchor = nn.Parameter(torch.zeros(1, device=classifier.device))

    def forward(self, images: Tensor) -> Tensor:
        """`(n, c, h, w)` in [0, 1] -> logits `(n, K)`."""
        assert self.classifier.logits is not None
        return self.classifier.logits(images.to(torch.float32), self.rng)


def differentiable(classifier: Classifier) -> nn.Module:
    """A classifier's logits as a torch module, pixels in [0, 1] in, for libraries that only know torch."""
    return _Logits(classifier).eval()


def victims(device: torch.device) -> Iterator[Victim]:
    """The shipped LeNet-5 on digits; CIFAR-10 and MNIST nets of the data folder; on a GPU a ResNet-50.

    One that the folder has not whole is left out, which is said on stderr.
    """
    yield _digits(device)
    if (folder := data_folder()) is not None:
        yield from _of_folder(folder, device)
    if device.type == "cuda":  # hours on a CPU
        from random_weights import random_weights  # loads timm, which no other victim needs

        yield random_weights("resnet50", device)


def _of_folder(folder: Path, device: torch.device) -> Iterator[Victim]:
    made: dict[str, Callable[[Path, torch.device], Victim]] = {
        "MNIST convnet": _mnist,
        "CIFAR-10 LeNet": partial(_cifar, "LeNet"),
        "CIFAR-10 ResNet32": partial(_cifar, "ResNet32", large=True),
    }
    for name, make in made.items():
        try:
            victim = make(folder, device)
        except DataError as error:
            Console(stderr=True).print(f"{name} left out: {error}", style="yellow", markup=False, soft_wrap=True)
            continue
        yield victim


def _digits(device: torch.device) -> Victim:
    data = read_battery("digits-v1").load()
    path = ROOT / "submissions" / "digits-lenet" / "lenet.onnx"
    return _file("digits LeNet-5", "digits-v1", path, Preprocess(), data.images, data.labels, device)


def _mnist(folder: Path, device: torch.device) -> Victim:
    images, labels = idx(folder, "t10k")
    path = _network(folder, "mnist_vnncomp21_verivital_Convnet_maxpool")
    return _file("MNIST convnet", "mnist-v1", path, Preprocess(), images[:500], labels[:500], device)


def _cifar(network: str, folder: Path, device: torch.device, large: bool = False) -> Victim:
    images, labels = cifar(folder, "test1000")
    preprocess = Preprocess(scale=255, mean=(125.307, 122.95, 113.865), std=(62.9932, 62.0887, 66.7048))
    path = _network(folder, f"cifar10_onepixel_{network.lower()}")
    return _file(f"CIFAR-10 {network}", "cifar10-v1", path, preprocess, images, labels, device, large)


def _network(folder: Path, name: str) -> Path:
    check_networks(folder, [name])
    return folder / "onnx" / f"{name}.onnx"


def _file(
    name: str, battery: str, path: Path, preprocess: Preprocess, images: np.ndarray, labels: np.ndarray,
    device: torch.device, large: bool = False,
) -> Victim:  # fmt: skip
    spec = read_battery(battery).spec
    pixels = (torch.tensor(images).to(torch.float32) / 255).to(device)
    loaded = load_onnx(
        path, Conditions(spec.shape, 10, device, pixels, generator("benchmark", device=device)),
        preprocess=preprocess, output="logits",
    )  # fmt: skip
    truth = torch.tensor(labels).to(device, torch.int64)
    right = loaded.classifier.probabilities(pixels, torch.Generator(device)).argmax(1) == truth
    kept = (pixels[right], truth[right])
    return victim_of(name, loaded, *kept, spec.batch, spec.gradient_batch, "torch (onnx2fx)", large)


def victim_of(
    name: str, loaded: Loaded, images: Tensor, labels: Tensor, batch: int, gradient_batch: int, gradients: str,
    large: bool,
) -> Victim:  # fmt: skip
    """A loaded network as a victim; fields as there."""
    return Victim(
        name, loaded.classifier, differentiable(loaded.classifier), images, labels, batch, gradient_batch,
        backend=loaded.backend, gradient_backend=gradients, large=large,
    )  # fmt: skip
