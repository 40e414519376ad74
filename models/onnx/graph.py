"""Pure rewrites of ONNX graphs: any batch size, channels first, plain names, the logits before a final Softmax."""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper


def real_inputs(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller must give (old exporters list the weights as inputs too)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def dimensions(kind: TypeProto) -> list[int | None] | None:
    """Return a tensor type's shape: None for what is left open, None altogether where no shape is given."""
    if not kind.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.tensor_type.shape.dim]


def with_any_batch(model: ModelProto, name: str, batch: int) -> ModelProto:
    """Copy a graph whose input `name` has its batch size written in, with that size left open.

    The input's and outputs' first dimension become symbolic, inferred shapes are dropped, and a Reshape of something
    computed from the input to a constant shape that begins with `batch` begins with the input's own size instead.
    Whether the result answers as the file does must be tested: a batch size may be written in elsewhere too.
    """
    model = copy.deepcopy(model)
    graph = model.graph
    del graph.value_info[:]
    for value in (*(v for v in graph.input if v.name == name), *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    written, computed, fresh_nodes = constants(graph), {name}, []
    for node in graph.node:
        if not computed.intersection(node.input):
            continue
        computed.update(node.output)
        if node.op_type == "Reshape" and len(node.input) == 2 and node.input[1] in written:
            shape = numpy_helper.to_array(written[node.input[1]])
            if node.input[0] in computed and shape.ndim == 1 and shape.size and shape[0] == batch:
                # 0 means "as in the input" to Reshape; -1, which may stand there once, also survives a flattening
                first = 0 if -1 in shape[1:] else -1
                fresh = f"{node.output[0]}/shape of any batch"
                open_shape = np.concatenate([[first], shape[1:]]).astype(np.int64)
                # a node, since old graphs want every initializer among their inputs
                value = numpy_helper.from_array(open_shape)
                fresh_nodes.append(helper.make_node("Constant", [], [fresh], value=value))
                node.input[1] = fresh
    for node in fresh_nodes:
        graph.node.insert(0, node)
    return model


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return what is written into a graph, as initializer or as a node of its own, by name."""
    tensors = {t.name: t for t in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensors[node.output[0]] = attribute.t
    return tensors


def with_channels_first(model: ModelProto, name: str) -> ModelProto:
    """Copy a graph whose input `name` is `(n, h, w, c)`, and have it take `(n, c, h, w)`.

    Networks exported from TensorFlow turn it round themselves, and ONNX Runtime then removes both turns.
    """
    model = copy.deepcopy(model)
    graph = model.graph
    inner = f"{name}/channels last"
    for node in graph.node:
        node.input[:] = [inner if read == name else read for read in node.input]
    for value in graph.input:
        if value.name == name:
            dims = value.type.tensor_type.shape.dim
            turned = [copy.deepcopy(dims[i]) for i in (0, 3, 1, 2)]
            del dims[:]
            dims.extend(turned)
    del graph.value_info[:]
    graph.node.insert(0, helper.make_node("Transpose", [name], [inner], perm=[0, 2, 3, 1]))
    return model


def with_one_output(model: ModelProto, name: str) -> ModelProto:
    """Copy a graph and keep one output, and only the nodes it needs."""
    model = copy.deepcopy(model)
    graph = model.graph
    kept = [value for value in graph.output if value.name == name]
    del graph.output[:]
    graph.output.extend(kept or [helper.make_empty_tensor_value_info(name)])
    needed, nodes = {name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(copy.deepcopy(node))
            needed.update(_reads(node))
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    weights = [copy.deepcopy(t) for t in graph.initializer if t.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    return model


def before_softmax(model: ModelProto, name: str) -> str | None:
    """Return the name of what the Softmax that makes output `name` is computed from, None where no Softmax makes it.

    Identity and float Cast between them are passed over.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    while (node := makers.get(name)) is not None:
        if node.op_type == "Softmax" and not node.domain:
            return node.input[0]
        if node.op_type not in ("Identity", "Cast"):
            return None
        name = node.input[0]
    return None


def with_plain_names(model: ModelProto) -> ModelProto:
    """Copy a graph and rename its values `v0`, `v1`, ..., so that no two become one when made into identifiers.

    Graphs with subgraphs (If, Loop), whose names reach inwards, come back as they are.
    """
    if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for n in model.graph.node for a in n.attribute):
        return model
    model = copy.deepcopy(model)
    graph = model.graph
    plain: dict[str, str] = {"": ""}

    def rename(name: str) -> str:
        return plain.setdefault(name, f"v{len(plain)}")

    for named in (*graph.input, *graph.initializer, *graph.output):
        named.name = rename(named.name)
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [rename(name) for name in names]
    del graph.value_info[:]
    return model


def _reads(node: NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
        for graph in graphs:
            for inner in graph.node:
                names |= _reads(inner)
            names.update(value.name for value in graph.output)
    return names
