"""Networks that were trained elsewhere, with the images of ../shared/data that they were trained for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import real_data
import torch
from foolbench.bench.machine.seeds import generator
from foolbench.models.base import Classifier
from foolbench.models.choices import Backend
from foolbench.models.conditions import Conditions
from foolbench.models.modules.timm import Architecture, load_timm
from foolbench.models.onnx.load import load_onnx
from foolbench.models.preprocess import Preprocess
from PIL import Image
from real_data import ROOT, cifar, data_folder, idx, network_row, reading
from torch import Tensor, nn
from victims import differentiable

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pool:
    """Images of one data set. Tensors `(n, c, h, w)` float32 in [0, 1], 8-bit, and `(n,)` int64."""

    images: Tensor
    labels: Tensor
    donors: Tensor
    """Training images, the first two of each class."""
    mean: Tensor
    """`(c, h, w)` of training images; of the photographs themselves, where there are no others."""


@dataclass(frozen=True)
class Network:
    """A network that was trained elsewhere, or one of the shipped panel, as a classifier."""

    name: str
    dataset: str
    classifier: Classifier
    pool: Pool
    """Its data set, at the size that the network takes."""

    @property
    def module(self) -> nn.Module:
        """Its differentiable logits as a torch module, pixels in [0, 1] in. ValueError where it has none."""
        if self.classifier.logits is None:
            raise ValueError(f"expected {self.name} to have differentiable logits, got none: choose another")
        return differentiable(self.classifier)


def network_names(dataset: str) -> list[str]:
    """Networks of the data folder for "mnist", "cifar10" or "imagenet"; none where there is no folder."""
    folder = data_folder()
    return [] if folder is None else real_data.network_names(folder, dataset)


@cache
def network(name: str, backend: Backend = "auto", batch: int = 256, device: torch.device = CPU) -> Network:
    """Load one by the stem of its file, with the preprocessing that models.json states; the rest is for `load_onnx`.

    Raises DataError.
    """
    folder = data_folder()
    assert folder is not None
    row = network_row(folder, name)
    rng = generator("benchmark", device=device)
    if "timm_model" in row:
        pool = photographs(224)
        loaded = load_timm(
            Architecture(row["timm_model"], 1000, 3, row["timm_kwargs"]),
            Conditions((3, 224, 224), 1000, device, pool.images[:20], rng, backend, batch),
            weights=folder / row["file"], preprocess=Preprocess(mean=(0.5,), std=(0.5,)),
        )  # fmt: skip
        return Network(name, "imagenet", loaded.classifier, pool)
    pool = {"mnist": mnist, "cifar10": cifar10}.get(row["dataset"], lambda: photographs(row["input_shape"][2]))()
    preprocess = Preprocess(
        mean=tuple(map(float, row["mean"])),
        std=tuple(map(float, row["std"])),
        scale=round(255 * row["scale"], 9),
        channels="bgr" if row["channel_order"] == "BGR" else "same",
        layout={"NCHW": "nchw", "NHWC": "nhwc"}.get(row["layout"].split()[0], "flat"),  # type: ignore[arg-type]
    )
    classes = 1000 if row["dataset"] == "imagenet" else 10
    loaded = load_onnx(
        folder / row["file"], Conditions(_shape(pool), classes, device, pool.images[:200], rng, backend, batch),
        preprocess=preprocess, output=row["outputs"],
    )  # fmt: skip
    return Network(name, row["dataset"], loaded.classifier, pool)


@cache
def panel_network(name: str) -> Network:
    """One of the shipped panel's networks for MNIST, such as "mnist-lenet-a"."""
    pool = mnist()
    loaded = load_onnx(
        ROOT / "models" / "panel" / f"{name}.onnx",
        Conditions(_shape(pool), 10, CPU, pool.images[:200], generator("benchmark", device=CPU)),
        preprocess=Preprocess(), output="logits",
    )  # fmt: skip
    return Network(name, "mnist", loaded.classifier, pool)


@cache
def mnist() -> Pool:
    """All 10,000 test images."""
    folder = data_folder()
    assert folder is not None
    return _pool(*idx(folder, "t10k"), *idx(folder, "train"))


@cache
def cifar10() -> Pool:
    """The first 1000 test images; index i here is index i of the whole test set."""
    folder = data_folder()
    assert folder is not None
    return _pool(*cifar(folder, "test1000"), *cifar(folder, "train4000"))


@cache
def photographs(size: int) -> Pool:
    """One hundred photographs, every tenth class, their central `size` pixels after the short side was scaled to 8/7 of
    it. They serve for the mean and for checking a network, not for an accuracy."""
    folder = data_folder()
    assert folder is not None
    with reading(folder / "imagenet1k_sample" / "labels.csv") as path:
        lines = path.read_text().splitlines()[1::10]
    found, labels = [], []
    for line in lines:
        file, label = line.split(",")[:2]
        with reading(folder / "imagenet1k_sample" / "images" / file) as path, Image.open(path) as picture:
            scale = size * 8 / 7 / min(picture.size)
            fitted = picture.convert("RGB").resize(
                (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
            )
        left, top = (fitted.width - size) // 2, (fitted.height - size) // 2
        found.append(np.asarray(fitted.crop((left, top, left + size, top + size))).transpose(2, 0, 1))
        labels.append(int(label))
    images, truth = np.stack(found), np.array(labels)
    return _pool(images, truth, images[:1], truth[:1], images)


def _pool(
    images: np.ndarray, labels: np.ndarray, train: np.ndarray, theirs: np.ndarray, mean_of: np.ndarray | None = None
) -> Pool:
    chosen = np.sort(np.concatenate([np.flatnonzero(theirs == k)[:2] for k in np.unique(theirs)]))
    mean = torch.tensor((train if mean_of is None else mean_of).mean(0) / 255).float()
    donors = torch.tensor(train[chosen]).float() / 255
    return Pool(torch.tensor(images).float() / 255, torch.tensor(labels).long(), donors, mean)


def _shape(pool: Pool) -> tuple[int, int, int]:
    channels, height, width = pool.images.shape[1:]
    return int(channels), int(height), int(width)
