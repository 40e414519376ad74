"""The attacks: black-box searches and white-box ascents. They know no model, budget or score.

NAMES is the one list of them. Each is declared in the file of its name, as `ATTACK` (see spec.py).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..bench.errors import Unexpected

if TYPE_CHECKING:
    from .spec import Attack

NAMES = (
    "evolution",
    "cppn",
    "deepception",
    "one_pixel",
    "fgsm",
    "gradient_ascent",
    # Controls: base rates that attacks must beat.
    "noise",
    "random_cppn",
)
"""In the order in which a battery runs them and tables show them."""


def declared(name: str) -> Attack[Any]:
    """The declaration of one of NAMES. Imports its file, and torch with it. Raises KeyError for another name, and
    Unexpected where its file declares it under another."""
    if name not in NAMES:
        raise KeyError(name)
    attack = import_module(f".{name}", __name__).ATTACK
    if attack.name != name:
        raise Unexpected(f"ATTACK in attacks/{name}.py to be named {name!r}", repr(attack.name), "give both one name")
    return attack


def table() -> tuple[Attack[Any], ...]:
    """All declarations, in order."""
    return tuple(declared(name) for name in NAMES)
