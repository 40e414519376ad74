"""An ONNX file of the panel: one input, one output, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
ML_OPSET = 3


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[np.generic]],
    *,
    shape: tuple[int, int, int],
    output: str,
    classes: int,
    title: str,
) -> bytes:
    """Serialise a classifier whose nodes read `input` `(N, *shape)` float32 and end in `output` `(N, classes)`.

    The batch N is free. Nothing that changes from run to run (dates, versions of the exporter, names of machines)
    goes in, so equal weights give equal bytes. Raises onnx.checker.ValidationError when the nodes do not fit together.
    """
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == "ai.onnx.ml" for node in nodes):
        opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    model = helper.make_model(graph, producer_name="foolbench", opset_imports=opsets, ir_version=8, doc_string=title)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
