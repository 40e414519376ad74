"""The command line, through its real entry point: what is printed where, and the exit codes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.cli.explain import EXPLANATIONS
from foolbench.bench.cli.live import LiveProgress, PlainProgress
from foolbench.bench.running.progress import PlannedEntry
from foolbench.bench.running.shards import ShardResult
from foolbench.bench.submission.submission import read_submission
from foolbench.leaderboard.record.record import Record
from planted import RANKED, TITLES
from rich.console import Console
from small_runs import (
    BATTERY,
    COMMAND,
    ENVIRONMENT,
    SUBMISSION,
    changed,
    evidence,
    foolbench,
    inside,
    one_document,
    record,
    refused,
    shards,
    submit,
    tree,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run by the installed command, with --json, into the folder that it chooses."""
    home = tmp_path_factory.mktemp("home")
    submit(home)
    return home, foolbench("evaluate", "submission.yaml", "--json", "--workers", 2, cwd=home)


def run_of(home: Path) -> Path:
    (folder,) = (home / "runs").iterdir()
    return folder


# a whole run


def test_json_is_one_document_and_all_else_is_on_stderr(finished: tuple[Path, subprocess.CompletedProcess[str]]):
    home, answer = finished
    assert answer.returncode == 0, answer.stderr
    document = one_document(answer)
    folder = home / document["folder"]
    assert folder == run_of(home)
    assert folder.name.startswith("nearest-mean-")
    assert document["record"] == json.loads((folder / "record.json").read_bytes())
    measured = Record.model_validate(document["record"])
    assert list(measured.attacks) == list(RANKED)
    assert measured.scores.robust_score.value is not None
    assert "attacks: FGSM: fooled " in answer.stderr
    assert "\x1b" not in answer.stdout + answer.stderr
    assert {path.name for path in folder.iterdir()} == {
        *("evidence", "record.json", "report.txt", "run.json", "run.lock", "shards")
    }


def test_the_report_and_plain_progress_have_no_codes_when_piped(finished: tuple[Path, Any]):
    home, _ = finished
    before, written = shards(run_of(home)), record(run_of(home))
    answer = foolbench("evaluate", home / "submission.yaml", "--out", run_of(home), FORCE_COLOR="")
    assert answer.returncode == 0
    assert answer.stdout == (run_of(home) / "report.txt").read_text(encoding="utf-8")
    assert max(map(len, answer.stdout.splitlines())) <= 120
    for words in ("robust score", "One pixel", "95%", "foolbench leaderboard", "a board of its own"):
        assert words in answer.stdout
    assert "attacks: One pixel: fooled " in answer.stderr
    assert "from disk" in answer.stderr
    assert "\x1b" not in answer.stdout + answer.stderr
    assert shards(run_of(home)) == before
    assert record(run_of(home)) | {"provenance": None} == written | {"provenance": None}


@pytest.mark.parametrize(
    ("environment", "codes"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(tmp_path: Path, environment: dict[str, str], codes: bool):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "validate", str(tmp_path / "none.yaml")], env=ENVIRONMENT | environment, stderr=follower
    )
    os.close(follower)
    shown = b""
    while chunk := _read(leader):
        shown += chunk
    os.close(leader)
    assert process.wait() == 2
    assert b"error[FB100]" in shown
    assert bool(re.search(rb"\x1b\[[\d;]*3\d", shown)) == codes
    assert environment.get("TERM") != "dumb" or b"\x1b" not in shown


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 4096)
    except OSError:  # Linux says so when the other end is closed
        return b""


@pytest.mark.parametrize(
    ("kind", "forms"), [("none", set()), ("plain", {"plain"}), ("auto", {"plain"}), ("rich", {"rich"})]
)
def test_progress_has_the_form_that_is_asked_for(finished: tuple[Path, Any], kind: str, forms: set[str]):
    home, _ = finished
    answer = inside("evaluate", home / "submission.yaml", "--out", run_of(home), "--progress", kind)
    assert answer.returncode == 0
    plain, rich = "attacks: FGSM: fooled" in answer.stderr, "━━━" in answer.stderr
    assert {name for name, there in (("plain", plain), ("rich", rich)) if there} == forms
    assert bool(answer.stderr) == bool(forms)


def test_fail_under_is_an_exit_code_of_its_own(finished: tuple[Path, Any]):
    home, _ = finished
    same = ("evaluate", home / "submission.yaml", "--out", run_of(home), "--progress", "none", "--fail-under")
    score = json.loads((run_of(home) / "record.json").read_bytes())["scores"]["robust_score"]["value"]
    assert inside(*same, score).returncode == 0
    below = inside(*same, score + 0.01)
    assert below.returncode == 1
    assert "robust score" in below.stdout


def test_a_run_with_unmeasured_attacks_is_partial(tmp_path: Path):
    forest = (ROOT / "submissions/digits-forest/forest.onnx").read_bytes()
    model = yaml.safe_load((ROOT / "submissions/digits-forest/submission.yaml").read_text())["model"]
    submission = changed(SUBMISSION, model=model | {"path": "model.onnx"})
    path = submit(tmp_path, model=forest, submission=submission)
    answer = inside("evaluate", path, "--out", tmp_path / "run", "--json", "--fail-under", 100)
    assert answer.returncode == 5
    measured = one_document(answer)["record"]
    ratio = measured["attacks"]["fgsm"]["fooling_ratio"]
    assert ratio["value"] is None
    assert "no panel" in ratio["reason"]
    assert measured["scores"]["robust_score"]["value"] is None
    assert measured["attacks"]["one_pixel"]["fooling_ratio"]["value"] is not None


def test_dry_run_estimates_and_writes_nothing(tmp_path: Path):
    path = submit(tmp_path)
    before = tree(tmp_path)
    told = inside("evaluate", path, "--dry-run", "--out", tmp_path / "run")
    assert told.returncode == 0
    assert "Nothing was written" in told.stdout
    document = one_document(inside("evaluate", path, "--dry-run", "--json", "--workers", 2))
    assert document["workers"] == 2
    assert document["seconds"] > 0
    images = {row["title"].partition(" ")[0]: row["images"] for row in document["costs"]}
    assert images == {
        # And what its 2 shards share: 10 donors each, and of three kinds of patch the 16 windows of 3 donors.
        "Deepception-style": 5 * 4 * (2 * 3 * 3 + 4) + 2 * (5 * 10 + 3 * 3 * 16),
        "Evolution": 3 * 20 * 10,
        "CPPN": 10 * 4,
        "One": 2 * 6 * 10 * (1 + 5),
        "FGSM": 20 * (1 + 1 + 1 + 6),
        "Gradient": 2 * 2 * (5 + 1),
        "Uniform": 20 * 2,
    }
    assert tree(tmp_path) == before


def test_a_defended_submission_is_measured_with_and_without(tmp_path: Path):
    path = submit(tmp_path, submission=changed(SUBMISSION, defenses=[{"kind": "bit_depth", "bits": 1}]))
    answer = inside("evaluate", path, "--out", tmp_path / "run")
    assert answer.returncode == 0, answer.stderr
    assert "attacks without the defenses: FGSM" in answer.stderr
    assert "With the defenses, minus without" in answer.stdout
    assert any(name.startswith("evidence/bare/") for name in evidence(tmp_path / "run"))


def test_leaderboard_is_built_from_the_finished_run(finished: tuple[Path, Any], tmp_path: Path):
    home, _ = finished
    document = one_document(inside("leaderboard", home / "runs", "--out", tmp_path / "site", "--json"))
    assert document["entries"] == 1
    assert (tmp_path / "site" / "index.html").is_file()
    refused(inside("leaderboard", tmp_path / "nowhere", "--out", tmp_path / "site"), 2, "FB112")


# explanations, validation, errors


def test_every_code_is_explained():
    for code, explanation in EXPLANATIONS.items():
        answer = inside("explain", code.lower())
        assert (answer.returncode, answer.stderr) == (0, "")
        assert answer.stdout.startswith(f"{code}: {explanation.title} (exit code {explanation.exit_code})")


def test_the_schema_accepts_what_is_shipped_and_no_typo():
    answer = foolbench("schema")
    assert answer.returncode == 0
    schema = json.loads(answer.stdout)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    shipped = sorted(ROOT.glob("submissions/*/submission.yaml"))
    assert len(shipped) >= 5
    for path in shipped:
        validator.validate(yaml.safe_load(path.read_text()))
        assert inside("validate", path).returncode == 0
    for wrong in (
        changed(SUBMISSION, modle=1),
        changed(SUBMISSION, model__kind="keras"),
        changed(SUBMISSION, defenses=[{"kind": "bit_depth", "bits": 9}]),
        {key: value for key, value in SUBMISSION.items() if key != "authors"},
    ):
        assert not validator.is_valid(wrong)


def test_validate_tells_every_error_at_once_with_its_line(tmp_path: Path):
    path = submit(tmp_path)
    path.write_text(
        "schema: 1\n"
        "name: three mistakes\n"
        "author: [me]\n"
        "battery: digits-v2\n"
        "model:\n"
        "  kind: onnx\n"
        "  path: model.onnx\n"
        "  output: logits\n"
        "  input: {mean: [a], std: 1}\n"
    )
    answer = foolbench("validate", path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    heads = [line for line in answer.stderr.splitlines() if line.startswith("error[")]
    assert [head.split()[0] for head in heads] == ["error[FB103]", "error[FB110]", "error[FB104]", "error[FB104]"]
    lines = [int(head.split("submission.yaml:")[1].split(":")[0]) for head in heads]
    assert lines == [3, 4, 9, 9]
    assert "  4 | battery: digits-v2\n" in answer.stderr
    assert answer.stderr.endswith("4 errors\n")
    document = one_document(inside("validate", path, "--json"))
    assert [error["line"] for error in document["errors"]] == lines
    assert document["error"]["code"] == "FB103"
    assert all(error["fix"] for error in document["errors"])


def test_validate_says_what_is_valid(tmp_path: Path):
    path = submit(tmp_path)
    document = one_document(inside("validate", path, "--json"))
    assert document["valid"] is True
    mine, battery = read_submission(path).digest(), read_battery("./battery.yaml", folder=tmp_path).digest
    assert (document["digest"], document["battery_digest"]) == (mine, battery)
    said = f"{path}: valid. 'nearest mean', digest {mine[:16]}, on small, digest {battery[:16]}\n"
    assert inside("validate", path).stdout == said


def test_a_reader_who_has_enough_is_no_error():
    process = subprocess.Popen([COMMAND, "schema"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


def test_an_error_of_foolbench_itself_leaves_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from foolbench.bench.evaluation import pipeline

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(pipeline, "record_of", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))
    (tmp_path / "logs").mkdir()
    path = submit(tmp_path, battery=changed(BATTERY, attacks={"fgsm": BATTERY["attacks"]["fgsm"]}, controls={}))
    same = ("evaluate", path, "--out", tmp_path / "run", "--progress", "none")
    message = refused(inside(*same), 70, "FB700")
    assert "ZeroDivisionError: planted" in message
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in message
    assert "in broken" in log.read_text()
    assert one_document(inside(*same, "--json"))["error"]["code"] == "FB700"
    debug = inside(*same, "--debug")
    assert debug.returncode == 70
    assert "Traceback" in debug.stderr


# progress


def found(images: int) -> ShardResult:
    nothing = {field.name: np.zeros(0) for field in fields(ShardResult)}
    return ShardResult(**nothing | {"counts": np.array([images, 0, 0]), "fooled": np.zeros(5, bool)})


def test_the_time_left_is_that_of_each_attack_at_its_own_pace(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("foolbench.bench.cli.live.time.monotonic", lambda: now)
    progress = PlainProgress(io.StringIO())
    slow = PlannedEntry("fgsm", "", "fgsm", images=300, tasks=5, shards=3, attack="FGSM")
    fast = PlannedEntry("evolution", "", "evolution", images=10_000, tasks=5, shards=2, attack="Evolution")
    progress.begin("attacks", [slow, fast])
    progress.finished("fgsm", 0, found(100))  # by an earlier run: tells nothing of the pace
    assert progress.left() == "estimating"
    for name, images in (("fgsm", 100), ("evolution", 5000)):
        tick = progress.shard(name, 1)
        now += 10
        tick(images, 0)
        progress.finished(name, 1, found(images))
    assert progress.left() == "20\xa0s"  # 100 images at 10 a second and 5000 at 500, one after the other
    assert progress.so_far() == " at 50% (attacks)"
    progress.finished("fgsm", 2, found(100))
    assert progress.so_far() == " at 51% (attacks; saved: FGSM)"


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_table_shows_whole_numbers_on_any_terminal(width: int, monkeypatch: pytest.MonkeyPatch):
    now, screen = 0.0, io.StringIO()
    monkeypatch.setattr("foolbench.bench.cli.live.time.monotonic", lambda: now)
    progress = LiveProgress(Console(file=screen, width=width, force_terminal=True, color_system=None))
    planned = [PlannedEntry(n, "", n, images=10**6, tasks=200, shards=1, attack=t) for n, t in TITLES.items()]
    progress.begin("panel: [bold]hostile[/]", planned)
    ticks = [progress.shard(name, 0) for name in TITLES]
    now += 10
    for tick in ticks:
        tick(987_654, 200)
    progress.end()
    shown = screen.getvalue()
    assert "…" not in shown
    assert "panel: [bold]hostile[/] · " in shown
    assert shown.count("987,654") >= len(TITLES)
