"""Where a record comes from: versions, commit, and a digest of foolbench's own source."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("foolbench", "torch", "torchvision", "timm", "onnx", "onnxruntime-gpu", "onnxruntime", "onnx2fx", "numpy",
            "scipy", "scikit-learn", "pillow", "pydantic")  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """Python and the packages whose numbers a result may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


MOVES_NO_NUMBER = (
    # entrances, screens and what people read
    "bench/__init__.py",
    "bench/batteries/__init__.py",
    "bench/cli",
    "bench/evaluation/api.py",
    "bench/evaluation/door.py",
    "bench/evaluation/finished.py",
    "bench/evaluation/notebook.py",
    "bench/evaluation/report.py",
    # what a run would cost, and other commands
    "bench/evaluation/calibrate.py",
    "bench/evaluation/estimate.py",
    "bench/harden",
    "bench/probe",
    "attacks/responses/motif.py",
    "attacks/responses/repeated_instance.py",
    # what is wrong with a file, in words: the values that were read stand in digests of their own
    "bench/choices.py",
    "bench/errors.py",
    "bench/reading",
    "models/choices.py",
    # progress, folders, files and versions
    "bench/data/download.py",
    "bench/evaluation/evidence.py",
    "bench/machine/folder.py",
    "bench/machine/npz.py",
    "bench/machine/provenance.py",
    "bench/machine/version.py",
    "bench/running/progress.py",
    # made once, with a digest of its own: the panel's networks
    "models/panel",
    "models/training",
    # contracts for tests
    "attacks/checks.py",
    "attacks/toy.py",
    "defenses/asking.py",
    "defenses/checks.py",
    "defenses/toy.py",
    # of the leaderboard, all but the arithmetic that a run's own scores share with it
    "leaderboard/__init__.py",
    "leaderboard/board",
    "leaderboard/record/__init__.py",
    "leaderboard/record/battery.py",
    "leaderboard/record/describe.py",
    "leaderboard/record/measure.py",
    "leaderboard/record/record.py",
    "leaderboard/record/store.py",
    "leaderboard/record/unranked.py",
    "leaderboard/record/words.py",
    "leaderboard/site",
)
"""Files and folders of foolbench that cannot move a number of a run. A test holds this list against the imports."""


def moving(root: Path) -> list[Path]:
    """The Python files below a folder of packages that can move a number: finished shards and panels of other ones are
    not taken for this one's."""
    packages = ("attacks", "bench", "defenses", "leaderboard", "models")
    files = sorted(path for package in packages for path in (root / package).rglob("*.py"))
    still = {root / name for name in MOVES_NO_NUMBER}
    return [path for path in files if still.isdisjoint((path, *path.parents))]


def digest_of(root: Path) -> str:
    """sha256 over `moving(root)`: names and contents."""
    digest = hashlib.sha256()
    for path in moving(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def source_digest() -> str:
    """`digest_of` the code that runs."""
    return digest_of(Path(__file__).resolve().parents[2])


@cache
def commit() -> tuple[str | None, bool | None]:
    """The git commit of foolbench's source and whether files differ from it; (None, None) outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None, None
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
