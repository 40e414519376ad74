"""The attacks that there are: foolbench's own, and those that installed packages register for users' own batteries.

A package registers an Attack (attacks/spec.py) by an entry point in the group `foolbench.attacks`, under its name.
Installing it is its user's act of trust: a battery alone cannot bring code along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ... import attacks
from ...attacks.spec import Attack, FoolSpec, PerturbSpec
from ...leaderboard.record.battery import TAKEN
from ..errors import Failed, InvalidInput, Problem, Several, Where
from ..submission.packages import Installed, installed

GROUP = "foolbench.attacks"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class Packaged:
    """An attack and the package that it comes from."""

    attack: Attack[Any]
    package: Installed

    @property
    def source(self) -> str:
        """Distribution and version, such as "my-attacks 1.2"."""
        return f"{self.package.distribution} {self.package.version}"


def own() -> tuple[Attack[Any], ...]:
    """foolbench's own attacks, in the order of its table. Raises InvalidInput where a file of theirs is not as the
    table says."""
    try:
        return attacks.table()
    except Several as several:
        where = Where(key="the table of attacks")
        raise InvalidInput(*(Problem.of("FB116", error, where) for error in several.errors)) from several


def registered() -> list[Installed]:
    """All that is registered, by name. Imports none of it."""
    return installed(GROUP)


def packaged(names: Iterable[str] | None = None) -> list[Packaged]:
    """The attacks of installed packages, all or the named ones. This runs the packages' code.

    Raises InvalidInput where one cannot be imported, is none, or has a name that is taken.
    """
    wanted = None if names is None else set(names)
    found: dict[str, Packaged] = {}
    for package in registered():
        if wanted is not None and package.name not in wanted:
            continue
        if package.name in attacks.NAMES or package.name in found:
            other = found[package.name].source if package.name in found else "foolbench itself"
            raise _refused(
                package, "a name of its own", f"{package.name!r}, which {other} has", "uninstall one of them"
            )
        found[package.name] = Packaged(_checked(package), package)
    return list(found.values())


def _checked(package: Installed) -> Attack[Any]:
    try:
        attack = package.load()
    except Failed as error:
        raise InvalidInput(Problem.of("FB116", error, _where(package))) from error
    if not isinstance(attack, Attack):
        raise _refused(package, "an Attack (foolbench.attacks.spec)", type(attack).__name__, "register its ATTACK")
    base = FoolSpec if attack.task == "fool" else PerturbSpec
    if not issubclass(attack.spec, base):
        fix = f"derive its spec from {base.__name__}"
        raise _refused(package, f"a spec derived from {base.__name__}", attack.spec.__name__, fix)
    if attack.name in TAKEN:
        fix = "give it another name"
        raise _refused(package, "a name that no score and no other evidence has", repr(attack.name), fix)
    if attack.name != package.name or not _NAME.fullmatch(attack.name):
        fix = "register it under its own name: lower-case letters, digits and underscores"
        raise _refused(package, f"an attack named {package.name!r}", repr(attack.name), fix)
    return attack


def _refused(package: Installed, expected: str, got: str, fix: str) -> InvalidInput:
    return InvalidInput(Problem("FB116", expected, got, fix, _where(package)))


def _where(package: Installed) -> Where:
    return Where(key=f"the attack {package.name!r} of {package.distribution} {package.version}")
