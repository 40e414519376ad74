"""What a plain ReLU network provably withstands: linear bounds on its margins over an L∞ ball.

The bounds are CROWN's (Zhang, Weng, Chen, Hsieh & Daniel, "Efficient neural network robustness certification with
general activation functions", NeurIPS 2018, section 3.3 and table 2), with the adaptive lower slope of ReLU given
there, computed backwards from each layer; the ball is cut to [0, 1]. Departures: where intervals settle the sign of a
ReLU's input they are its bounds; matrices are never formed, an affine layer's transpose is its gradient. Floating point
is not rounded outwards; a margin must exceed SLACK to count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

SLACK = 1e-4
"""Of a margin between two logits."""
ROWS = 256
"""Bounds computed at once."""
Map = Callable[[Tensor], Tensor]
"""`(n, *in)` -> `(n, *out)`, each image by itself."""


@dataclass(frozen=True)
class Affine:
    """An affine layer."""

    run: Map
    spread: Map
    """How far outputs move where inputs move by up to so much: the same with absolute weights and without bias."""


@dataclass(frozen=True)
class Chain:
    """A network without branches: affine layers, with a ReLU between each two."""

    layers: tuple[Affine, ...]


def chain_of(path: Path, mean: Sequence[float], std: Sequence[float]) -> Chain:
    """Read an ONNX file of Conv, Gemm, Flatten and Relu nodes, one after the other. `mean`, `std`: what is taken from
    and divides the pixels, a number a channel. Raises ValueError for any other network."""
    graph = onnx.load(path).graph
    values = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    shift, scale = (torch.tensor(np.array(v, dtype=np.float32)).reshape(-1, 1, 1) for v in (mean, std))
    parts = [Affine(lambda x: (x - shift) / scale, lambda x: x / scale.abs())]
    layers: list[Affine] = []
    at = next(i.name for i in graph.input if i.name not in values)
    for node in graph.node:
        if node.input[0] != at:
            raise ValueError(f"expected a network without branches, got one at {node.name or node.op_type}")
        at = node.output[0]
        if node.op_type == "Relu":
            layers.append(_after(parts))
            parts = []
        else:
            parts.append(_layer(node, values))
    return Chain((*layers, _after(parts)))


def _layer(node: onnx.NodeProto, values: dict[str, Tensor]) -> Affine:
    said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    weights = [values[name] for name in node.input[1:]]
    match node.op_type:
        case "Flatten" if said.get("axis", 1) == 1:
            return Affine(lambda x: x.flatten(1), lambda x: x.flatten(1))
        case "Gemm" if not said.get("transA") and said.get("alpha", 1.0) == said.get("beta", 1.0) == 1.0:
            matrix = weights[0] if said.get("transB") else weights[0].T
            return Affine(
                lambda x: functional.linear(x, matrix, weights[1]), lambda x: functional.linear(x, matrix.abs())
            )
        case "Conv" if said.get("auto_pad", b"NOTSET") == b"NOTSET":
            pads = said.get("pads", [0, 0, 0, 0])
            strides, dilations = said.get("strides", [1, 1]), said.get("dilations", [1, 1])
            bias = weights[1] if len(weights) > 1 else None

            def conv(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
                padded = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]))
                return functional.conv2d(padded, kernel, bias, strides, 0, dilations, said.get("group", 1))

            return Affine(lambda x: conv(x, weights[0], bias), lambda x: conv(x, weights[0].abs(), None))
    raise ValueError(f"expected Conv, Gemm, Flatten or Relu, as plain as can be, got {node.op_type}")


def _after(parts: Sequence[Affine]) -> Affine:
    held = tuple(parts)

    def through(x: Tensor, what: Callable[[Affine], Map]) -> Tensor:
        for part in held:
            x = what(part)(x)
        return x

    return Affine(lambda x: through(x, lambda part: part.run), lambda x: through(x, lambda part: part.spread))


def outputs(chain: Chain, images: Tensor) -> Tensor:
    """Its logits: pixels `(n, c, h, w)` in [0, 1] -> `(n, K)`."""
    x = images
    for layer in chain.layers[:-1]:
        x = layer.run(x).relu()
    return chain.layers[-1].run(x)


@torch.no_grad()
def certified(chain: Chain, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """`(n,)` bool: no image within ε of this one, in [0, 1], has another label.

    `images` `(n, c, h, w)` float32 in [0, 1], `labels` `(n,)`.
    """
    return torch.cat(
        [margins(chain, x[None], int(y), epsilon) > SLACK for x, y in zip(images, labels, strict=True)] or [labels > 0]
    )


def margins(chain: Chain, image: Tensor, label: int, epsilon: float) -> Tensor:
    """`(1,)`: a lower bound of the label's logit less the largest other, over the ball around one image."""
    low, high = (image - epsilon).clamp(0, 1), (image + epsilon).clamp(0, 1)
    bounds: list[tuple[Tensor, Tensor]] = []
    inside = (low, high)
    for depth, layer in enumerate(chain.layers[:-1]):
        middle, radius = layer.run((inside[0] + inside[1]) / 2)[0], layer.spread((inside[1] - inside[0]) / 2)[0]
        least, most = middle - radius, middle + radius
        # An interval is the cheaper bound, and all that a ReLU needs whose sign it settles.
        open_ = ((least < 0) & (most > 0)).flatten().nonzero()[:, 0] if depth else torch.zeros(0, dtype=torch.long)
        flat = least.flatten(), most.flatten()
        for some in open_.split(ROWS):
            rows = functional.one_hot(some, least.numel()).float().reshape(-1, *least.shape)
            flat[0][some] = flat[0][some].maximum(_lowest(chain, depth, rows, bounds, low, high))
            flat[1][some] = flat[1][some].minimum(-_lowest(chain, depth, -rows, bounds, low, high))
        bounds.append((flat[0].reshape(least.shape), flat[1].reshape(least.shape)))
        inside = bounds[-1][0].relu()[None], bounds[-1][1].relu()[None]
    classes = chain.layers[-1].run(inside[0]).shape[1]
    rows = -torch.eye(classes)
    rows[:, label] += 1
    others = torch.arange(classes) != label
    return _lowest(chain, len(chain.layers) - 1, rows[others], bounds, low, high).amin()[None]


def _lowest(
    chain: Chain, depth: int, rows: Tensor, bounds: Sequence[tuple[Tensor, Tensor]], low: Tensor, high: Tensor
) -> Tensor:
    """`(r,)`: lower bounds of `rows` `(r, *out)` times the output of affine layer `depth`, before its ReLU."""
    constant = torch.zeros(len(rows))
    shapes = [low.shape[1:], *(b[0].shape for b in bounds)]
    for at in range(depth, -1, -1):
        rows, constant = _through(chain.layers[at], shapes[at], rows, constant)
        if at:
            least, most = bounds[at - 1]
            unstable = (least < 0) & (most > 0)
            slope = torch.where(unstable, most / (most - least).clamp(min=1e-12), (least >= 0).float())
            below = torch.where(unstable, (most > -least).float(), slope)
            negative = rows.clamp(max=0)
            constant = constant + (negative * torch.where(unstable, -slope * least, 0.0)).flatten(1).sum(1)
            rows = rows.clamp(min=0) * below + negative * slope
    return constant + (rows.clamp(min=0) * low + rows.clamp(max=0) * high).flatten(1).sum(1)


def _through(layer: Affine, shape: torch.Size, rows: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
    """An affine layer's transpose, and what its bias adds."""
    with torch.enable_grad():
        x = torch.zeros(len(rows), *shape, requires_grad=True)
        out = layer.run(x)
        back = torch.autograd.grad((out * rows).sum(), x)[0]
    return back, constant + (out.detach() * rows).flatten(1).sum(1)
