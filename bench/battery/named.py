"""Which battery is meant: a shipped one's name, or the path of a user's own."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import get_args

from ..choices import Tier, nearest
from ..errors import InvalidInput, Problem, Where
from ..reading.arguments import is_path, quoted, word, wrong


def shipped_folder() -> Path:
    """The folder of the batteries that come with foolbench."""
    return Path(str(files("foolbench.bench.batteries")))


def shipped_names() -> list[str]:
    """Names of the batteries that come with foolbench."""
    return sorted(path.stem for path in shipped_folder().glob("*.yaml"))


def found(name: object, tier: object, folder: object) -> tuple[Path, bool]:
    """The battery's YAML, and whether it is a shipped one, of what `read_battery` is given.

    Raises InvalidInput for arguments of a wrong type, a tier that there is not, and the name of no shipped battery.
    """
    legal = shipped_names()
    refused = word("tier", tier, get_args(Tier))
    if not is_path(name):
        refused.append(wrong("battery", "a battery's name, or the path of a YAML file", name, f'"{legal[0]}"'))
    if folder is not None and not is_path(folder):
        refused.append(wrong("folder", "the path of a folder", folder, "leave it out"))
    if refused or not is_path(name) or not (folder is None or is_path(folder)):
        raise InvalidInput(*refused)
    text = os.fspath(name)
    if text in legal:
        return shipped_folder() / f"{text}.yaml", True
    if text.endswith((".yaml", ".yml")) or "/" in text:
        return Path(folder or "") / text, False
    expected, where = f"one of {', '.join(legal)}, or a path to a YAML file", Where(key="battery")
    raise InvalidInput(Problem("FB110", expected, quoted(text), f"battery: {nearest(text, legal) or legal[0]}", where))
