"""What Typer refuses of a command line, as an error of ours."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from ..choices import unknown_word
from ..errors import InvalidInput, Problem, Where

USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Whatever is wrong with a command line; Typer has no public name for it."""


def refused(error: Any, app: typer.Typer, arguments: list[str]) -> InvalidInput:
    """What to raise for a USAGE_ERROR; where one of a few words was expected, the fix is the nearest of them.

    Args:
        error: what `app` raised.
        app: the commands.
        arguments: what it was called with.
    """
    where: Any = error.ctx
    command = where.command_path if where is not None else "foolbench"
    parameter = getattr(error, "param", None)
    words = () if where is None or parameter is None else _words(app, where.command.name, parameter.name)
    # Typer names the wrong word in its message alone, in quotes, beside those that it expected.
    given = [word for argument in arguments for word in (argument, argument.partition("=")[2])]
    wrong = next((word for word in given if word not in words and repr(word) in error.message), None)
    if parameter is not None and words and wrong is not None:
        return unknown_word(parameter.opts[0] if parameter.param_type_name == "option" else command, wrong, words)
    got = f"others ({' '.join(error.format_message().split()).rstrip('.')})"
    where = Where(key=command)
    return InvalidInput(Problem("FB114", "arguments as --help has them", got, f"{command} --help", where))


def _words(app: typer.Typer, command: str, parameter: str) -> tuple[str, ...]:
    """The words that a command's parameter is one of; none where it is not a Literal.

    Read from the command's own annotations: which class of Typer's checks a Literal differs between its releases.
    """
    for info in app.registered_commands:
        if info.callback is not None and command in (info.name, info.callback.__name__):
            kind = get_type_hints(info.callback).get(parameter)
            return get_args(kind) if get_origin(kind) is Literal else ()
    return ()
