"""The errors that foolbench raises on purpose, and the exit code of each.

    FoolbenchError
    ├── InvalidInput      2    a submission, battery or command line that cannot be run: all its Problems at once
    ├── ModelFailure      3    the model or a defense failed while it was being run
    ├── EnvironmentFault  4    data, disk, memory, device, a folder in use
    └── OverBudget        5    an attack asked for more than its battery entry grants (its entry is left unmeasured)

A message says what was expected, what came, and what to do. Only `bench/cli` turns these into exit codes and prints
them; anything else that escapes is a bug of foolbench (exit code 70).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    code: str
    """`FB` and three digits; `foolbench explain CODE` has a paragraph on each (bench/cli/explain.py)."""
    message: str
    """What was expected and what came, one sentence."""
    fix: str
    """What to do, one line; ready to paste where possible."""
    file: Path | None = None
    line: int | None = None
    """1-based."""
    column: int | None = None
    """1-based."""
    key: str | None = None
    """Dotted path in the file, such as `model.input.mean`."""
    source: str | None = None
    """The text of that line of the file."""

    @classmethod
    def of(cls, code: str, error: Unexpected) -> Problem:
        """What a leaf refused, with the code that it has for the user."""
        return cls(code, f"{error.sentence}.", error.fix, file=error.file)

    @property
    def where(self) -> str:
        """`file:line:column key: `, as far as they are known."""
        parts = (self.file, self.line, self.column)
        place = ":".join(str(part) for part in parts if part is not None)
        key = f"{self.key}:" if self.key else ""
        return "".join(f"{part} " for part in (place, key) if part)


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

    @property
    def sentence(self) -> str:
        """`expected X, got Y`, without full stop."""
        return f"expected {self.expected}, got {self.got}"

    def __str__(self) -> str:
        return f"{'' if self.file is None else f'{self.file}: '}{self.sentence}: {self.fix}"


class Failed(Unexpected, RuntimeError):
    """What goes wrong while something runs, though all that was given to it looked right."""


class FoolbenchError(Exception):
    """Anything that foolbench refuses or cannot do, with its Problems (at least one)."""

    exit_code = 70

    def __init__(self, *problems: Problem):
        self.problems = problems
        super().__init__("\n".join(f"[{p.code}] {p.where}{p.message} To fix: {p.fix}" for p in problems))


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


def failure(what: str, error: Unexpected) -> ModelFailure:
    """What an error about `what` means to the user."""
    return ModelFailure(Problem("FB301", f"{what}: {error.sentence}.", error.fix))


def disk_fault(error: OSError, path: Path) -> EnvironmentFault:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"expected room to write {path.name}, and the disk (or quota) of {path.parent} is full."
        fix = "free some space and run the same command again: finished shards are kept"
        return EnvironmentFault(Problem("FB402", message, fix))
    message = f"expected to be able to write {path}, and got: {error.strerror or error}."
    return EnvironmentFault(Problem("FB410", message, "choose another folder with --out, or mend its permissions"))


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
