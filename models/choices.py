"""Words that a user chooses from where a network is run. Imports nothing, so that a command line can show them fast."""

from __future__ import annotations

from typing import Literal

Backend = Literal["auto", "onnxruntime", "torch", "compiled"]
"""Which implementation answers for a network.

`auto` is a fixed rule for the device and the kind of network, from measurements, never by stopwatch: on the CPU ONNX
Runtime answers for files and for timm models (exported), eager torch for a module of one's own; on a GPU eager torch
answers for all, and ONNX Runtime for files that have no certified torch copy."""
