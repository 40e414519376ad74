"""Where images go into an ONNX graph, and which of its outputs is the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from ..head import Head
from ..preprocess import Preprocess
from .check import ModelFileError, WrongCount
from .graph import dimensions, real_inputs
from .runtime import Session

_TYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
}
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
_WHOLE = ("tensor(uint8)", "tensor(int8)", "tensor(int32)", "tensor(int64)")


@dataclass(frozen=True)
class Names:
    """Which of a graph's inputs takes the images, and which of its outputs is the answer."""

    input: str | None = None
    """None: the only one."""
    output: str | None = None
    """None: the only one with the right number of columns."""


ANY = Names()


@dataclass(frozen=True)
class Port:
    """A graph's input."""

    name: str
    dtype: torch.dtype
    batch: int | None
    """The batch size written into the file; None where any will do."""
    shape: tuple[int, ...]
    """What each image is reshaped to: that of the graph where pixels come flat."""

    def shaped(self, prepared: Tensor) -> Tensor:
        """Give preprocessed images the graph's shape."""
        return prepared.reshape(len(prepared), *self.shape)


def input_port(model: onnx.ModelProto, name: str | None, preprocess: Preprocess, shape: tuple[int, int, int]) -> Port:
    """Find a graph's input and check that preprocessed images fit it. Raises ModelFileError (input)."""
    value, dtype = _only_input(model, name)
    prepared = tuple(preprocess(torch.zeros(1, *shape)).shape[1:])
    dims = dimensions(value.type)
    if dims is None:
        return Port(value.name, dtype, None, prepared)
    batch, rest = (dims[0], dims[1:]) if dims else (None, [])
    taken = _flattened(rest, prepared) if preprocess.layout == "flat" else _as_it_is(rest, prepared)
    if taken is None:
        wanted = ", ".join("?" if d is None else str(d) for d in dims)
        raise ModelFileError(
            "input",
            f"images of the network's input shape ({wanted})",
            f"(n, {', '.join(map(str, prepared))}) after preprocessing",
            "set size to the height and width the network takes and layout to nchw, nhwc or flat; "
            "gray and RGB are not turned into each other",
        )
    return Port(value.name, dtype, batch, taken)


def _only_input(model: onnx.ModelProto, name: str | None) -> tuple[onnx.ValueInfoProto, torch.dtype]:
    """The graph's one input, which must have this name where one is given, and its type."""
    inputs = real_inputs(model)
    names = ", ".join(repr(value.name) for value in inputs)
    if len(inputs) != 1:
        raise ModelFileError(
            "input",
            "one input",
            f"{len(inputs)} ({names})" if inputs else "none",
            "export the network with the image as only input",
        )
    value = inputs[0]
    if name not in (None, value.name):
        raise ModelFileError(
            "input", f"an input named {name!r}", names, "write that as its `name`, or leave `name` out"
        )
    dtype = _TYPES.get(value.type.tensor_type.elem_type)
    if dtype is None:
        kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        raise ModelFileError("input", "an input of floats or whole numbers", kind, "export the network in float32")
    return value, dtype


def _flattened(dims: Sequence[int | None], prepared: tuple[int, ...]) -> tuple[int, ...] | None:
    """The graph's shape of an image whose pixels come flat, what is left open filled in; None where they do not fit."""
    known, pixels = math.prod(d for d in dims if d is not None), math.prod(prepared)
    if dims.count(None) > 1 or not known or pixels % known or (None not in dims and pixels != known):
        return None
    return tuple(pixels // known if d is None else d for d in dims)


def _as_it_is(dims: Sequence[int | None], prepared: tuple[int, ...]) -> tuple[int, ...] | None:
    """A prepared image's own shape; None where the graph takes another."""
    fits = len(dims) == len(prepared) and all(d in (None, p) for d, p in zip(dims, prepared, strict=True))
    return prepared if fits else None


def chosen_output(session: Session, name: str | None, head: Head, fed: Tensor, batch: int) -> str:
    """Find the output with `head.columns` numbers an image, by running one batch.

    Raises ModelFileError: outputs where there is none or a choice, classes (a WrongCount) where the number is another.
    """
    outputs, tensors = _tensors(session, name)
    part = fed[:batch] if len(fed) >= batch else fed[:1].expand(batch, *fed.shape[1:])
    columns = {n: a.size / batch for n, a in zip(tensors, session.run(part, tensors), strict=True)}
    fitting = [n for n in tensors if columns[n] == head.columns]
    # labels, which are whole numbers, only count where nothing else does
    chosen = [n for n in fitting if outputs[n] in _FLOATS] or fitting
    if len(chosen) > 1:
        raise ModelFileError(
            "outputs",
            f"one output with {head.columns} numbers an image",
            ", ".join(map(repr, chosen)),
            "say which with output_name",
        )
    if not chosen:
        floats = [n for n in tensors if outputs[n] in _FLOATS] or tensors
        raise _wrong_count({n: columns[n] for n in floats}, head)
    return chosen[0]


def _tensors(session: Session, name: str | None) -> tuple[dict[str, str], list[str]]:
    """The types of all outputs by name, and the names of those that may be meant: tensors of numbers."""
    outputs = {o.name: o.type for o in session.ort.get_outputs()}
    listed = ", ".join(f"{n!r} ({t})" for n, t in outputs.items())
    if name is not None and name not in outputs:
        raise ModelFileError("outputs", f"an output {name!r}", listed, "name one of these")
    tensors = [n for n, t in outputs.items() if t in (*_FLOATS, *_WHOLE) and name in (None, n)]
    if not tensors:
        raise ModelFileError(
            "outputs",
            "an output that is a tensor of numbers",
            listed,
            "export without sequences and maps (skl2onnx: options={'zipmap': False})",
        )
    return outputs, tensors


def _wrong_count(counts: dict[str, float], head: Head) -> WrongCount:
    """What to raise where no output has the number that was declared; `counts` by the outputs' names."""
    rejecting = "" if head.reject_index is None else " and one for none of them"
    off_by_one = any(count == head.columns + 1 for count in counts.values()) and not rejecting
    return WrongCount(
        counts,
        f"{head.columns} numbers an image, one for each of {head.classes} classes{rejecting}",
        "if one of them means none of the classes, say which with reject_index"
        if off_by_one
        else "take a network for these classes, or drop reject_index"
        if rejecting
        else "take a network for these classes",
    )
