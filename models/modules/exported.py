"""A torch module in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..onnx.quiet import quiet
from ..onnx.runtime import Raw, answering, open_session


def exported(module: nn.Module, some: Tensor) -> Raw:
    """Export a module with torch's exporter and open the graph in ONNX Runtime on the CPU, for any batch size.

    `some` is network input, at least 2 rows, in the module's own dtype. Whether the answers agree is for the caller to
    check. Raises whatever the exporter and ONNX Runtime raise, which is of many kinds.
    """
    with quiet():
        program = torch.onnx.export(
            module, (some[:2],), dynamo=True, dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False
        )
    assert program is not None
    graph = program.model_proto
    session = open_session(graph, Path(), graph.graph.input[0].name, some.dtype)
    return answering(session, graph.graph.output[0].name)
