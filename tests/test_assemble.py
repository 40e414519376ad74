"""By which digests a submission and its bare model are found, and what a load reads for them."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim import assemble
from foolbench.bench.victim.assemble import Assembled, Subject, subject_of
from model_files import graph
from onnx import ModelProto, TensorProto, helper
from planted import ground
from small_runs import SUBMISSION, changed, submit

DEFENDED = changed(SUBMISSION, defenses=[{"kind": "onnx", "role": "preprocess", "path": "dim.onnx"}])


def outside(model: ModelProto, file: Path) -> ModelProto:
    """The same with its first weight in a file beside it."""
    tensor = model.graph.initializer[0]
    file.write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=file.name)
    return model


def submission(folder: Path) -> Path:
    """A network and a preprocessor of fixed bytes, each with its weights in another file."""
    folder.mkdir()
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    network = graph(nodes, {"w": (np.arange(640).reshape(64, 10) % 7 / 8).astype(np.float32)})
    dim = graph(
        [helper.make_node("Mul", ["x", "s"], ["y"])],
        {"s": np.full((1, 1, 8, 8), 0.5, np.float32)},
        output=("N", 1, 8, 8),
    )
    (folder / "dim.onnx").write_bytes(outside(dim, folder / "mask.bin").SerializeToString())
    return submit(folder, model=outside(network, folder / "weights.bin"), submission=DEFENDED)


def loaded(path: Path) -> tuple[Subject, Assembled]:
    given = read_submission(path)
    subject, battery = subject_of(given), read_battery(given.spec.battery, folder=given.folder)
    return subject, subject.assemble(ground(battery))


def test_the_digests_by_which_runs_and_shards_are_found(tmp_path: Path):
    subject, whole = loaded(submission(tmp_path / "given"))
    assert whole.bare is not None
    assert subject.digest == whole.digest == "b38f89009e306c6ac90f9d2f343b0f92dd7cb5287749338b10fbb468c2283819"
    assert whole.bare.digest == "d844fd07605a60b9a56d75de3945efc0798d5f449164e988b85a517305ae89b2"


def test_a_load_hashes_each_file_once_and_looks_once_for_weights_beside_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = submission(tmp_path / "given")
    hashed, searched = Counter[str](), Counter[str]()
    file_digest, checked = hashlib.file_digest, assemble.checked_onnx

    def hashing(file, kind):
        hashed[Path(file.name).name] += 1
        return file_digest(file, kind)

    def checking(path, *rest):
        searched[path.name] += 1
        return checked(path, *rest)

    monkeypatch.setattr(hashlib, "file_digest", hashing)
    monkeypatch.setattr(assemble, "checked_onnx", checking)
    loaded(path)
    assert hashed == dict.fromkeys(("model.onnx", "weights.bin", "dim.onnx", "mask.bin"), 1)
    assert searched == dict.fromkeys(("model.onnx", "dim.onnx"), 1)
