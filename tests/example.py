"""The example package, as if it were installed: its entry points, and its code on the path."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import pytest
from foolbench import attacks
from foolbench.attacks.spec import Attack
from foolbench.bench.battery import battery

PACKAGE = Path(__file__).parent / "example_package"


@contextmanager
def installed(site: Path) -> Iterator[None]:
    """What an installer would do: metadata made from its pyproject.toml, in a folder, while this lasts."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"foolbench_example-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        patch.syspath_prepend(site)
        invalidate_caches()
        yield


def attack() -> Attack[Any]:
    """Its attack, whether or not the package is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        return import_module("foolbench_example.little_square").ATTACK


@contextmanager
def in_the_table() -> Iterator[None]:
    """The other way: its file in `attacks/`, and one line in the table, for as long as this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "foolbench.attacks.little_square", _module())
        ranked = [name for name in attacks.NAMES if not attacks.declared(name).control]
        controls = [name for name in attacks.NAMES if attacks.declared(name).control]
        patch.setattr(attacks, "NAMES", (*ranked, "little_square", *controls))
        battery.form_of.cache_clear()
        try:
            yield
        finally:
            battery.form_of.cache_clear()


def _module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        return import_module("foolbench_example.little_square")
