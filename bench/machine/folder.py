"""A run's folder: whose it is, that only one run works in it at a time, and what is written into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EnvironmentFault, InvalidInput, Problem, disk_fault
from .npz import packed

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; two runs in one folder are the user's to avoid there
    fcntl = None

MANIFEST = "run.json"


def atomically(path: Path, content: bytes) -> None:
    """Write a file, and its folder where there is none, whole or not at all, even through a power cut.

    Raises EnvironmentFault where the disk is full or the folder is read-only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _synced(path.parent)
    except OSError as error:
        raise disk_fault(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _synced(folder: Path) -> None:
    """Make the names in a folder last: a file's own content is safe before its name is."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def arrays(path: Path, **values: np.ndarray) -> None:
    """Write an npz whole or not at all; equal arrays give equal bytes."""
    atomically(path, packed(values))


@contextmanager
def claimed(folder: Path, manifest: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder for one run, described by `manifest`.

    Raises EnvironmentFault where another run is at work in it or it cannot be written, InvalidInput where it holds a
    run that something else determines (the difference is listed).
    """
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        lock = open(folder / "run.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise disk_fault(error, folder) from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                fix = "wait for it, or choose another folder with --out"
                expected = f"to be the only run in {folder}"
                raise EnvironmentFault(Problem("FB405", expected, "another one at work there", fix)) from error
        _same_run(folder, manifest)
        atomically(folder / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
        yield


def _same_run(folder: Path, manifest: Mapping[str, Any]) -> None:
    try:
        there = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError):
        there = {}
    if differing := list(_differing(there, manifest)):
        expected, got = f"{folder} to be empty or to hold this very run", f"another one ({'; '.join(differing)})"
        raise InvalidInput(Problem("FB406", expected, got, "choose another folder with --out, or remove this one"))


def _differing(there: object, now: object, key: str = "") -> Iterator[str]:
    """`recipe.epochs: 4 there, 5 now`, of each value that differs; mappings are compared key by key."""
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        for name in sorted({*there, *now}):
            yield from _differing(there.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif there != now:
        one, other = _text(there), _text(now)
        short = (one, other) if _short(one) == _short(other) else (_short(one), _short(other))
        yield f"{key}: {short[0]} there, {short[1]} now"


def _text(value: object) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:16]}…"
