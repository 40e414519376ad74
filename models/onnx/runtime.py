"""ONNX Runtime sessions as functions of torch tensors, without copies on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from ...bench.errors import Failed, one_line

Raw = Callable[[Tensor], Tensor]
"""The network's input, batch first, float32 on any device -> its chosen output, batch first, on the same device."""


@dataclass(frozen=True)
class Session:
    """One ONNX Runtime session. May be called from several threads at once."""

    ort: ort.InferenceSession
    input: str
    dtype: torch.dtype
    """What the input wants; float32 is cast to it, and rounded first where it is a whole number."""

    def run(self, batch: Tensor, outputs: list[str]) -> list[np.ndarray]:
        """Outputs for one batch, as they come. Raises RuntimeError with a clear sentence where the network fails."""
        if not self.dtype.is_floating_point:
            batch = batch.round()
        array = batch.detach().to("cpu", self.dtype).contiguous().numpy()
        try:
            return [np.asarray(array) for array in self.ort.run(outputs, {self.input: array})]
        except Exception as error:
            raise Failed(
                f"the network to answer {len(batch)} images",
                f"a failure of ONNX Runtime ({one_line(error)})",
                "check that the file runs in ONNX Runtime on its own",
            ) from error


def open_session(
    model: onnx.ModelProto,
    folder: Path,
    name: str,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> Session:
    """Open a session on a graph in memory; its external data, if any, is read from `folder`.

    Sequential, one thread inside an operator, on the CPU unless a CUDA device is given. TF32 is off there, so that
    answers are float32's.
    Raises whatever ONNX Runtime raises where it refuses the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if device is not None:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(device.index or 0), "use_tf32": "0"}))
    return Session(ort.InferenceSession(model.SerializeToString(), options, providers=providers), name, dtype)


def answering(session: Session, output: str) -> Raw:
    """Answer any batch at once."""

    def run(batch: Tensor) -> Tensor:
        (array,) = session.run(batch, [output])
        return torch.from_numpy(array).to(batch.device)

    return run


def in_batches_of(size: int, run: Raw) -> Raw:
    """Answer any batch in batches of exactly `size`, the last one filled up with its last image."""

    def chunked(batch: Tensor) -> Tensor:
        answered = []
        for part in batch.split(size):
            n = len(part)
            if n < size:
                part = torch.cat([part, part[-1:].expand(size - n, *part.shape[1:])])
            rows = run(part)
            answered.append(rows.reshape(size, -1)[:n])
        return torch.cat(answered)

    return chunked


def first_line(error: BaseException) -> str:
    """Return an error's message in one line of at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
