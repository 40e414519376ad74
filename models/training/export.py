"""torch -> ONNX for the panel's own networks.

torch's exporters would do, but the one is deprecated and the other needs a further package, and both write their
version into the file. The panel speaks seven layers, so a translation of them is shorter than the flags.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...bench.errors import Unexpected
from .graph import model_bytes


def export(network: nn.Module, *, shape: tuple[int, int, int], classes: int, title: str) -> bytes:
    """An ONNX file that computes `logits` `(N, classes)` from `input` `(N, *shape)`, as the network does.

    The network must be in evaluation mode (ValueError otherwise); batch norm is folded into the convolution before
    it. Knows Conv2d, BatchNorm2d, Linear, ReLU, MaxPool2d, AdaptiveAvgPool2d(1), Flatten, Identity and sums; raises
    ValueError at anything else.
    """
    if network.training:
        raise Unexpected("a network in evaluation mode", "one in training mode", "call eval() first")
    traced = fx.symbolic_trace(network)
    modules: dict[str, nn.Module] = dict(traced.named_modules())
    folded, skipped = _fold(traced.graph, modules)
    names: dict[fx.Node, str] = {}
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, NDArray[np.generic]] = {}
    last = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            names[node] = "input"
        elif node.op == "call_function" and node.target is operator.add:
            nodes.append(helper.make_node("Add", [names[arg] for arg in node.args], [_name(node, last)]))
            names[node] = _name(node, last)
        elif node.op == "call_module":
            module = modules[node.target]
            source = names[node.args[0]]
            if node in skipped or isinstance(module, nn.Identity):
                names[node] = source
                continue
            nodes.append(_layer(folded.get(node, module), source, _name(node, last), weights))
            names[node] = _name(node, last)
        elif node.op != "output":
            raise Unexpected("layers and sums", f"{node.op} {node.target}", "teach it to export")
    return model_bytes(nodes, weights, shape=shape, output="logits", classes=classes, title=title)


def _name(node: fx.Node, last: object) -> str:
    return "logits" if node is last else node.name


def _fold(graph: fx.Graph, modules: dict[str, nn.Module]) -> tuple[dict[fx.Node, nn.Module], set[fx.Node]]:
    """The convolutions with the batch norm that alone follows each inside, and those batch norms."""
    folded: dict[fx.Node, nn.Module] = {}
    skipped: set[fx.Node] = set()
    for node in graph.nodes:
        norm = modules.get(str(node.target))
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        source = node.args[0]
        convolution = modules.get(str(source.target))
        if not isinstance(convolution, nn.Conv2d) or len(source.users) > 1:
            raise Unexpected(f"a convolution right before {node.target}", source.target, "put one there")
        folded[source] = fuse_conv_bn_eval(convolution, norm)
        skipped.add(node)
    return folded, skipped


def _layer(module: nn.Module, source: str, output: str, weights: dict[str, NDArray[np.generic]]) -> onnx.NodeProto:
    """One layer as one node; its weights go into `weights` under the node's name."""

    def stored() -> Iterator[str]:
        for key in ("weight", "bias"):
            value = getattr(module, key)
            if isinstance(value, torch.Tensor):
                weights[f"{output}.{key}"] = value.detach().numpy()
                yield f"{output}.{key}"

    match module:
        case nn.Conv2d(padding=(top, left)):
            return helper.make_node(
                "Conv",
                [source, *stored()],
                [output],
                kernel_shape=list(module.kernel_size),
                strides=list(module.stride),
                pads=[top, left, top, left],
                dilations=list(module.dilation),
                group=module.groups,
            )
        case nn.Linear():
            return helper.make_node("Gemm", [source, *stored()], [output], transB=1)
        case nn.ReLU():
            return helper.make_node("Relu", [source], [output])
        case nn.MaxPool2d(kernel_size=int(size), stride=int(stride), padding=0, dilation=1, ceil_mode=False):
            return helper.make_node("MaxPool", [source], [output], kernel_shape=[size, size], strides=[stride, stride])
        case nn.AdaptiveAvgPool2d(output_size=1):
            return helper.make_node("GlobalAveragePool", [source], [output])
        case nn.Flatten(start_dim=1, end_dim=-1):
            return helper.make_node("Flatten", [source], [output], axis=1)
    raise Unexpected("one of the panel's layers", module, "teach it to export")
