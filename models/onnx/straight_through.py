"""Quantised graphs as float graphs: every rounding passed straight through, so that a gradient comes back.

A tensor of integers `q` with scale `s` and zero point `z` becomes the floats `s * (q - z)` that it stands for; where it
is made by rounding, the rounding is left out and the range of `q` is kept, since exporters fold a ReLU into it. It is
the straight-through estimator (Bengio, Léonard and Courville 2013) written into the graph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from .graph import constants

Made = list[NodeProto]


class NotFoldedError(ValueError):
    """A quantised graph that is not turned into a float one; the message says why."""


def straight_through(model: ModelProto) -> ModelProto:
    """Copy a graph, its external data loaded, with roundings passed straight through.

    Known: QuantizeLinear and DequantizeLinear; QLinearConv, QLinearMatMul and the QLinear operators and QGemm of
    ONNX Runtime; DynamicQuantizeLinear with MatMulInteger and ConvInteger; Round. Other operators between them
    see floats.

    Raises NotFoldedError where nothing rounds, where a scale or a zero point is computed, or where tensors are
    dequantised otherwise than they were quantised.
    """
    if not any(_rewriter(node) for node in model.graph.node):
        raise NotFoldedError("nothing in the graph rounds")
    model = copy.deepcopy(model)
    graph = model.graph
    folding = _Folding(graph, next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))
    nodes: Made = []
    for node in graph.node:
        rewrite = _rewriter(node)
        nodes += [node] if rewrite is None else rewrite(folding, node)
    kept = [copy.deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend([*folding.made, *kept])
    del graph.value_info[:]
    return model


class _Folding:
    """What is known of the graph while it is rewritten."""

    def __init__(self, graph: GraphProto, opset: int) -> None:
        self.constants = {name: numpy_helper.to_array(tensor) for name, tensor in constants(graph).items()}
        self.opset = opset
        self.made: Made = []
        """Constant nodes, since old graphs want every initializer among their inputs."""
        self.scales: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        """Scale and zero point of each quantised tensor, by name."""

    def value(self, name: str) -> np.ndarray:
        """What is written into the graph under a name. Raises NotFoldedError."""
        if name not in self.constants:
            raise NotFoldedError(f"the scale, zero point or weight {name!r} of a quantised operator is computed")
        return self.constants[name]

    def scale(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point, by their names; the latter may be left out."""
        scale = self.value(names[0])
        zero = self.value(names[1]) if len(names) > 1 and names[1] else np.zeros_like(scale, np.uint8)
        return scale, zero

    def constant(self, value: np.ndarray | np.floating) -> str:
        """The name of a new float32 constant."""
        name = f"straight through/{len(self.made)}"
        tensor = numpy_helper.from_array(np.asarray(value, np.float32))
        self.made.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def float_of(self, name: str, scale: np.ndarray, zero: np.ndarray, axis: int = 0) -> str:
        """The name of a quantised operand as floats: a constant is dequantised, anything else is floats already."""
        if name in self.constants:
            return self.constant(dequantised(self.constants[name], scale, zero, axis))
        kept = self.scales.get(name)
        if kept is not None and not (np.array_equal(kept[0], scale) and np.array_equal(kept[1], zero)):
            raise NotFoldedError(f"{name!r} is dequantised otherwise than it was quantised")
        return name

    def quantised(self, made: str, name: str, scale: np.ndarray, zero: np.ndarray) -> NodeProto:
        """Cut the floats `made` to the range of what they would be rounded to, and call them `name`."""
        self.scales[name] = scale, zero
        if scale.size > 1:
            raise NotFoldedError(f"{name!r} is quantised channel by channel")
        kind = np.iinfo(zero.dtype)
        low, high = (float(((end - zero.astype(np.float64)) * scale).reshape(())) for end in (kind.min, kind.max))
        if self.opset < 11:
            return helper.make_node("Clip", [made], [name], min=low, max=high)
        bounds = [self.constant(np.float32(end)) for end in (low, high)]
        return helper.make_node("Clip", [made, *bounds], [name])


def dequantised(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 0) -> np.ndarray:
    """`scale * (values - zero)` in float32; one scale, or one for each place along `axis`."""
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    else:
        shape = []
    centred = values.astype(np.float64) - zero.astype(np.float64).reshape(shape if zero.size > 1 else [])
    return (centred * scale.astype(np.float64).reshape(shape)).astype(np.float32)


def _quantize(folding: _Folding, node: NodeProto) -> Made:
    scale, zero = folding.scale(node.input[1:3])
    name, values = node.output[0], folding.constants.get(node.input[0])
    if values is None:
        return [folding.quantised(node.input[0], name, scale, zero)]
    kind, shape = np.iinfo(zero.dtype), [1] * values.ndim
    shape[_attribute(node, "axis", 1)] = -1
    scale, zero = (x.reshape(shape) if x.size > 1 else x.reshape(()) for x in (scale, zero.astype(np.int64)))
    folding.constants[name] = np.clip(np.rint(values / scale) + zero, kind.min, kind.max).astype(kind.dtype)
    return []


def _dequantize(folding: _Folding, node: NodeProto) -> Made:
    values = folding.float_of(node.input[0], *folding.scale(node.input[1:3]), axis=_attribute(node, "axis", 1))
    return [helper.make_node("Identity", [values], [node.output[0]])]


def _dynamic(folding: _Folding, node: NodeProto) -> Made:
    """The image's own range, which cuts nothing off: floats of scale 1 with zero point 0."""
    values, scale, zero = node.output
    made = [helper.make_node("Identity", [node.input[0]], [values])]
    made += [helper.make_node("Identity", [folding.constant(np.float32(1))], [scale])] if scale else []
    return made + ([helper.make_node("Identity", [folding.constant(np.float32(0))], [zero])] if zero else [])


def _integer(folding: _Folding, node: NodeProto) -> Made:
    """MatMulInteger and ConvInteger: what is computed from the image is floats already, less its zero point."""
    names = [*node.input, "", ""]
    operands = [
        folding.float_of(names[i], np.ones((), np.float32), folding.value(names[2 + i]), i)
        if names[i] in folding.constants and names[2 + i]
        else folding.float_of(names[i], np.ones((), np.float32), np.zeros((), np.uint8))
        for i in (0, 1)
    ]
    return [_like(node, node.op_type.removesuffix("Integer"), operands, node.output[0])]


def _linear(folding: _Folding, node: NodeProto) -> Made:
    """QLinearConv and QLinearMatMul: operands with their scales, then the output's scale, then a bias."""
    names = list(node.input)
    x = folding.float_of(names[0], *folding.scale(names[1:3]))
    convolves = node.op_type == "QLinearConv"
    w = folding.float_of(names[3], *folding.scale(names[4:6]), axis=0 if convolves else -1)
    operands = [x, w]
    if len(names) > 8 and names[8]:
        scale = folding.value(names[1]).reshape(()) * folding.value(names[4])
        operands.append(folding.constant(folding.value(names[8]) * scale.astype(np.float64)))
    return _cut(folding, node, node.op_type.removeprefix("QLinear"), operands, names[6:8])


def _gemm(folding: _Folding, node: NodeProto) -> Made:
    """QGemm of ONNX Runtime; without an output scale it puts out floats."""
    names = [*node.input, *[""] * (9 - len(node.input))]
    turned = _attribute(node, "transB", 0)
    operands = [
        folding.float_of(names[0], *folding.scale(names[1:3])),
        folding.float_of(names[3], *folding.scale(names[4:6]), axis=0 if turned else 1),
    ]
    if names[6]:
        scale = folding.value(names[1]).reshape(()) * folding.value(names[4])
        operands.append(folding.constant(folding.value(names[6]) * scale.astype(np.float64)))
    if names[7]:
        return _cut(folding, node, "Gemm", operands, names[7:9])
    return [_like(node, "Gemm", operands, node.output[0])]


def _pairs(folding: _Folding, node: NodeProto) -> Made:
    """QLinearAdd and QLinearMul of ONNX Runtime."""
    operands = [folding.float_of(node.input[i], *folding.scale(node.input[i + 1 : i + 3]), axis=-1) for i in (0, 3)]
    return _cut(folding, node, node.op_type.removeprefix("QLinear"), operands, node.input[6:8])


def _single(folding: _Folding, node: NodeProto) -> Made:
    """QLinear operators of one tensor, of ONNX Runtime."""
    if _attribute(node, "channels_last", 0):
        raise NotFoldedError(f"{node.op_type} with channels last")
    x = folding.float_of(node.input[0], *folding.scale(node.input[1:3]))
    return _cut(folding, node, node.op_type.removeprefix("QLinear"), [x], node.input[3:5])


def _concat(folding: _Folding, node: NodeProto) -> Made:
    starts = range(2, len(node.input), 3)
    parts = [folding.float_of(node.input[i], *folding.scale(node.input[i + 1 : i + 3])) for i in starts]
    return _cut(folding, node, "Concat", parts, node.input[:2])


def _identity(folding: _Folding, node: NodeProto) -> Made:
    return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]


def _cut(folding: _Folding, node: NodeProto, op: str, operands: list[str], scale: Sequence[str]) -> Made:
    """The float operator, then the range of the integers that it would be rounded to."""
    whole = f"{node.output[0]}/before rounding"
    return [
        _like(node, op, operands, whole),
        folding.quantised(whole, node.output[0], *folding.scale(scale)),
    ]


def _like(node: NodeProto, op: str, inputs: list[str], output: str) -> NodeProto:
    """A float operator with the attributes of a quantised one, less those of ONNX Runtime's own."""
    made = helper.make_node(op, inputs, [output])
    made.attribute.extend(a for a in node.attribute if a.name not in ("channels_last", "opset"))
    return made


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


Rewriter = Callable[[_Folding, NodeProto], Made]
_REWRITERS: dict[str, Rewriter] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _integer,
    "ConvInteger": _integer,
    "QLinearConv": _linear,
    "QLinearMatMul": _linear,
    "QGemm": _gemm,
    "QLinearAdd": _pairs,
    "QLinearMul": _pairs,
    "QLinearAveragePool": _single,
    "QLinearGlobalAveragePool": _single,
    "QLinearLeakyRelu": _single,
    "QLinearSigmoid": _single,
    "QLinearSoftmax": _single,
    "QLinearConcat": _concat,
    "Round": _identity,
}


def _rewriter(node: NodeProto) -> Rewriter | None:
    return _REWRITERS.get(node.op_type)
