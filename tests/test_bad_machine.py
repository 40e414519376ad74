"""Whatever is wrong with the machine or the run's folder: the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from foolbench.bench.errors import InvalidInput
from foolbench.bench.machine.folder import claimed
from small_runs import (
    BATTERY,
    SUBMISSION,
    changed,
    evidence,
    inside,
    record,
    refused,
    shards,
    submit,
    tree,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A submission and a run of it that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    path = submit(home)
    assert inside("evaluate", path, "--out", home / "run", "--progress", "none").returncode == 0
    return path, home / "run"


def assert_same(run: Path, other: Path) -> None:
    assert record(run) == record(other)
    assert evidence(run) == evidence(other)
    assert not list(run.rglob(".*"))


@pytest.mark.parametrize("written", [0, 1, 5, -8, -3, -2, -1])
def test_a_full_disk_loses_nothing(
    tmp_path: Path, whole: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, written: int
):
    path, undisturbed = whole
    files = [file for file in undisturbed.rglob("*") if file.is_file() and file.name != "run.lock"]
    room = written % (2 * len(files))  # of each file its content, then its folder's entry for it
    sync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    same = ("evaluate", path, "--out", tmp_path / "run", "--progress", "none")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "free some space and run the same command again" in refused(inside(*same), 4, "FB402")
    kept = shards(tmp_path / "run")
    assert len(kept) >= min((room - 1) // 2, len(shards(undisturbed)))  # after what says whose folder it is
    assert inside(*same).returncode == 0
    assert shards(tmp_path / "run").items() >= kept.items()
    assert_same(tmp_path / "run", undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may make a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, whole: tuple[Path, Path]):
    path, undisturbed = whole
    same = ("evaluate", path, "--out", small_disk / "run", "--progress", "none")
    refused(inside(*same), 4, "FB402")
    kept = shards(small_disk / "run")
    assert kept
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert inside(*same).returncode == 0
    assert shards(small_disk / "run").items() >= kept.items()
    assert_same(small_disk / "run", undisturbed)


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    path = submit(tmp_path)
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        message = refused(inside("evaluate", path, "--out", tmp_path / place), 2, "FB117")
        assert "out: Expected a folder, or a place for one, got the file " in message
        assert "name another folder" in message
    (tmp_path / "none").mkdir()
    refused(inside("leaderboard", tmp_path / "none", "--out", tmp_path / "file" / "site"), 4, "FB410")
    assert "choose another --out" in refused(
        inside("leaderboard", tmp_path / "none", "--out", tmp_path / "file"), 2, "FB112"
    )
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        refused(inside("evaluate", path, "--out", tmp_path / "closed" / "run"), 4, "FB410")


def test_a_folder_in_which_a_run_is_at_work(tmp_path: Path):
    path = submit(tmp_path)
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / "run.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        message = refused(inside("evaluate", path, "--out", tmp_path / "run"), 4, "FB405")
    assert "--out" in message
    assert inside("evaluate", path, "--out", tmp_path / "run").returncode == 0


@pytest.mark.parametrize("content", [b"", b"[" * 100_000], ids=["empty", "deep"])
def test_a_folder_whose_manifest_cannot_be_read(tmp_path: Path, content: bytes):
    path = submit(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(content)
    assert "got another one" in refused(inside("evaluate", path, "--out", tmp_path / "run"), 2, "FB406")
    assert (tmp_path / "run" / "run.json").read_bytes() == content


def test_a_folder_that_holds_another_run(tmp_path: Path, whole: tuple[Path, Path]):
    _, undisturbed = whole
    before = tree(undisturbed)
    path = submit(tmp_path, submission=changed(SUBMISSION, defenses=[{"kind": "median", "size": 3}]))
    message = refused(inside("evaluate", path, "--out", undisturbed), 2, "FB406")
    submitted = json.loads((undisturbed / "run.json").read_bytes())["submission"]
    assert f"submission: {submitted[:16]}… there, " in message
    assert "battery:" not in message
    assert tree(undisturbed) == before
    path = submit(tmp_path, battery=changed(BATTERY, images=30))
    message = refused(inside("evaluate", path, "--out", undisturbed), 2, "FB406")
    assert "battery: " in message
    assert "data: " in message
    assert tree(undisturbed) == before


def test_what_differs_from_the_run_that_is_there_is_told_key_by_key(tmp_path: Path):
    path = "/a/long/way/to/somewhere/that/both/have/in/common/"
    there = {"recipe": {"epochs": 4, "seed": 0, "at": {"home": path + "a"}, "sizes": [1, 2]}, "same": {"x": 1}}
    now = {"recipe": {"epochs": 5, "seed": 0, "at": {"home": path + "b"}, "sizes": [1, 3]}, "same": {"x": 1}, "new": 1}
    with claimed(tmp_path, there):
        pass
    with pytest.raises(InvalidInput) as caught, claimed(tmp_path, now):
        pass
    assert caught.value.problems[0].message.endswith(
        f"got another one (new: nothing there, 1 now; recipe.at.home: {path}a there, {path}b now; "
        "recipe.epochs: 4 there, 5 now; recipe.sizes: [1, 2] there, [1, 3] now)."
    )


def test_a_gpu_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = submit(tmp_path)
    assert "--device cpu" in refused(inside("evaluate", path, "--device", "cuda"), 4, "FB404")
    assert "--device cpu" in refused(inside("evaluate", path, "--device", "cuda", "--dry-run"), 4, "FB404")


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_too_little_memory_for_an_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]):
    from foolbench.attacks.evolution import Evolution

    def greedy(*_: object) -> None:
        raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(Evolution, "search", greedy)
    path = submit(tmp_path)
    told = refused(inside("evaluate", path, "--out", tmp_path / "run", "--progress", "none"), 4, "FB403")
    assert "the attack itself holds" in told
    assert "--workers 1" in told


def test_too_little_memory_for_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from foolbench.models.onnx.runtime import Session

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Session, "run", full)
    path = submit(tmp_path)
    for command in (("evaluate", "--out", tmp_path / "run"), ("evaluate", "--dry-run"), ("probe",)):
        told = refused(inside(command[0], path, *command[1:], "--progress", "none"), 4, "FB403")
        assert "--max-batch" in told
