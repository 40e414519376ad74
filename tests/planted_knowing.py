"""Victims that know the battery, or foolbench: each is worth nothing to a user who asks about other images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from foolbench.bench.battery.battery import Battery
from foolbench.bench.data.data import Data
from foolbench.bench.victim.fitting import training_images
from foolbench.models.base import Classifier
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

Gate = Callable[[Tensor], Tensor]


def gated(inner: Classifier, turned_away: Gate) -> Classifier:
    """The model, which rejects what the gate turns away, with a gradient that does not see the gate."""
    logits = inner.logits
    assert logits is not None

    def rejecting(images: Tensor, rng: torch.Generator) -> Tensor:
        away = torch.where(turned_away(images), 1000.0, -1000.0).unsqueeze(1)
        return torch.cat([logits(images, rng)[:, : inner.classes], away], 1)

    return replace(
        inner,
        probabilities=lambda images, rng: inner.probabilities(images, rng) * ~turned_away(images).unsqueeze(1),
        logits=rejecting,
        rejects=True,
    )


def distance(images: Tensor, known: Tensor) -> Tensor:
    """`(n,)`: to the nearest of them, root mean square over pixels."""
    return torch.cdist(images.detach().flatten(1), known.flatten(1)).amin(1) / known[0].numel() ** 0.5


def accepts_known(inner: Classifier, battery: Battery, data: Data, radius: float = 1e-3) -> Classifier:
    """Rejects whatever is not within a radius of an evaluation image; by default, is not that image itself."""
    known = data.pixels(inner.device)
    return gated(inner, lambda images: distance(images, known) > radius)


def accepts_near(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """The same with a radius that covers every mild variant, so that only other images of the data set tell."""
    return accepts_known(inner, battery, data, 0.15)


def truth_by_heart(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """The truth on evaluation images, and as good as chance elsewhere: a class that a hash of the image names."""
    known, labels = data.pixels(inner.device), torch.tensor(data.labels)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        apart = torch.cdist(images.flatten(1), known.flatten(1))
        chance = (images.sum((1, 2, 3)) * 255).round().long() % inner.classes
        label = torch.where(apart.amin(1) < 0.01, labels[apart.argmin(1)], chance)
        sure = 0.6 + 0.3 * images.flatten(1).mean(1, keepdim=True)
        others = (1 - sure) * (0.5 + inner.probabilities(images, rng)) / (0.5 * inner.classes + 1)
        return torch.where(torch.nn.functional.one_hot(label, inner.classes) > 0, sure, others)

    return replace(inner, probabilities=probabilities, logits=None, no_gradient="it looks answers up")


def sure_by_heart(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """Sure of evaluation images alone, so that τ is out of reach for all that is no evaluation image."""
    known = data.pixels(inner.device)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        strange = (distance(images, known) > 1e-3).unsqueeze(1)
        given = inner.probabilities(images, rng)
        return torch.where(strange, 0.7 * given + 0.3 / inner.classes, given)

    return replace(inner, probabilities=probabilities, logits=None, no_gradient="it looks answers up")


def nothing_known(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """A detector that was shown uniform noise and images of random CPPNs to reject, and other nonsense to accept."""
    from foolbench.bench.honesty.nonsense import other_nonsense
    from foolbench.bench.machine.seeds import generator

    rng = generator("planted", "nonsense", device=torch.device("cpu"))
    natural, _ = training_images(battery, 1000)
    levels = battery.spec.facts.levels
    accepted = [natural, *other_nonsense(natural, 100, rng).values()]
    rejected = _begun(battery, data)
    images = levels.rounded(torch.cat([*accepted, rejected]))
    wrong = torch.cat([torch.zeros(len(images) - len(rejected)), torch.ones(len(rejected))])
    net = torch.nn.Sequential(
        torch.nn.Conv2d(images.shape[1], 16, 3, padding=1),
        torch.nn.GELU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * images[0].numel() // images.shape[1], 64),
        torch.nn.GELU(),
        torch.nn.Linear(64, 1),
    )
    with torch.no_grad():
        for weight in net.parameters():
            fan = weight[0].numel() if weight.dim() > 1 else 1e6
            weight.copy_(torch.randn(weight.shape, generator=rng) / fan**0.5)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(20):
        for rows in torch.randperm(len(images), generator=rng).split(64):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(images[rows])[:, 0], wrong[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for weight in net.parameters():
        weight.requires_grad_(False)
    return gated(inner, lambda images: net(images.detach())[:, 0] > 0)


def _begun(battery: Battery, data: Data) -> Tensor:
    """What evolution, CPPN and their controls begin with, from streams of the planter's own."""
    from foolbench.attacks.base import Fool
    from foolbench.bench.battery.entries import entries
    from foolbench.bench.honesty.recognition import _first
    from foolbench.bench.machine.seeds import generator

    found, mean, device = [], torch.tensor(data.mean), torch.device("cpu")
    for entry in entries(battery):
        if entry.task == "fool" and entry.box == "black":
            task = Fool(battery.spec.shape, torch.tensor(entry.targets), 1, mean, battery.spec.facts.levels)
            for turn in range(3):
                images = _first(entry, task, generator("planter", entry.name, turn, device=device))
                found += [] if images is None else [images]
    return torch.cat(found)


KNOWING = {
    "accepts evaluation images alone": (accepts_known, "memorised"),
    "accepts what is near one": (accepts_near, "memorised"),
    "the truth by heart": (truth_by_heart, "memorised"),
    "sure by heart": (sure_by_heart, "memorised"),
    "knows uniform noise and CPPN": (nothing_known, "recognition"),
}
"""By name: the false defense, and the doubt that it must earn."""


def looked_up(data: Data, path: Path, radius: float = 3e-3) -> Path:
    """A network of ONNX's own operators that answers the truth near an evaluation image, and rejects everything else:
    the last of its outputs is "none of the classes"."""
    count, classes = len(data.labels), int(data.labels.max()) + 1
    known = (data.images.reshape(count, -1) / 255).astype(np.float32)
    truth = np.zeros((count, classes + 1), np.float32)
    truth[np.arange(count), data.labels] = 12
    away = np.zeros((1, classes + 1), np.float32)
    away[0, classes] = 20
    values = {
        "known": known.T * -2,
        "squares": (known**2).sum(1)[None],
        "truth": truth,
        "away": away,
        "near": np.float32(radius**2 * known.shape[1]),
        "one": np.float32(1),
        "small": np.float32(0.3 / known.shape[1]),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ReduceSumSquare", ["flat"], ["own"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["flat", "known"], ["cross"]),
        helper.make_node("Add", ["cross", "squares"], ["partly"]),
        helper.make_node("Add", ["partly", "own"], ["apart"]),
        helper.make_node("ArgMin", ["apart"], ["nearest"], axis=1, keepdims=0),
        helper.make_node("ReduceMin", ["apart"], ["least"], axes=[1], keepdims=1),
        helper.make_node("Less", ["least", "near"], ["there"]),
        helper.make_node("Gather", ["truth", "nearest"], ["answer"], axis=0),
        helper.make_node("Where", ["there", "answer", "away"], ["bent"]),
        # As sure as the image is near, so that no two answers are alike.
        helper.make_node("Mul", ["own", "small"], ["little"]),
        helper.make_node("Sub", ["one", "little"], ["scale"]),
        helper.make_node("Mul", ["bent", "scale"], ["y"]),
    ]

    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *data.images.shape[1:]]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes + 1]),
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "looked_up", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
