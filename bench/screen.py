"""What the command line says when something goes wrong, and the exit code with which it leaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import typer

from .errors import FoolbenchError, Problem


class Terminated(BaseException):
    """SIGTERM came."""


def terminate(signum: int, frame: object) -> None:
    """Signal handler: leave by way of the finally blocks."""
    raise Terminated


@contextmanager
def guarded(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn what escapes into a message and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, SystemExit):
        raise
    except BrokenPipeError:  # whoever read the output has enough of it
        os._exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        leave("Stopped.", 130, as_json)
    except Terminated:
        leave("Terminated.", 143, as_json)
    except FoolbenchError as error:
        if debug:
            traceback.print_exc()
        _fail(error.problems, error.exit_code, as_json)
    except BaseException as error:
        if debug:
            traceback.print_exc()
        message = f"foolbench itself failed with {type(error).__name__}: {error}."
        fix = f"please report it with {_log(error)}, or run again with --debug"
        _fail((Problem("FB700", message, fix),), 70, as_json)


def _fail(problems: tuple[Problem, ...], code: int, as_json: bool) -> NoReturn:
    if as_json:
        rows = [{k: str(v) if isinstance(v, Path) else v for k, v in asdict(p).items()} for p in problems]
        print_json({"schema": 1, "error": {**rows[0], "exit_code": code}, "errors": rows})
    show(problems)
    raise SystemExit(code)


def leave(text: str, code: int, as_json: bool) -> NoReturn:
    """Say on stderr that the command was stopped, and leave with this exit code."""
    if as_json:
        error = {"code": "FB409", "message": text, "fix": "run the same command again", "exit_code": code}
        print_json({"schema": 1, "error": error, "errors": [error]})
    typer.echo(text, err=True)
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
    from rich.console import Console

    console = Console(stderr=True)
    for problem in problems:
        console.print(_shown(problem), soft_wrap=True, highlight=False)
    if len(problems) > 1:
        console.print(f"{len(problems)} errors", style="bold red", highlight=False)


def _shown(problem: Problem) -> Any:
    from rich.text import Text

    text = Text()
    text.append(f"error[{problem.code}]", "bold red")
    if problem.file is not None:
        where = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part is not None)
        text.append(f" {where}", "bold")
    if problem.key:
        text.append(f" {problem.key}", "cyan")
    text.append(f" {problem.message}\n")
    if problem.source is not None and problem.line is not None:
        text.append(f"  {problem.line} | ", "dim")
        text.append(f"{problem.source.rstrip()[:160]}\n")
    text.append("  fix: ", "bold green")
    text.append(f"{problem.fix}")
    text.append(f"     more: foolbench explain {problem.code}", "dim")
    return text
