"""Defenses that installed packages register, by name. Looking them up runs nothing of them.

A package registers a defense by an entry point in the group `foolbench.defenses`. Installing it is its user's act of
trust: a submission alone cannot bring code along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..choices import nearest
from ..errors import Failed, Unexpected, one_line

GROUP = "foolbench.defenses"


@dataclass(frozen=True)
class Installed:
    """One registered defense, or attack."""

    name: str
    distribution: str
    """The installed distribution that registers it, by the name that installers know."""
    version: str
    entry: EntryPoint

    def load(self) -> Callable[..., Any]:
        """Import it: of a defense `factory(inner, **args) -> Classifier`. This runs the package's code.

        Raises Failed where that fails.
        """
        try:
            return self.entry.load()
        except Exception as error:  # whatever somebody else's package raises
            raise Failed(
                f"the package {self.distribution} to import {self.entry.value}",
                one_line(error),
                "install it again, or ask its authors",
            ) from error


def installed(group: str = GROUP) -> list[Installed]:
    """All that packages register in a group of entry points, by name."""
    found = (
        Installed(entry.name, entry.dist.name, entry.dist.version, entry)
        for entry in entry_points(group=group)
        if entry.dist is not None
    )
    return sorted(found, key=lambda defense: (defense.name, defense.distribution))


def named(name: str) -> Installed:
    """The one of that name. Raises Unexpected where it is not installed, or installed twice."""
    known = installed()
    found = [defense for defense in known if defense.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        rivals = ", ".join(defense.distribution for defense in found)
        raise Unexpected(f"one package to register {name!r}", rivals, "uninstall all but one")
    names = [defense.name for defense in known]
    there = f"installed: {', '.join(names)}" if names else "none is installed"
    near = nearest(name, names)
    fix = f"name: {near}" if near else "install the package that brings it; `foolbench list defenses` shows all"
    raise Unexpected("a defense that an installed package registers", f"{name[:60]!r} ({there})", fix)


def registered(name: str) -> str:
    """The name itself, if exactly one installed package registers it. Raises like `named`."""
    return named(name).name


def distributions(names: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, of those that the named defenses come from."""
    found = (named(name) for name in names)
    return {defense.distribution: defense.version for defense in found}
