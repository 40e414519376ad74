"""The installed command, run on a small submission of its own that takes about a second of work."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from foolbench.bench.data.readers import digits
from model_files import graph
from onnx import ModelProto, helper

COMMAND = Path(sys.executable).with_name("foolbench")
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")},
    "TERM": "xterm-256color",
    "OMP_NUM_THREADS": "1",
}
SUBMISSION: dict[str, Any] = {
    "schema": 1,
    "name": "nearest mean",
    "authors": ["A. Author"],
    "battery": "./battery.yaml",
    "model": {"kind": "onnx", "path": "model.onnx", "output": "logits"},
}
BATTERY: dict[str, Any] = {
    "schema": 1,
    "name": "small",
    "data": {"kind": "npz", "path": "test.npz", "train": "train.npz"},
    "shape": [1, 8, 8],
    "classes": 10,
    "images": 20,
    "donors_per_class": 1,
    "batch": 50,
    "gradient_batch": 50,
    "judge": {"tau_quantile": 0.05, "flat_confidence": 0.99, "draws": 3, "expectation_draws": 2, "bootstrap": 50},
    "attacks": {
        "evolution": {
            **{"runs": 3, "children": 20, "generations": 10, "mutation_rate": 0.1, "halve_every": 1000, "eta": 15},
            "runs_per_shard": 1,
        },
        "cppn": {"runs": 1, "children": 10, "generations": 4, "runs_per_shard": 1},
        "deepception": {
            **{"images": 4, "side": 2, "stride": 2, "copies": 2, "grid": 3, "keep": 4, "bank": 2, "queries": 50},
            **{"properties": 1, "images_per_shard": 2},
        },
        "one_pixel": {
            **{"images": 6, "pixels": [1, 3], "population": 10, "iterations": 5, "f": 0.5},
            "images_per_shard": 2,
        },
        "fgsm": {
            **{"images": 20, "epsilon": 0.2, "curve": [0.1], "images_per_shard": 10},
            "smallest": {"largest": 1.0, "coarse": 4, "bisections": 1},
        },
        "gradient_ascent": {
            **{"runs": 1, "targets": [0, 1], "steps": 5, "early": 0.03, "late": 0.1},
            **{"objectives": ["softmax", "logit"], "decays": [0.0], "starts": ["1/255"]},
            "runs_per_shard": 1,
        },
    },
    "controls": {"noise": {"runs": 1, "children": 20, "generations": 2, "runs_per_shard": 1}},
}
HIDE = {"seconds", "started"}
"""What of a record may differ between two runs: times and dates."""


# a submission on disk


def nearest_mean(nodes: list[Any] | None = None, **more: np.ndarray) -> ModelProto:
    """Which class's mean image is nearest: a linear network "x" -> "y"; `nodes` lead on from its logits "z"."""
    images, labels = _pixels()[2:]
    flat = images.reshape(len(images), -1) / 255
    means = np.stack([flat[labels == label].mean(0) for label in range(10)])
    weights = {"w": (2 * means.T).astype(np.float32), "b": -(means**2).sum(1).astype(np.float32)}
    last = [helper.make_node("Identity", ["z"], ["y"])] if nodes is None else nodes
    first = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["z"])]
    return graph([*first, *last], {**weights, **more})


@cache
def _pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    given = digits(0, 4)
    test, train = given.evaluation, given.training[:300]
    return given.images[test], given.labels[test], given.images[train], given.labels[train]


def changed(base: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with some values replaced; `attacks__evolution__runs` means the key inside the key."""
    result = copy.deepcopy(dict(base))
    for name, value in changes.items():
        *outer, last = name.split("__")
        inner = result
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return result


def submit(
    folder: Path,
    *,
    model: ModelProto | bytes | None = None,
    submission: Mapping[str, Any] = SUBMISSION,
    battery: Mapping[str, Any] = BATTERY,
) -> Path:
    """Write a submission with its model, battery and data into a folder. Returns its YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    test, test_labels, train, train_labels = _pixels()
    np.savez(folder / "test.npz", x=test, y=test_labels)
    np.savez(folder / "train.npz", x=train, y=train_labels)
    model = nearest_mean() if model is None else model
    (folder / "model.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    (folder / "battery.yaml").write_text(yaml.safe_dump(dict(battery), sort_keys=False))
    path = folder / "submission.yaml"
    path.write_text(yaml.safe_dump(dict(submission), sort_keys=False))
    return path


# the command

Answer = subprocess.CompletedProcess[str]


def foolbench(*arguments: object, cwd: Path | None = None, **environment: str) -> Answer:
    """Run the installed command as a shell would."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        preexec_fn=_interruptible,
    )


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start the installed command."""
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=_interruptible,
    )


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background are started with it ignored


def inside(*arguments: object) -> Answer:
    """The command's own entry point in this process: what a start costs is paid once for many cases."""
    from foolbench.bench.cli import main

    out, err = io.StringIO(), io.StringIO()
    given = [str(argument) for argument in arguments]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["started/as/something.py", *given])
        patch.delenv("NO_COLOR", raising=False)
        try:
            main()
            code: Any = 0
        except SystemExit as leaving:
            code = leaving.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(given, code or 0, out.getvalue(), err.getvalue())


# what came of it


def refused(answer: Answer, exit_code: int, code: str) -> str:
    """Check that the command refused in its own words: the exit code, the error's code, a fix, no traceback, nothing
    on stdout. Returns the message."""
    assert answer.returncode == exit_code, answer.stdout + answer.stderr
    assert f"error[{code}]" in answer.stderr, answer.stderr
    assert "fix: " in answer.stderr
    assert f"more: foolbench explain {code}" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    return " ".join(answer.stderr.split())


def one_document(answer: Answer) -> dict[str, Any]:
    """What --json printed: one object and not a character more."""
    document = json.loads(answer.stdout)
    assert isinstance(document, dict)
    assert document["schema"] == 1
    return document


def record(run: Path) -> dict[str, Any]:
    """A run's record without times and dates."""
    return timeless(json.loads((run / "record.json").read_bytes()))


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in HIDE}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def evidence(run: Path) -> dict[str, bytes]:
    """Every file of a run's evidence."""
    files = sorted(path for path in (run / "evidence").rglob("*") if path.is_file())
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(run: Path) -> dict[str, int]:
    """A run's finished shards, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted((run / "shards").glob("[!.]*.npz"))}


def until(happened: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait for something while the process is at work."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@contextlib.contextmanager
def at_work(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Leave no process behind, whatever a test finds."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
