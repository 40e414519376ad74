"""A submission that uses every key of an ONNX model, the files that it names, and what is wrong with a changed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from foolbench.bench.errors import InvalidInput, Problem
from foolbench.bench.submission.submission import read_submission

VALID = """\
schema: 1
name: LeNet-5 behind 3-bit squeezing
authors: [A. Author]
battery: digits-v1
model:
  kind: onnx
  path: lenet.onnx
  sha256: 2f782beca6c497e09ee1b67bd6a1202048f19e97f7e1364a58d415ce7b3ecd9e
  input: {size: [8, 8], scale: 1, mean: [0.0], std: [1.0], channels: same, layout: nchw, resize: 8, name: image}
  output: logits
  output_name: scores
  reject_index: 10
defenses:
  - {kind: bit_depth, bits: 3}
  - {kind: jpeg, quality: 75}
  - kind: median
    size: 3
  - {kind: onnx, role: preprocess, path: denoise.onnx, layout: nhwc, scale: 255}
links: {paper: "https://example.org/paper", code: "https://example.org/code"}
"""


def folder_of(tmp_path: Path, text: str | bytes = VALID) -> Path:
    """A folder with the submission and the files it names; the path of the YAML."""
    (tmp_path / "lenet.onnx").write_bytes(b"a network")
    (tmp_path / "denoise.onnx").write_bytes(b"a denoiser")
    path = tmp_path / "submission.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInput) as caught:
        read_submission(path)
    assert caught.value.exit_code == 2
    return caught.value.problems


def shown(problem: Problem) -> str:
    where = problem.where
    return f"{where.line}:{where.column} {problem.code} {where.key}: {problem.message} | {problem.fix}"
