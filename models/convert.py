"""ONNX graphs as torch modules, for gradients and for the GPU."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx2fx
import torch
from onnx.external_data_helper import load_external_data_for_model
from torch import Tensor, fx

from .graph import before_softmax, with_one_output, with_plain_names
from .head import Output
from .runtime import Raw, first_line


@dataclass(frozen=True)
class TorchCopy:
    """A graph in torch."""

    run: Raw
    """Differentiable."""
    precise: Raw | None
    """The same in float64, fed float64; None where the graph does not run in it."""
    output: Output
    """What comes out: "logits" also where the graph's probabilities were cut off before their Softmax."""


class NoCopyError(ValueError):
    """The graph has no torch copy; the message says why."""


def torch_copy(
    model: onnx.ModelProto, name: str, output: Output, folder: Path, dtype: torch.dtype, some: Tensor
) -> TorchCopy:
    """Turn a graph with the one output `name` into torch, on the device of `some`, input to try it on.

    Raises NoCopyError.
    """
    if not dtype.is_floating_point:
        raise NoCopyError(f"the network takes whole numbers ({dtype}), which have no gradient")
    inner = before_softmax(model, name) if output == "probabilities" else None
    model = with_one_output(model, inner) if inner else copy.deepcopy(model)
    load_external_data_for_model(model, str(folder))
    try:
        module = onnx2fx.convert(with_plain_names(model)).eval()
        module = module.to(some.device).requires_grad_(False)
        run = _runner(module, dtype)
        run(some)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a third party's converter and the graph in it may raise
        raise NoCopyError(f"the network cannot be turned into torch ({first_line(error)})") from error
    return TorchCopy(run, _precise(module, some), "logits" if inner else output)


def _runner(module: fx.GraphModule, dtype: torch.dtype) -> Raw:
    def run(batch: Tensor) -> Tensor:
        answer = module(batch.to(dtype))
        return answer[0] if isinstance(answer, tuple | list) else answer

    return run


def _precise(module: fx.GraphModule, some: Tensor) -> Raw | None:
    """Return the module in float64, its casts to float32 and float16 turned into casts to float64."""
    module = copy.deepcopy(module).double()
    for node in module.graph.nodes:
        node.args = tuple(torch.float64 if a in (torch.float32, torch.float16) else a for a in node.args)
    module.recompile()
    run = _runner(module, torch.float64)
    try:
        exact = run(some).dtype == torch.float64
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return None
    return run if exact else None
