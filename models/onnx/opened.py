"""An ONNX file in ONNX Runtime, at any batch size if it can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

from ...bench.errors import one_line
from ..head import Head
from ..loaded import agree, refuse_change
from ..memory import Room, out_of_memory
from .check import ModelFileError
from .graph import with_any_batch, with_channels_first, with_one_output
from .ports import Port, chosen_output
from .runtime import Raw, Session, answering, in_batches_of, open_session


@dataclass(frozen=True)
class Opened:
    """A graph that answers."""

    model: onnx.ModelProto
    """What runs: the file's graph with one output and, where that worked, its batch size opened."""
    folder: Path
    port: Port
    output: str
    run: Raw
    """On the CPU, any number of images."""
    as_it_is: Raw
    """The file itself, untouched, in its own batch size (one by one, where it has none)."""
    batch: int | None
    """The batch size that `model` is bound to, None where it takes any."""


def open_file(
    model: onnx.ModelProto,
    folder: Path,
    port: Port,
    head: Head,
    output: str | None,
    trial: Tensor,
    room: Room,
) -> Opened:
    """Open a checked graph. `trial` is network input made of at least 2 real images, of which `room` bounds how many
    are asked about at once.

    Raises ModelFileError: unsupported, outputs, classes, changing.
    """
    own = _session(model, folder, port)
    batch = port.batch or 1
    name = chosen_output(own, output, head, trial, batch)
    as_it_is = in_batches_of(batch, answering(own, name))
    truth = head.scores(as_it_is(trial))
    refuse_change(truth, head.scores(as_it_is(trial)))

    def same(run: Raw, most: int) -> bool:
        # a second size, so that a number written in that happens to be the first one is noticed
        sizes = (most, max(1, most - 1))
        return all(agree(truth[:n], head.scores(run(trial[:n]).reshape(n, -1))) for n in sizes)

    def right(run: Raw) -> bool:
        try:
            return room.fitting(len(trial), lambda most: same(run, most))
        except RuntimeError:
            return False

    def rewritten(graph: onnx.ModelProto) -> Raw | None:
        try:
            return answering(_session(graph, folder, port), name)
        except ModelFileError:
            return None

    model = with_one_output(model, name)
    run: Raw | None = answering(own, name)
    if port.batch is not None or not right(run):
        anyhow = with_any_batch(model, port.name, batch)
        run = rewritten(anyhow)
        if run is None or not right(run):
            return Opened(model, folder, port, name, as_it_is, as_it_is, batch)
        model = anyhow
    if not trial.is_contiguous():  # channels last: a view here, which the graph as it is would need copied
        first = rewritten(with_channels_first(model, port.name))
        turned = None if first is None else lambda batch: first(batch.permute(0, 3, 1, 2))
        run = turned if turned is not None and right(turned) else run
    return Opened(model, folder, port, name, run, as_it_is, None)


def open_on_cuda(opened: Opened, head: Head, trial: Tensor, device: torch.device, room: Room) -> Raw | None:
    """Open the same graph on a CUDA device, None where ONNX Runtime cannot or answers otherwise there."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    try:
        session = _session(opened.model, opened.folder, opened.port, device)
        if "CUDAExecutionProvider" not in session.ort.get_providers():
            return None
        run = answering(session, opened.output)
        run = in_batches_of(opened.batch, run) if opened.batch else run
        same = agree(*(head.scores(room.answered(trial, each)) for each in (opened.run, run)))
    except (ModelFileError, RuntimeError):
        return None
    return run if same else None


def _session(model: onnx.ModelProto, folder: Path, port: Port, device: torch.device | None = None) -> Session:
    try:
        return open_session(model, folder, port.name, port.dtype, device)
    except Exception as error:  # ONNX Runtime's own errors derive from Exception alone
        if out_of_memory(error):
            raise
        raise ModelFileError(
            "unsupported",
            f"a graph that ONNX Runtime {onnxruntime.__version__} runs",
            f"one that it refuses ({one_line(error)})",
            "export the network again with standard operators of an opset it knows",
        ) from error
