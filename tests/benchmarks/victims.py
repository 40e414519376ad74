"""The victims that the benchmarks attack: networks of ../shared/data where they are, else the shipped LeNet-5."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from foolbench.bench.seeds import generator
from foolbench.models.base import Classifier
from foolbench.models.onnx import load_onnx
from foolbench.models.preprocess import Preprocess
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
BATCHES = (64, 128, 256, 512, 1024)


def data_folder() -> Path | None:
    """The folder of real data: FOOLBENCH_TEST_DATA, or `shared/data` beside the repository."""
    found = Path(os.environ.get("FOOLBENCH_TEST_DATA") or ROOT.parent / "shared" / "data")
    return found if found.is_dir() else None


@dataclass(frozen=True)
class Floor:
    """What one image costs a victim, and nothing else."""

    backend: str
    call: Callable[[Tensor], object]
    images: Tensor

    def seconds(self, for_about: float = 0.2) -> float:
        """Median seconds an image. Measured anew each time, since a shared machine's speed drifts."""
        self.call(self.images)
        times, until = [], time.perf_counter() + for_about
        while time.perf_counter() < until or len(times) < 3:
            start = time.perf_counter()
            self.call(self.images)
            times.append(time.perf_counter() - start)
        return statistics.median(times) / len(self.images)


@dataclass(frozen=True)
class Victim:
    """A network in every form that a benchmark needs, and images that it gets right."""

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

    def fastest(self) -> Floor:
        """The backend and batch at which an answer costs least."""
        candidates = [
            Floor(
                f"{backend}, batches of {batch}", call, self.images[torch.arange(batch) % len(self.images)].contiguous()
            )
            for backend, call in self.backends().items()
            for batch in BATCHES
        ]
        return min(candidates, key=lambda floor: floor.seconds())

    def gradient(self) -> Floor:
        """A forward and a backward pass of the torch module, with nothing around them."""

        def differentiate(images: Tensor) -> object:
            leaf = images.detach().requires_grad_(True)
            return torch.autograd.grad(self.module(leaf).sum(), leaf)

        return Floor("torch, forward and backward", differentiate, self.images[torch.arange(200) % len(self.images)])

    def backends(self) -> dict[str, Callable[[Tensor], object]]:
        """What could answer, by name: the classifier's own backend, and eager torch."""
        rng = torch.Generator().manual_seed(0)

        def eager(images: Tensor) -> object:
            with torch.inference_mode():
                return self.module(images)

        return {self.backend: lambda images: self.classifier.probabilities(images, rng), "eager torch": eager}


class _Logits(nn.Module):
    """A classifier's differentiable logits as a torch module."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier
        self.rng = torch.Generator().manual_seed(0)
        self.anchor = nn.Parameter(torch.zeros(1))  # some libraries ask a module's parameters for its device

    def forward(self, images: Tensor) -> Tensor:
        """`(n, c, h, w)` in [0, 1] -> logits `(n, K)`."""
        assert self.classifier.logits is not None
        return self.classifier.logits(images.to(torch.float32), self.rng)


def differentiable(classifier: Classifier) -> nn.Module:
    """A classifier's logits as a torch module, pixels in [0, 1] in, for libraries that only know torch."""
    return _Logits(classifier).eval()


def victims() -> list[Victim]:
    """CIFAR-10 and MNIST nets of the data folder where it is there, and the shipped LeNet-5 on digits."""
    found = [_digits()]
    folder = data_folder()
    if folder is not None:
        found += [_mnist(folder), _cifar(folder, "LeNet"), replace(_cifar(folder, "ResNet32"), large=True)]
    return found


def _digits() -> Victim:
    from foolbench.bench.battery import read_battery

    data = read_battery("digits-v1").load()
    path = ROOT / "submissions" / "digits-lenet" / "lenet.onnx"
    return _victim("digits LeNet-5", "digits-v1", path, Preprocess(), data.images, data.labels)


def _mnist(folder: Path) -> Victim:
    import gzip

    raw = gzip.decompress((folder / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(
        gzip.decompress((folder / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    )
    path = folder / "onnx" / "mnist_vnncomp21_verivital_Convnet_maxpool.onnx"
    return _victim("MNIST convnet", "mnist-v1", path, Preprocess(), images[:500], labels[:500])


def _cifar(folder: Path, network: str) -> Victim:
    with np.load(folder / "cifar10" / "test1000.npz") as arrays:
        images, labels = arrays["x"].transpose(0, 3, 1, 2), arrays["y"]
    preprocess = Preprocess(scale=255, mean=(125.307, 122.95, 113.865), std=(62.9932, 62.0887, 66.7048))
    path = folder / "onnx" / f"cifar10_onepixel_{network.lower()}.onnx"
    return _victim(f"CIFAR-10 {network}", "cifar10-v1", path, preprocess, images, labels)


def _victim(
    name: str, battery: str, path: Path, preprocess: Preprocess, images: np.ndarray, labels: np.ndarray
) -> Victim:
    from foolbench.bench.battery import read_battery

    spec = read_battery(battery).spec
    pixels, truth = torch.tensor(images).to(torch.float32) / 255, torch.tensor(labels).to(torch.int64)
    shape: tuple[int, int, int] = (int(pixels.shape[1]), int(pixels.shape[2]), int(pixels.shape[3]))
    loaded = load_onnx(
        path, shape=shape, classes=10, preprocess=preprocess, output="logits", device=CPU, images=pixels,
        rng=generator("benchmark", device=CPU),
    )  # fmt: skip
    classifier = loaded.classifier
    right = classifier.probabilities(pixels, torch.Generator()).argmax(1) == truth
    return Victim(
        name, classifier, differentiable(classifier), pixels[right], truth[right], spec.batch, spec.gradient_batch,
        backend=loaded.backend, gradient_backend="torch (onnx2fx)",
    )  # fmt: skip
