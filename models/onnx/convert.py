"""ONNX graphs as torch modules, for gradients and for the GPU."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import onnx2fx
import torch
from onnx.external_data_helper import load_external_data_for_model
from torch import Tensor, fx

from ..head import Output
from ..memory import Room, out_of_memory
from .graph import before_softmax, with_one_output, with_plain_names
from .opened import Opened
from .runtime import Raw, first_line
from .straight_through import straight_through


@dataclass(frozen=True)
class TorchCopy:
    """A graph in torch."""

    run: Raw
    """Differentiable."""
    precise: Raw | None
    """The same in float64, fed float64; None where the graph does not run in it."""
    output: Output
    """What comes out: "logits" also where the graph's probabilities were cut off before their Softmax."""
    cut: str | None = None
    """Where they were: the name of what comes out in the graph."""


class NoCopyError(ValueError):
    """The graph has no torch copy; the message says why."""


def torch_copy(opened: Opened, output: Output, one: Tensor, room: Room, *, floats: bool = False) -> TorchCopy:
    """Turn an opened graph into torch, on the device of `one`, the input of one image, to try it on.

    With `floats` a graph that rounds becomes a float copy, with the roundings passed straight through.
    Raises NoCopyError, with `floats` also where nothing rounds, and like `load_onnx` where memory does not suffice.
    """
    model, name, dtype = opened.model, opened.output, opened.port.dtype
    if not dtype.is_floating_point:
        raise NoCopyError(f"the network takes whole numbers ({dtype}), which have no gradient")
    inner = before_softmax(model, name) if output == "probabilities" else None
    model = with_one_output(model, inner) if inner else copy.deepcopy(model)
    load_external_data_for_model(model, str(opened.folder))
    try:
        model = straight_through(model) if floats else model
        module = onnx2fx.convert(with_plain_names(model)).eval()
        module = module.to(one.device).requires_grad_(False)
        run = _runner(module, dtype)
        _tried(opened, run, one, room)
    except Exception as error:  # whatever a third party's converter and the graph in it may raise
        if out_of_memory(error):
            raise
        raise NoCopyError(f"the network cannot be turned into torch ({first_line(error)})") from error
    precise = _precise(opened, module, one, room)
    return TorchCopy(run, precise, "logits" if inner else output, inner)


def _tried(opened: Opened, run: Raw, one: Tensor, room: Room) -> Tensor:
    """Answers to a few copies of one image: as many as the graph is bound to, where it is."""

    def copies(count: int) -> Tensor:
        return run(one.expand(count, *one.shape[1:]))

    return copies(opened.batch) if opened.batch else room.fitting(3, copies)


def _runner(module: fx.GraphModule, dtype: torch.dtype) -> Raw:
    def run(batch: Tensor) -> Tensor:
        answer = module(batch.to(dtype))
        return answer[0] if isinstance(answer, tuple | list) else answer

    return run


def _precise(opened: Opened, module: fx.GraphModule, one: Tensor, room: Room) -> Raw | None:
    """Return the module in float64, its casts to float32 and float16 turned into casts to float64."""
    module = copy.deepcopy(module).double()
    for node in module.graph.nodes:
        node.args = tuple(torch.float64 if a in (torch.float32, torch.float16) else a for a in node.args)
    module.recompile()
    run = _runner(module, torch.float64)
    try:
        exact = _tried(opened, run, one, room).dtype == torch.float64
    except Exception as error:
        if out_of_memory(error):
            raise
        return None
    return run if exact else None
