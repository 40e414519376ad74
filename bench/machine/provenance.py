"""Where a record comes from: versions and commit. A digest of the code itself is source.py's."""

from __future__ import annotations

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
