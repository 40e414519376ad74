"""What a submission that is right means: its digest, its JSON Schema, its reader; and that every error is explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from foolbench.bench.cli.explain import EXPLANATIONS
from foolbench.bench.errors import InvalidInput
from foolbench.bench.reading.source import read_source, read_yaml
from foolbench.bench.submission.submission import Submission, json_schema, read_submission
from pydantic import BaseModel
from valid_submission import VALID, folder_of, shown

ROOT = Path(__file__).parents[1]


def test_a_valid_submission_is_read(tmp_path):
    submission = read_submission(folder_of(tmp_path))
    assert submission.spec.model.kind == "onnx"
    assert submission.spec.model.input.size == (8, 8)
    assert [defense.kind for defense in submission.spec.defenses] == ["bit_depth", "jpeg", "median", "onnx"]
    assert set(submission.files()) == {"lenet.onnx", "denoise.onnx"}
    assert submission.as_given == yaml.safe_load(VALID)
    late = submission.source.where(("defenses", 1, "quality"))
    assert (late.line, late.column, late.key) == (15, 27, "defenses[1].quality")
    assert late.source == "  - {kind: jpeg, quality: 75}"


def test_the_digest_sees_meaning_and_files_only(tmp_path):
    digest = read_submission(folder_of(tmp_path)).digest()
    assert digest == read_submission(folder_of(tmp_path)).digest()
    rewritten = yaml.safe_dump(yaml.safe_load(VALID)) + "# another comment\n"
    assert read_submission(folder_of(tmp_path, rewritten)).digest() == digest
    default = VALID.replace("channels: same, ", "").replace("path: lenet", "path: ./lenet")
    assert read_submission(folder_of(tmp_path, default)).digest() == digest
    changed = read_submission(folder_of(tmp_path, VALID.replace("bits: 3", "bits: 4"))).digest()
    assert changed != digest
    path = folder_of(tmp_path)
    (tmp_path / "denoise.onnx").write_bytes(b"another denoiser")
    assert read_submission(path).digest() not in (digest, changed)


def test_the_json_schema_accepts_what_the_reader_accepts():
    schema = json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["schema"]["const"] == 1
    assert set(schema["required"]) == {"schema", "name", "authors", "battery", "model"}
    assert schema["$defs"]["OnnxModel"]["properties"]["output"]["enum"] == ["logits", "probabilities"]
    every = {**schema["$defs"], "Submission": schema}
    described = [p for d in every.values() for n, p in d.get("properties", {}).items() if "description" in p]
    assert len(described) > 20
    assert set(schema["properties"]) == {field.alias or name for name, field in Submission.model_fields.items()}


def test_the_reader_serves_other_models_and_late_problems(tmp_path):
    class Entry(BaseModel, extra="forbid"):
        epsilon: float | str
        pixels: tuple[int, ...] | int = 1

    class Made(BaseModel, extra="forbid"):
        entries: dict[str, Entry]

    path = tmp_path / "b.yaml"
    path.write_text("entries:\n  a: {epsilon: [1]}\n  b: {epsilon: 8/255, pixels: [1, x]}\n  c: {epsilon: 1e-3}\n")
    with pytest.raises(InvalidInput) as caught:
        read_yaml(path, Made)
    assert [shown(problem) for problem in caught.value.problems] == [
        "2:16 FB104 entries.a.epsilon: Expected a number or text, got a list of 1. | write a number or text here",
        "3:35 FB104 entries.b.pixels[1]: Expected a whole number, got the text 'x'. | write a whole number here",
    ]
    path.write_text("entries:\n  c: {epsilon: 1e-3}\n")
    made, source = read_source(path, Made)
    assert made.entries["c"].epsilon == 0.001
    assert source.where(("entries", "c", "seed")).line == 2
    assert source.where(()).key is None
    with pytest.raises(InvalidInput, match="at most 0 KiB"):
        read_yaml(path, Made, max_bytes=10)


def test_reading_imports_neither_torch_nor_onnx_nor_numpy():
    code = "import sys, foolbench.bench.submission.submission, foolbench.bench.data.data; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "onnx", "onnxruntime", "numpy", "sklearn", "PIL"} & set(ran.stdout.split())


def test_every_code_in_the_sources_is_explained():
    folders = ("bench", "attacks", "defenses", "models", "leaderboard")
    text = "".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert set(re.findall(r"FB\d{3}", text)) <= set(EXPLANATIONS)
    for code, explanation in EXPLANATIONS.items():
        # What is needless is no failure.
        assert explanation.exit_code in ((0,) if code == "FB503" else (2, 3, 4, 5, 70, 130))
        assert len(explanation.text) > 60
