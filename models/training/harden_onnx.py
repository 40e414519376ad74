"""An ONNX classifier as a torch module whose weights can be trained, and back into the same graph."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnx2fx
import torch
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_model
from torch import Tensor, nn

from ...bench.errors import one_line
from ..head import Output
from ..onnx.check import ModelFileError
from ..onnx.graph import before_softmax, real_inputs, with_any_batch, with_one_output, with_plain_names
from ..onnx.ports import ANY, Names, input_port
from ..preprocess import Preprocess

_WEIGHTED = {"Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "BatchNormalization": (1, 2), "PRelu": (1,)}
"""Operators that are trained, and which of their inputs are weights. A batch norm's statistics stay as they are."""


class TrainableOnnx(nn.Module):
    """Images `(n, c, h, w)` float32 in [0, 1] -> logits `(n, columns)`, as the graph answers, in torch.

    Its parameters are the float32 weights of the graph's convolutions, linear layers, batch norms and PReLUs, biases
    that are added to a matrix product included. Everything else stays as it is in the file: constants, and the
    statistics of batch norms, which are used and not updated, in training mode too.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        *,
        shape: tuple[int, int, int],
        device: torch.device,
        preprocess: Preprocess,
        output: Output,
        names: Names = ANY,
        widen: bool = False,
    ):
        """`folder` is where external data lies; `widen` adds an output, the last, which starts from zero weights.

        Raises ModelFileError: unsupported, input, outputs.
        """
        super().__init__()
        self.model = copy.deepcopy(model)
        load_external_data_for_model(self.model, str(folder))
        self.port = input_port(self.model, names.input, preprocess, shape)
        if self.port.dtype != torch.float32:
            raise _unsupported(f"one whose input takes {self.port.dtype}, not float32")
        self.prepare = preprocess.on(shape[0], device)
        self.output = _output(self.model, names.output)
        inner = before_softmax(self.model, self.output) if output == "probabilities" else self.output
        if inner is None:
            raise _unsupported("probabilities that come from no Softmax, so there are no logits to train")
        self.logits = inner
        if widen:
            _widen(self.model, inner)
        self._convert(device)

    def _convert(self, device: torch.device) -> None:
        graph = with_one_output(self.model, self.logits)
        if self.port.batch is not None:
            graph = with_any_batch(graph, self.port.name, self.port.batch)
        plain = with_plain_names(graph)
        try:
            self.body: nn.Module = onnx2fx.convert(plain).to(device)
        except Exception as error:  # whatever a third party's converter may raise
            raise _unsupported(f"one that cannot be turned into torch ({one_line(error)})") from error
        wanted = _weights(graph)
        self.names: dict[str, str] = {}
        for theirs, ours in zip(graph.graph.initializer, plain.graph.initializer, strict=True):
            value = dict(self.body.named_buffers(recurse=False)).get(ours.name)
            if theirs.name in wanted and value is not None and value.dtype == torch.float32:
                delattr(self.body, ours.name)
                self.body.register_parameter(ours.name, nn.Parameter(value.clone()))
                self.names[theirs.name] = ours.name
        if not self.names:
            raise _unsupported("no weights of convolutions or linear layers")

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        logits = self.body(self.port.shaped(self.prepare(images)))
        logits = logits[0] if isinstance(logits, tuple | list) else logits
        return logits.reshape(len(images), -1)

    def to_onnx(self) -> bytes:
        """The file's graph with the weights as they are now, and nothing kept outside it."""
        model = copy.deepcopy(self.model)
        values = {name: self.body.get_parameter(plain) for name, plain in self.names.items()}
        for tensor in model.graph.initializer:
            if tensor.name in values:
                value = values[tensor.name].detach().cpu().numpy()
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
        return model.SerializeToString(deterministic=True)


def _unsupported(got: str) -> ModelFileError:
    return ModelFileError(
        "unsupported",
        "a network that can be trained further",
        got,
        "train one from scratch with --network lenet, mlp or resnet",
    )


def _output(model: onnx.ModelProto, name: str | None) -> str:
    outputs = [value.name for value in model.graph.output]
    if name is None and len(outputs) == 1:
        return outputs[0]
    if name not in outputs:
        raise ModelFileError("outputs", "one output", ", ".join(outputs), "name one with output_name")
    return name


def _weights(model: onnx.ModelProto) -> set[str]:
    """Names of the initializers that are trained."""
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    products = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.output}
    found: set[str] = set()
    for node in model.graph.node:
        places = _WEIGHTED.get(node.op_type, ())
        if node.op_type == "MatMul" or (node.op_type == "Add" and products.intersection(node.input)):
            places = (0, 1)
        found |= {node.input[i] for i in places if i < len(node.input)}
    return (found & stored) - {value.name for value in real_inputs(model)}


def _widen(model: onnx.ModelProto, logits: str) -> None:
    """Give the linear layer that makes `logits` one output more, in place."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, axis in _last_layer(model, logits):
        if name not in stored:
            raise _unsupported("logits that are not those of a linear layer, so no class can be added")
        value = numpy_helper.to_array(stored[name])
        shape = list(value.shape)
        shape[axis] = 1
        wide = np.concatenate([value, np.zeros(shape, value.dtype)], axis)
        stored[name].CopyFrom(numpy_helper.from_array(wide, name))
    del model.graph.value_info[:]
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        if len(dims) == 2:
            dims[1].dim_value += 1 if dims[1].dim_value else 0


def _last_layer(model: onnx.ModelProto, name: str) -> list[tuple[str, int]]:
    """The weights and biases of the linear layer that makes `name`, each with the axis of its outputs."""
    makers = {output: node for node in model.graph.node for output in node.output}
    maker = makers.get(name)
    while maker is not None and maker.op_type == "Identity":
        maker = makers.get(maker.input[0])
    if maker is not None and maker.op_type == "Gemm":
        turned = any(a.name == "transB" and a.i for a in maker.attribute)
        return list(zip(maker.input[1:], (0 if turned else 1, -1), strict=False))
    found: list[tuple[str, int]] = []
    if maker is not None and maker.op_type == "Add":
        product, bias = sorted(maker.input, key=lambda name: name not in makers)
        found, maker = [(bias, -1)], makers.get(product)
    if maker is not None and maker.op_type == "MatMul":
        return [*found, (maker.input[1], -1)]
    raise _unsupported("logits that are not those of a linear layer, so no class can be added")
