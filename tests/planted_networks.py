"""Networks and graphs that false defenses, and honest ones like them, are made of, trained or written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from foolbench.bench.battery.battery import Battery
from foolbench.bench.victim.fitting import training_images
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


def trained(
    battery: Battery, *, epsilon: float = 0.0, steps: int = 0, noise: float = 0.0, epochs: int = 12, seed: int = 1
) -> nn.Module:
    """A small convolutional network, trained on half clean and half changed images: by `steps` of projected ascent
    within `epsilon` (Madry 2018; with one step and no random start, FGSM), or by Gaussian noise of that spread."""
    rng = torch.Generator().manual_seed(seed)
    x, y = training_images(battery, 2000)
    net = nn.Sequential(
        nn.Conv2d(x.shape[1], 16, 3, padding=1),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * x[0, 0].numel(), 64),
        nn.GELU(),
        nn.Linear(64, battery.classes),
    )
    with torch.no_grad():
        for weight in net.parameters():
            fan = weight[0].numel() if weight.dim() > 1 else 1e6
            weight.copy_(torch.randn(weight.shape, generator=rng) / fan**0.5)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=rng).split(64):
            images, labels = x[rows], y[rows]
            moved = _ascended(net, images, labels, epsilon, steps, rng)
            moved = (moved + noise * torch.randn(images.shape, generator=rng)).clamp(0, 1)
            loss = nn.functional.cross_entropy(net(torch.cat([images, moved])), labels.repeat(2))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


def _ascended(
    net: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, rng: torch.Generator
) -> Tensor:
    moved = images
    if steps > 1:
        moved = (images + epsilon * (2 * torch.rand(images.shape, generator=rng) - 1)).clamp(0, 1)
    for _ in range(steps):
        leaf = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(leaf), labels), leaf)
        stride = epsilon if steps == 1 else 2.5 * epsilon / steps
        moved = leaf.detach() + stride * slope.sign()
        moved = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon).clamp(0, 1)
    return moved.detach()


def quantised(source: Path, path: Path) -> Path:
    """The network as ONNX Runtime quantises it while it runs: weights of 8 bits, activations by the batch's range."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, path, weight_type=QuantType.QUInt8)
    return path


def batch_graph(path: Path, mean: np.ndarray, *, normalise: bool) -> Path:
    """Images of 8×8 to images, by the mean of the batch: taken away, with the training images' put back; or batch
    normalisation in training mode, as an export that forgot to leave it has it, brought back to the digits' range."""
    values = {"middle": mean if not normalise else mean.mean(), "spread": np.float32(0.38)}
    if normalise:
        one, channel = torch.ones(1).numpy(), torch.zeros(1).numpy()
        nodes = [
            helper.make_node(
                "BatchNormalization", ["x", "one", "none", "none", "one"], ["n", "m", "v"], training_mode=1
            ),
            helper.make_node("Mul", ["n", "spread"], ["s"]),
            helper.make_node("Add", ["s", "middle"], ["a"]),
        ]
        weights = [numpy_helper.from_array(one, "one"), numpy_helper.from_array(channel, "none")]
    else:
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["d"]),
            helper.make_node("Add", ["d", "middle"], ["a"]),
        ]
        weights = []
    nodes += [helper.make_node("Clip", ["a", "black", "white"], ["y"])]
    values |= {"black": np.float32(0), "white": np.float32(1)}
    used = {name for node in nodes for name in node.input}
    weights += [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items() if k in used]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "batch", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
