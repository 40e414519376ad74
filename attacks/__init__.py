"""The attacks: black-box searches and white-box ascents. They know no model, budget or score.

NAMES is the one list of them. Each is declared in the file of its name, as `ATTACK` (see spec.py).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..bench.errors import Several, Unexpected, one_line

if TYPE_CHECKING:
    from .spec import Attack

NAMES = (
    "evolution",
    "cppn",
    "deepception",
    "one_pixel",
    "fgsm",
    "projected_ascent",
    "transfer",
    "square",
    "gradient_ascent",
    # By labels alone.
    "evolution_label",
    "cppn_label",
    "hop_skip_jump",
    # Controls: base rates that attacks must beat.
    "noise",
    "random_cppn",
)
"""In the order in which a battery runs them and tables show them."""


def declared(name: str) -> Attack[Any]:
    """The declaration of one of NAMES. Imports its file, and torch with it. Raises KeyError for another name, and
    Unexpected where its file is missing, cannot be imported, or does not declare it."""
    if name not in NAMES:
        raise KeyError(name)
    file, module = f"attacks/{name}.py", f"{__name__}.{name}"
    why = "which NAMES in attacks/__init__.py lists"
    try:
        attack = getattr(import_module(module), "ATTACK", None)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise _broken(file, why, error) from error
        fix = f"write the file, or take {name!r} out of NAMES"
        raise Unexpected(f"a file {file} for {name!r}, {why}", "nothing there", fix) from error
    except Exception as error:
        raise _broken(file, why, error) from error
    from .spec import Attack

    if not isinstance(attack, Attack):
        got = "no ATTACK" if attack is None else f"an ATTACK of the type {type(attack).__name__}"
        fix = f"end the file with ATTACK = Attack(name={name!r}, …), as the attacks beside it do"
        raise Unexpected(f"{file}, {why}, to declare ATTACK", got, fix)
    if attack.name != name:
        raise Unexpected(f"ATTACK in {file} to be named {name!r}", repr(attack.name), "give both one name")
    return attack


def _broken(file: str, why: str, error: Exception) -> Unexpected:
    fix = "mend the file; `--debug` shows where it fails"
    return Unexpected(f"{file}, {why}, to be imported", one_line(error), fix)


def table() -> tuple[Attack[Any], ...]:
    """All declarations, in order. Raises Several, with all that `declared` refuses."""
    found: list[Attack[Any]] = []
    wrong: list[Unexpected] = []
    for name in NAMES:
        try:
            found.append(declared(name))
        except Unexpected as error:
            wrong.append(error)
    Several.check(wrong)
    return tuple(found)
