"""What is refused before a model file is run: each refusal says what was expected, what came and what to do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto

from ...bench.errors import Unexpected, one_line

Kind = Literal[
    "missing",
    "sha256",
    "html",
    "pickle",
    "truncated",
    "custom_operator",
    "external_data",
    "classes",
    "outputs",
    "input",
    "unsupported",
    "backend",
    "nan",
    "changing",
]

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that ONNX Runtime brings along; any other would mean running code that comes with the model."""

_EXPORT = "export the network again, as ONNX or as safetensors"
_CONTAINERS = {b"\x89HDF": "an HDF5 (Keras) file", b"\x1f\x8b": "a gzip file", b"BZh": "a bzip2 file"}


class ModelFileError(Unexpected):
    """A model file that is not run, or whose answers are not what was declared."""

    def __init__(self, kind: Kind, expected: str, got: object, fix: str):
        super().__init__(expected, got, fix)
        self.kind: Kind = kind


class WrongCount(ModelFileError):
    """No output of a graph has as many numbers an image as were expected."""

    def __init__(self, counts: Mapping[str, float], expected: str, fix: str):
        self.counts = counts
        """How many numbers an image each output has that may have been meant, by its name."""
        got = " and ".join(f"{count:g} ({name!r})" for name, count in counts.items())
        super().__init__("classes", expected, got, fix)


def checked_onnx(path: Path, sha256: str | None = None) -> onnx.ModelProto:
    """Read an ONNX file without loading external data, after every check that needs no run.

    Raises ModelFileError: missing, sha256, html, pickle, truncated, custom_operator, external_data, unsupported.
    """
    data = _bytes(path, sha256)
    _refuse_other_formats(path, data)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise ModelFileError(
            "truncated",
            "an ONNX file",
            f"{path.name} ({len(data)} bytes) that does not parse ({one_line(error)})",
            "copy or export it again, all of it",
        ) from error
    if not model.graph.node or not model.graph.output or not model.graph.input:
        raise ModelFileError(
            "truncated",
            "a graph with inputs, nodes and outputs",
            f"{path.name} with {len(model.graph.input)}, {len(model.graph.node)} and {len(model.graph.output)}",
            "copy or export it again, all of it",
        )
    _refuse_custom_operators(model)
    external_files(model, path.parent)
    return model


def external_files(model: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    """Return the files that hold a model's external data, each once, all of them inside `folder`.

    Raises ModelFileError (external_data) for anything that is outside it, missing or too short.
    """
    root = folder.resolve()
    found: dict[Path, None] = {}
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        location = entry.get("location", "")
        target = (root / location).resolve()
        if (
            not location
            or os.path.isabs(location)
            or ".." in Path(location.replace("\\", "/")).parts
            or not target.is_relative_to(root)
        ):
            raise ModelFileError(
                "external_data",
                f"the external data of tensor {tensor.name!r} inside the model's own folder",
                f"{location!r}",
                "put it beside the model, or export one file without external data",
            )
        if not target.is_file():
            raise ModelFileError(
                "external_data",
                f"the external data file {location!r} beside the model",
                "nothing there",
                "copy it too, or export one file without external data",
            )
        try:
            end = int(entry.get("offset") or 0) + int(entry.get("length") or 0)
        except ValueError:
            end = -1
        if not 0 <= end <= target.stat().st_size:
            raise ModelFileError(
                "external_data",
                f"{end} bytes of external data in {location!r}",
                target.stat().st_size,
                "copy or export it again, all of it",
            )
        found[target] = None
    return tuple(found)


def checked_safetensors(path: Path, sha256: str | None = None) -> bytes:
    """Read a safetensors file, after the checks on its bytes.

    Raises ModelFileError: missing, sha256, html, pickle, truncated, unsupported.
    """
    data = _bytes(path, sha256)
    length = int.from_bytes(data[:8], "little")
    # A safetensors header's length can look like a pickle's first bytes, so what it is comes before what it is not.
    if data[8:9] != b"{":
        _refuse_other_formats(path, data)
        raise ModelFileError(
            "unsupported",
            "a safetensors file",
            f"{path.name} without its header",
            "save the weights with safetensors.torch.save_file",
        )
    try:
        header = json.loads(data[8 : 8 + length])
        end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        header, end = None, 0
    if header is None or 8 + length + end != len(data):
        raise ModelFileError(
            "truncated",
            f"the {8 + length + end} bytes that the header of {path.name} announces",
            len(data),
            "copy or save it again, all of it",
        )
    return data


def _bytes(path: Path, sha256: str | None) -> bytes:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing there"
        raise ModelFileError(
            "missing",
            f"a model file at {path}",
            what,
            "put the file there, or correct its path",
        )
    data = path.read_bytes()
    if not data:
        raise ModelFileError("truncated", "a model file", f"{path.name} with 0 bytes", "copy it again")
    if sha256 is not None and (digest := hashlib.sha256(data).hexdigest()) != sha256.lower():
        raise ModelFileError(
            "sha256",
            f"sha256 {sha256.lower()}",
            f"{digest} for {path.name}",
            "restore the file that was declared, or declare this one's sha256",
        )
    return data


def _refuse_other_formats(path: Path, data: bytes) -> None:
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        raise ModelFileError(
            "html",
            "a model file",
            f"a web page in {path.name}",
            "download the file itself (the raw link), not the page that shows it",
        )
    if start.startswith(b"version https://git-lfs"):
        raise ModelFileError(
            "truncated",
            "a model file",
            f"a Git LFS pointer in {path.name}",
            "fetch the file itself with `git lfs pull`",
        )
    if (data[0] == 0x80 and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or data.startswith(b"PK"):
        raise ModelFileError(
            "pickle",
            "a file that holds no code",
            f"a pickle or zip (a torch.save or joblib file) in {path.name}",
            _EXPORT,
        )
    for magic, what in _CONTAINERS.items():
        if data.startswith(magic):
            raise ModelFileError("unsupported", "an ONNX or safetensors file", f"{what} in {path.name}", _EXPORT)


def _refuse_custom_operators(model: onnx.ModelProto) -> None:
    own = {(f.domain, f.name) for f in model.functions}  # bodies made of ordinary operators; these are checked too
    bodies = [model.graph.node, *(f.node for f in model.functions)]
    custom = sorted(
        {
            f"{n.domain}::{n.op_type}"
            for body in bodies
            for n in nodes_of(body)
            if n.domain not in DOMAINS and (n.domain, n.op_type) not in own
        }
    )
    if custom:
        raise ModelFileError(
            "custom_operator",
            "standard ONNX operators only",
            ", ".join(custom),
            "export the network without custom operators",
        )


def nodes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of subgraphs too."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node.attribute):
            yield from nodes_of(graph.node)


def _subgraphs(attributes: Iterable[AttributeProto]) -> Iterator[onnx.GraphProto]:
    for attribute in attributes:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    def of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        yield from of_nodes(graph.node)

    def of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    yield attribute.t
                yield from attribute.tensors
                sparse = [attribute.sparse_tensor] if attribute.type == AttributeProto.SPARSE_TENSOR else []
                for tensor in (*sparse, *attribute.sparse_tensors):
                    yield from (tensor.values, tensor.indices)
            for graph in _subgraphs(node.attribute):
                yield from of_graph(graph)

    yield from of_graph(model.graph)
    for function in model.functions:
        yield from of_nodes(function.node)
