"""The errors that foolbench raises on purpose, and the exit code of each.

    FoolbenchError
    ├── InvalidInput      2    a submission, battery or command line that cannot be run: all its Problems at once
    ├── ModelFailure      3    the model or a defense failed while it was being run
    ├── EnvironmentFault  4    data, disk, memory, device, a folder in use
    └── OverBudget        5    an attack asked for more than its battery entry grants (its entry is left unmeasured)

Each holds Problems, which say what was expected, what came, what to do, and where: in fields of their own, from where
they are raised to where they are printed, so that no text is ever taken apart. Only `bench/cli` turns these into exit
codes and prints them; anything else that escapes is a bug of foolbench (exit code 70).

Leaves (`attacks`, `defenses`, `models`, `leaderboard`, and packages) know no codes. They raise

    Unexpected            what was given is not what is taken; a ValueError too
    └── Failed            something failed while it ran; a RuntimeError too
    Several               several of these, found at once; a ValueError too

and `bench` makes Problems of them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Where:
    """A place that a Problem stands at, as far as it is known."""

    file: Path | None = None
    line: int | None = None
    """1-based."""
    column: int | None = None
    """1-based."""
    key: str | None = None
    """Dotted path in the file, such as `model.input.mean`; or the option, argument or part that it is about."""
    source: str | None = None
    """The text of that line of the file."""

    @property
    def place(self) -> str:
        """`file:line:column`; empty where no file is known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        known = " ".join(part for part in (self.place, self.key) if part)
        return f"{known}: " if known else ""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    code: str
    """`FB` and three digits; `foolbench explain CODE` has a paragraph on each (bench/cli/explain.py)."""
    expected: str
    """What was expected; goes on from "Expected"."""
    got: str
    """What came instead; goes on from "got"."""
    fix: str
    """What to do, one line; ready to paste where possible."""
    where: Where = Where()

    @classmethod
    def of(cls, code: str, error: Unexpected, where: Where | None = None) -> Problem:
        """What a leaf refused, with its code and place; without a place that of the error's own file."""
        return cls(code, error.expected, error.got, error.fix, where or Where(error.file))

    @property
    def message(self) -> str:
        """`Expected X, got Y.`"""
        return f"Expected {self.expected}, got {self.got}."

    def as_json(self) -> dict[str, str | int | None]:
        """Each of its parts, for programs to read."""
        said = {"code": self.code, "expected": self.expected, "got": self.got, "message": self.message, "fix": self.fix}
        file = None if self.where.file is None else str(self.where.file)
        place = {"line": self.where.line, "column": self.where.column, "key": self.where.key}
        return {**said, "file": file, **place, "source": self.where.source}


class Unexpected(ValueError):
    """What a leaf refuses, which knows no codes: `bench` adds the code and where it stands.

    Reads as `expected X, got Y: do this`, after its file where it knows one.
    """

    def __init__(
        self, expected: str, got: object, fix: str, *, at: tuple[str | int, ...] = (), file: Path | None = None
    ):
        self.expected, self.got, self.fix, self.file = expected, str(got), fix, file
        self.at = at
        """Keys from whatever was being read down to what is wrong, such as `("mean", 0)`; empty for all of it."""
        # `args` stay what the constructor was given, so that every kind of it can be pickled.

    def __str__(self) -> str:
        file = "" if self.file is None else f"{self.file}: "
        return f"{file}expected {self.expected}, got {self.got}: {self.fix}"


class Failed(Unexpected, RuntimeError):
    """What goes wrong while something runs, though all that was given to it looked right."""


class Several(ValueError):
    """Several things that a leaf refuses, told together."""

    def __init__(self, errors: Iterable[Unexpected]):
        self.errors = tuple(errors)

    @classmethod
    def check(cls, errors: Iterable[Unexpected]) -> None:
        """Raise them, where there are any."""
        if found := tuple(errors):
            raise cls(found)

    def __str__(self) -> str:
        return "; ".join(str(error) for error in self.errors)


class FoolbenchError(Exception):
    """Anything that foolbench refuses or cannot do, with its Problems (at least one)."""

    exit_code = 70

    def __init__(self, *problems: Problem):
        self.problems = problems  # and the `args`, so that it can be pickled

    def __str__(self) -> str:
        return "\n".join(f"[{p.code}] {p.where}{p.message} To fix: {p.fix}" for p in self.problems)


class InvalidInput(FoolbenchError):
    """A submission, a battery or a command line that cannot be run as it is."""

    exit_code = 2


class ModelFailure(FoolbenchError):
    """The model or a defense failed while it was being run."""

    exit_code = 3


class EnvironmentFault(FoolbenchError):
    """Something around foolbench is missing, full, altered or in use."""

    exit_code = 4


class OverBudget(FoolbenchError):
    """An attack asked for more queries or gradients than its battery entry grants."""

    exit_code = 5


def together(errors: Sequence[FoolbenchError]) -> FoolbenchError:
    """Several errors as one, each Problem once: of the kind that leaves with the lowest exit code."""
    problems = dict.fromkeys(problem for error in errors for problem in error.problems)
    return min(errors, key=lambda error: error.exit_code).__class__(*problems)


def disk_fault(error: OSError, path: Path) -> EnvironmentFault:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        got = f"a full disk (or quota) at {path.parent}"
        fix = "free some space and run the same command again: finished shards are kept"
        return EnvironmentFault(Problem("FB402", f"room to write {path.name}", got, fix))
    fix = "choose another folder with --out, or mend its permissions"
    return EnvironmentFault(Problem("FB410", f"to be able to write {path}", error.strerror or str(error), fix))


def one_line(error: BaseException, most: int = 1000) -> str:
    """Type and message of somebody else's error, in one line; of one of ours what came, so that it is wrapped once.

    Of a message longer than `most` characters both ends are kept: compiled libraries begin with long signatures and
    say the reason last.
    """
    if isinstance(error, Unexpected):
        return error.got
    said = " ".join(str(error).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"
