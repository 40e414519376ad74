"""Checks of what a Python caller gives, before any work: every check returns the Problems it found, so that all of a
call are told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

from ..choices import nearest
from ..errors import Problem, Where


def word(
    name: str, value: object, legal: Sequence[str], meant: Mapping[str, str] = MappingProxyType({})
) -> list[Problem]:
    """That an argument is one of the legal words. `meant` says which of them other words stand for."""
    if isinstance(value, str) and value in legal:
        return []
    near = (meant.get(value.lower()) or nearest(value, legal)) if isinstance(value, str) else None
    return [wrong(name, one_of(legal), value, f'{name}="{near or legal[0]}"', "FB113")]


def count(name: str, value: object, least: int = 1, most: int | None = None) -> list[Problem]:
    """That an argument is a whole number from `least` to `most`."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most):
        return []
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else _integer(value)
    near = least if number is None or number != number else max(least, min(number, 10**9 if most is None else most))
    return [wrong(name, wanted, value, f"{name}={int(near)}")]


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether `pathlib.Path` takes it."""
    return isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)


def new_folder(name: str, folder: Path) -> list[Problem]:
    """That a folder is there or can be made: neither it nor one above it is a file."""
    try:
        there = next((part for part in (folder, *folder.parents) if part.exists()), None)
        if there is None or there.is_dir():
            return []
    except OSError:  # whoever makes the folder says what is wrong with it
        return []
    return [wrong(name, "a folder, or a place for one", there, "name another folder", got=f"the file {there}")]


def wrong(name: str, wanted: str, value: object, fix: str, code: str = "FB117", got: str | None = None) -> Problem:
    """A Problem with the argument `name`. `got` says what came where its own words do not."""
    return Problem(code, wanted, got or quoted(value), fix, Where(key=name))


def one_of(legal: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(part for part in (", ".join(legal[:-1]), legal[-1]) if part)


def quoted(value: object) -> str:
    """A value on one short line: what it reads as in Python, or of what kind it is."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | bytes | int | float | Path):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:59]}…"
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _integer(value: object) -> int | None:
    try:
        return int(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return None
