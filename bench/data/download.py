"""Fetching the data sets that torchvision can fetch: only where the user asked for it, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tarfile
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from ..errors import EnvironmentFault, Problem

SWITCH = "FOOLBENCH_DOWNLOAD"
_LONGEST = 400
"""Characters of a failed download's reason: two mirrors and what each said."""


def wanted() -> bool:
    """Whether the user asked for downloads: FOOLBENCH_DOWNLOAD is set, and not to 0."""
    return os.environ.get(SWITCH, "0").lower() not in ("", "0", "no", "false")


def fetch(name: Literal["mnist", "cifar10"], title: str, root: Path) -> None:
    """Fetch a data set into `root`, in torchvision's layout, checked by the sums that torchvision knows.

    Raises EnvironmentFault FB407 where that fails; `root` then holds no part of it.
    """
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        # torchvision takes a half unpacked file for a whole one, so nothing unfinished may stand under its last name.
        with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as folder, contextlib.redirect_stdout(sys.stderr):
            print(f"fetching {title} into {root}")
            {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[name](folder, download=True)
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():
                    final = root / file.relative_to(folder)
                    final.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file, final)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        # torchvision's own text has a line for each mirror and, after it, what that mirror said.
        reason = " ".join(str(error).split()).rstrip(":. ")[:_LONGEST] or type(error).__name__
        fix = "try again, or put the files there by hand (`foolbench explain FB400` says where)"
        raise EnvironmentFault(Problem("FB407", f"to fetch {title} into {root}", reason, fix)) from error
