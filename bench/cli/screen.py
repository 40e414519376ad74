"""What the command line says when something goes wrong, and the exit code with which it leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..errors import FoolbenchError, Problem, disk_fault, one_line

_SURROUNDINGS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
)
"""What the system says of a place that cannot be written to."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM came. Not KeyboardInterrupt, of which Typer makes a silent exit."""


class Signals:
    """Turns Ctrl-C and SIGTERM into Interrupted, so that a command leaves by way of its finally blocks, and remembers
    which of them came: a library that is just being imported may swallow it, or raise an error of its own for it."""

    def __init__(self) -> None:
        self.came: int | None = None
        signal.signal(signal.SIGTERM, self._raise)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is for what a script puts in the background
            signal.signal(signal.SIGINT, self._raise)

    def _raise(self, number: int, frame: object) -> NoReturn:
        self.came = number
        raise Interrupted

    def again(self) -> None:
        """Raise what was swallowed."""
        if self.came is not None:
            raise Interrupted

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.came or signal.SIGINT)


@contextmanager
def guarded(as_json: bool, debug: bool, signals: Signals) -> Iterator[None]:
    """Turn what escapes into a message and an exit code."""
    try:
        yield
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # whoever read the output has enough of it
            os._exit(128 + signal.SIGPIPE)
        raise
    except BaseException as error:
        if debug:
            traceback.print_exc()
        if signals.came is not None:
            leave("Stopped", signals.exit_code, as_json)
        if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
            error = disk_fault(error, Path(os.fsdecode(error.filename or "/dev/stdout")))
        if isinstance(error, FoolbenchError):
            _fail(error.problems, error.exit_code, as_json)
        fix = f"please report it with {_log(error)}, or run again with --debug"
        got = f"a defect of foolbench itself ({one_line(error)})"
        _fail((Problem("FB700", "the command to do its work, or to say why not", got, fix),), 70, as_json)


def _fail(problems: tuple[Problem, ...], code: int, as_json: bool) -> NoReturn:
    if as_json:
        rows = [problem.as_json() for problem in problems]
        print_json({"schema": 1, "error": {**rows[0], "exit_code": code}, "errors": rows})
    show(problems)
    raise SystemExit(code)


def leave(text: str, code: int, as_json: bool) -> NoReturn:
    """Say on stderr that the command was stopped, and leave with this exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # leaving already; a second Ctrl-C would only spoil the screen
    problem = Problem(
        "FB409", "the command to come to its end", f"a signal ({text})", "run the same command again to go on"
    )
    if as_json:
        print_json({"schema": 1, "error": {**problem.as_json(), "exit_code": code}, "errors": [problem.as_json()]})
    _say(f"{text}. {problem.fix.capitalize()}.")
    raise SystemExit(code)


def _log(error: BaseException) -> str:
    """Where the traceback was written; what it says in one line, where that cannot be."""
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="foolbench-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(text)
    except OSError:
        return text.strip().splitlines()[-1]
    return file.name


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def show(problems: tuple[Problem, ...]) -> None:
    """Print each problem with its line and its fix on stderr; say how to learn more."""
    for problem in problems:
        _say(_shown(problem))
    if len(problems) > 1:
        _say(f"{len(problems)} errors", "bold red")


def _say(text: Any, style: str = "") -> None:
    """On stderr; a terminal wraps between words, and for all others a line stays a line."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print(text, style=style, soft_wrap=not console.is_terminal, highlight=False, markup=False)


def _shown(problem: Problem) -> Any:
    from rich.text import Text

    text = Text()
    text.append(f"error[{problem.code}]", "bold red")
    where = problem.where
    if where.place:
        text.append(f" {where.place}", "bold")
    if where.key:
        text.append(f" {where.key}", "cyan")
    if str(where):
        text.append(":")
    text.append(f" {problem.message}\n")
    if where.source is not None and where.line is not None:
        text.append(f"  {where.line} | ", "dim")
        text.append(f"{where.source.rstrip()[:160]}\n")
    text.append("  fix: ", "bold green")
    text.append(f"{problem.fix}")
    text.append(f"     more: foolbench explain {problem.code}", "dim")
    return text
