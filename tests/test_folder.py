"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from foolbench.bench.errors import EnvironmentFault
from foolbench.bench.machine.folder import arrays, atomically


def test_a_file_and_its_name_are_synced_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, synced = os.fsync, []

    def watched(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append("folder" if folder else "file")
        assert (tmp_path / "new" / "a.txt").exists() is folder
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomically(tmp_path / "new" / "a.txt", b"whole")
    assert synced == ["file", "folder"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"whole"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.npz"
    arrays(path, a=np.arange(3))
    old = path.read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentFault) as told:
        arrays(path, a=np.arange(4))
    assert told.value.problems[0].code == "FB402"
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
