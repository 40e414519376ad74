"""What a recipe is: model files, each made from a battery's training images and the seed of its own name.

A recipe works on one thread, so the same machine with the same library versions makes the same file again, byte for
byte. Elsewhere the last bits of sums differ, and grow in training: there a recipe gives another network, of the same
accuracy within noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ...models.levels import from_bytes
from ...models.training import classical
from ...models.training.export import export
from ...models.training.networks import initialised
from ...models.training.train import Training, fit
from ..battery.battery import read_battery
from ..data.data import training
from ..machine.seeds import generator, seed

CPU = torch.device("cpu")
Make = Callable[[], bytes]
"""Makes the content of one file."""


@dataclass(frozen=True)
class Recipe:
    """How to make one model file, or several."""

    title: str
    seconds: float
    """About how long it takes on one core."""
    files: Mapping[str, Make]
    """File name -> what makes its content."""

    def make(self, out: Path) -> Path:
        """Write the files into `out`. Returns the file, or `out` where there are several."""
        out.mkdir(parents=True, exist_ok=True)
        with _one_thread():
            for name, content in self.files.items():
                (out / name).write_bytes(content())
        return out / next(iter(self.files)) if len(self.files) == 1 else out


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


@dataclass(frozen=True)
class TrainingSet:
    """A battery's training images. None of them is ever evaluated."""

    battery: str

    def load(self, first: int | None = None) -> tuple[Tensor, Tensor]:
        """The first so many images `(n, c, h, w)` float32 in [0, 1] and labels `(n,)` int64.

        Raises EnvironmentFault where they are missing or altered.
        """
        battery = read_battery(self.battery)
        spec = battery.spec
        images, labels = training(spec.data, folder=battery.data_folder, shape=spec.shape, classes=battery.classes)
        return from_bytes(torch.from_numpy(images[:first].copy())), torch.from_numpy(labels[:first].copy())

    def network(self, name: str, build: Callable[[], nn.Module], title: str, how: Training) -> Make:
        """A network of the panel's own, as ONNX; `name` is its seed."""

        def make() -> bytes:
            rng = generator("recipe", name, device=CPU)
            network = initialised(build, rng)
            images, labels = self.load()
            fit(network, images, labels, how, rng)
            battery = read_battery(self.battery)
            return export(network, shape=battery.spec.shape, classes=battery.classes, title=title)

        return make

    def classical(self, build: Callable[[classical.Images, classical.Labels], bytes], first: int | None = None) -> Make:
        """A classifier that is no network, on the first so many images."""

        def make() -> bytes:
            images, labels = self.load(first)
            return build(images.numpy(), labels.numpy())

        return make

    def forest(self, name: str, size: classical.Forest, first: int | None = None) -> Make:
        """A random forest; `name` is its seed."""
        # scikit-learn takes seeds of 32 bits.
        chosen = seed("recipe", name) % 2**32
        return self.classical(lambda images, labels: classical.random_forest(images, labels, size, seed=chosen), first)
