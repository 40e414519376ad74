"""A run that is stopped, however and whenever, goes on with the same command and gives the record of a run that was
not, bit for bit apart from times and dates."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import numpy as np
import pytest
from small_runs import (
    BATTERY,
    SUBMISSION,
    at_work,
    changed,
    evidence,
    foolbench,
    inside,
    one_document,
    record,
    refused,
    shards,
    start,
    submit,
    until,
)

LONGER = changed(BATTERY, attacks__evolution__runs=8, attacks__evolution__generations=200)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A submission of a few seconds, and a run of it that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    path = submit(home, battery=LONGER)
    assert inside("evaluate", path, "--out", home / "run", "--progress", "none").returncode == 0
    return path, home / "run"


def assert_same(run: Path, other: Path) -> None:
    mine, others = record(run), record(other)
    for one in (mine, others):
        one["provenance"].pop("workers")
    assert mine == others
    assert evidence(run) == evidence(other)


def killed_at_random(path: Path, run: Path, *options: object, seed: int, times: int) -> None:
    """Start the command and kill it, `times` times: each time at some moment after some more shards were finished."""
    rng, before = random.Random(seed), {}
    for _ in range(times):
        with at_work(start("evaluate", path, "--out", run, "--progress", "none", *options)) as process:
            enough = len(before) + rng.randint(0, 4)
            until(lambda least=enough: (run / "run.json").exists() and len(shards(run)) >= least, process)
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert shards(run).items() >= before.items()
        before = shards(run)


def test_killed_three_times_at_random_moments(tmp_path: Path, whole: tuple[Path, Path]):
    path, undisturbed = whole
    run = tmp_path / "run"
    killed_at_random(path, run, "--workers", 2, seed=3, times=3)
    kept = shards(run)
    assert kept
    assert not (run / "record.json").exists()
    answer = inside("evaluate", path, "--out", run, "--workers", 1)
    assert answer.returncode == 0, answer.stderr
    assert shards(run).items() >= kept.items()
    assert_same(run, undisturbed)


def test_two_defenses_of_one_model_share_its_bare_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second run, beside the first, only works on what its defense changes; elsewhere it works on all of it."""
    monkeypatch.chdir(tmp_path)

    def behind(bits: int) -> Path:
        defended = changed(SUBMISSION, name=f"{bits} bits", defenses=[{"kind": "bit_depth", "bits": bits}])
        return submit(tmp_path / f"{bits}", submission=defended)

    for bits in (2, 3):
        assert inside("evaluate", behind(bits), "--progress", "none").returncode == 0
    assert inside("evaluate", behind(3), "--progress", "none", "--out", "alone").returncode == 0
    first, second = sorted(Path("runs").iterdir())  # by name: two bits, three bits
    alone = Path("alone")
    assert len(shards(second)) * 2 == len(shards(first)) == len(shards(alone))
    assert {name for name in shards(alone) if name in shards(first)} == shards(alone).keys() - shards(second).keys()
    assert_same(second, alone)


def test_ctrl_c_and_sigterm_leave_a_run_that_goes_on(tmp_path: Path, whole: tuple[Path, Path]):
    path, undisturbed = whole
    run = tmp_path / "run"
    same = ("evaluate", path, "--out", run)
    with at_work(start(*same, "--workers", 1)) as process:
        until(lambda: len(shards(run)) >= 3, process)
        refused(inside(*same, "--progress", "none"), 4, "FB405")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("Stopped at ")
    assert last.endswith(". Run the same command again to go on.")
    kept = shards(run)
    assert len(kept) >= 3

    with at_work(start(*same, "--workers", 1, "--json", "--progress", "none")) as process:
        until(lambda: len(shards(run)) > len(kept), process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err == "Stopped. Run the same command again to go on.\n"
    error = one_document(CompletedProcess([], 143, out, err))["error"]
    assert (error["code"], error["exit_code"]) == ("FB409", 143)
    assert not list(run.rglob(".*"))

    answer = inside(*same)
    assert answer.returncode == 0
    assert shards(run).items() >= kept.items()
    assert_same(run, undisturbed)


def mapped(process: Popen[str]) -> str:
    """The files that it has loaded so far."""
    return Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see how far a process has come")
def test_ctrl_c_before_the_work_begins(tmp_path: Path):
    path = submit(tmp_path)
    for library in ("pydantic_core", "libtorch"):  # while libraries load, which make errors of their own of it
        with at_work(start("evaluate", path, "--out", tmp_path / "run")) as process:
            until(lambda process=process, library=library: library in mapped(process), process)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.endswith("Stopped. Run the same command again to go on.\n")
        assert "Traceback" not in err


def test_two_fresh_runs_give_the_same(tmp_path: Path):
    path = submit(tmp_path)
    for name, workers in (("one", 1), ("two", 3)):
        same = ("evaluate", path, "--out", tmp_path / name, "--progress", "none", "--workers", workers)
        assert inside(*same).returncode == 0
    assert_same(tmp_path / "one", tmp_path / "two")
    assert record(tmp_path / "one")["provenance"]["workers"] == 1


def truncated(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, len(content))])


def emptied(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def garbled(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(20):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def replaced(path: Path, rng: random.Random) -> None:
    np.savez(path, x=np.zeros(3))


@pytest.mark.parametrize("damage", [truncated, emptied, garbled, replaced])
def test_damaged_shards_are_worked_on_again(tmp_path: Path, damage: Callable[[Path, random.Random], None]):
    path, rng = submit(tmp_path), random.Random(1)
    same = ("evaluate", path, "--out", tmp_path / "run", "--progress", "none")
    assert inside(*same).returncode == 0
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    hit = list(shards(tmp_path / "run"))
    for name in hit:
        damage(tmp_path / "run" / "shards" / name, rng)
        # what a kill in the middle of a write leaves behind
        (tmp_path / "run" / "shards" / f".{name}.123.tmp").write_bytes(b"half")
    (tmp_path / "run" / ".run.json.123.tmp").write_bytes(b"{")
    assert inside(*same).returncode == 0
    assert list(shards(tmp_path / "run")) == hit
    assert_same(tmp_path / "run", tmp_path / "before")


@pytest.mark.slow
def test_the_smoke_tier_of_digits_v1_killed_three_times(tmp_path: Path):
    shipped = ROOT / "submissions/digits-lenet/submission.yaml"
    assert foolbench("evaluate", shipped, "--tier", "smoke", "--out", tmp_path / "whole").returncode == 0
    killed_at_random(shipped, tmp_path / "run", "--tier", "smoke", seed=5, times=3)
    assert foolbench("evaluate", shipped, "--tier", "smoke", "--out", tmp_path / "run").returncode == 0
    assert_same(tmp_path / "run", tmp_path / "whole")
