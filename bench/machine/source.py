"""A digest of foolbench's own code: which results of an earlier version may be taken as this one's.

It covers what can move a number and nothing else, so that a typo mended on a screen throws away no finished work. What
can is followed from the code itself: every file that is imported, on use or at once, from where the numbers are made.
The walk stops at what shows, stores and reads; `MOVES_NOTHING` says why of each.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

from ... import attacks

Numbers = Literal["shards", "record", "hardened"]
"""`shards`: the final images and verdicts of a shard, and a panel's evidence, which the same code makes: the victim,
its clean answers, the attacks, the driver, the judge. `record`: these, and what scores and questions a victim.
`hardened`: the network that `foolbench harden` trains."""

_FROM: dict[Numbers, tuple[str, ...]] = {
    "shards": ("bench.evaluation.attack_panel", "bench.victim.assemble", "bench.running.run"),
    "record": ("bench.evaluation.pipeline",),
    "hardened": ("bench.harden.harden",),
}
MOVES_NOTHING = {
    "bench.errors": "says what went wrong",
    "bench.choices": "lists words",
    "models.choices": "lists words",
    "bench.reading": "reads YAML; what it means is in the digests of battery and submission",
    "bench.submission": "is what a submission may say; what it says is in its digest",
    "bench.battery.named": "finds a battery's file; what that says is in its digest",
    "bench.battery.installed": "finds packages; which, and their versions, is in the digests of battery and submission",
    "bench.data.download": "fetches files whose content is checked",
    "bench.machine.folder": "writes files",
    "bench.machine.npz": "writes files",
    "bench.machine.provenance": "says what ran",
    "bench.machine.source": "is this",
    "bench.running.progress": "tells how far a run is",
    "bench.evaluation.door": "checks arguments",
    "bench.evaluation.finished": "shows a run",
    "bench.evaluation.report": "shows a run",
    "leaderboard.record.store": "writes and reads records",
    "leaderboard.record.words": "puts numbers into words",
}
"""Modules and rooms that the walk does not enter, and why: what each does."""

_ROOT = Path(__file__).resolve().parents[2]


@cache
def source_digest(of: Numbers, root: Path = _ROOT) -> str:
    """sha256 over every file of foolbench's own that can move these numbers, and over their names."""
    digest = hashlib.sha256()
    for file in moving(of, root):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def moving(of: Numbers, root: Path = _ROOT) -> list[Path]:
    """The files that can move these numbers, in order. `root` is the folder that holds attacks, bench, models, …"""
    found: dict[str, Path] = {}
    left = [*_FROM[of], *(f"attacks.{name}" for name in attacks.NAMES if of != "hardened")]  # imported by their names
    while left:
        name = left.pop()
        path = _file(root, name)
        if path is None or name in found or _stops(name):
            continue
        found[name] = path
        left += _imported(name if path.name == "__init__.py" else name.rpartition(".")[0], path.read_bytes())
    return sorted(found.values())


def _stops(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:i]) in MOVES_NOTHING for i in range(1, len(parts) + 1))


def _file(root: Path, name: str) -> Path | None:
    """A module's file; of a package its `__init__`. None where the name is not one of ours."""
    if not name:
        return None  # foolbench itself, whose own file only a wheel has beside the packages; it says the version
    path = root.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _imported(package: str, code: bytes) -> tuple[str, ...]:
    """What may be modules among what code of a package imports relatively, by dotted names below the root."""
    inside, found = package.split("."), []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = [*inside[: len(inside) - node.level + 1], *(node.module.split(".") if node.module else ())]
            found += [".".join(source), *(".".join([*source, alias.name]) for alias in node.names)]
    return tuple(found)
