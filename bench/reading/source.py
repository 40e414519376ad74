"""YAML in: a file becomes a Pydantic model, or every problem of the file at once, each with its line and a fix.

Types are strict (`bits: "3"` is an error); the file's size is looked at before its content. How text becomes values is
in nodes.py, how Pydantic's errors become sentences in wording.py.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import InvalidInput, Problem, Where
from .nodes import TooMuch, child, compose, is_mapping, plain, repeated
from .wording import MAX_FINDINGS, Finding, Key, dotted, findings

T = TypeVar("T", bound=BaseModel)
MAX_BYTES = 262_144
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_SHOWN = 200


@dataclass(frozen=True)
class Source:
    """A YAML file that was read: its values, and where each of them stands."""

    path: Path
    lines: tuple[str, ...]
    root: yaml.Node
    value: dict[str, Any]
    """The file's content as plain JSON values."""

    def where(self, key: Key, *, on_key: bool = False) -> Where:
        """The place of a key's value (or, with `on_key` or where the value begins further down, of the key).

        `key` is a path of keys and list positions; one that is not in the file has the place of its nearest parent.
        """
        node, mark, found = self.root, self.root.start_mark, True
        for part in key:
            pair = child(node, part)
            if pair is None:
                found = False
                break
            mark, node = pair[0].start_mark, pair[1]
        # An aliased value stands elsewhere, so the line must be the key's own.
        if found and not on_key and node.start_mark.line == mark.line:
            mark = node.start_mark
        return _where(self.path, self.lines, mark, dotted(key))

    def problem(self, finding: Finding, under: Key = ()) -> Problem:
        """A finding with its place; `under` are the keys that lead to what was checked."""
        where = self.where((*under, *finding.key), on_key=finding.on_key)
        return Problem(finding.code, finding.expected, finding.got, finding.fix, where)


def refusal(problems: Iterable[Problem]) -> InvalidInput:
    """All of a file's Problems, each once, in the file's order."""
    return InvalidInput(*sorted(dict.fromkeys(problems), key=lambda p: (p.where.line or 0, p.where.column or 0)))


Form = type[T] | Callable[[dict[str, Any]], type[T]]
"""A model, or what chooses it by what the file holds."""


def read_yaml(path: Path, model: Form[T], *, max_bytes: int = MAX_BYTES, context: Any = None) -> T:
    """Read a YAML file as `model`. `context` goes to the model's validators.

    Raises InvalidInput with all Problems of the file (the first hundred of each kind, of a file that is all wrong).
    """
    return read_source(path, model, max_bytes=max_bytes, context=context)[0]


def read_source(path: Path, model: Form[T], *, max_bytes: int = MAX_BYTES, context: Any = None) -> tuple[T, Source]:
    """Like `read_yaml`; returns the Source too, for what only later turns out to be wrong."""
    text = _text(path, max_bytes)
    lines = tuple(_BREAK.split(text))
    root = _root(path, text, lines)
    broken: list[Finding] = []
    source = Source(path, lines, root, plain(root, (), broken))
    problems: list[Problem] = []
    for later, first, key in islice(repeated(root), MAX_FINDINGS):
        got = f"it twice, first on line {first.start_mark.line + 1}"
        where = _where(path, lines, later.start_mark, dotted(key))
        problems.append(Problem("FB106", f"`{key[-1]}` once", got, "keep one of the two", where))
    chosen: type[T] = model if isinstance(model, type) else model(source.value)  # pyright: ignore[reportAssignmentType]
    spec, found = validated(chosen, source.value, context)
    unreadable = {finding.key for finding in broken}
    told = (*broken[:MAX_FINDINGS], *(f for f in found if f.key not in unreadable))
    problems += [source.problem(finding) for finding in told]
    if problems or spec is None:
        raise refusal(problems)
    return spec, source


def validated(model: type[T], value: dict[str, Any], context: Any = None) -> tuple[T | None, list[Finding]]:
    """Plain JSON values as `model`, or None and all that is wrong with them."""

    def attempt(value: dict[str, Any]) -> T:
        # JSON is the mode in which Pydantic is strict about scalars and still takes a list for a tuple.
        return model.model_validate_json(json.dumps(value), strict=True, context=context)

    try:
        return attempt(value), []
    except ValidationError as error:
        found, guess = findings(error, model, value)
    if guess != value:  # a `kind` was wrong: what stands beside it is checked as the likeliest kind
        try:
            attempt(guess)
        except ValidationError as error:
            known = {finding.key for finding in found}
            found += [finding for finding in findings(error, model, guess)[0] if finding.key not in known]
    return None, found


def _text(path: Path, max_bytes: int) -> str:
    def refused(expected: str, got: str, fix: str, code: str = "FB100", line: int | None = None) -> InvalidInput:
        return InvalidInput(Problem(code, expected, got, fix, Where(path, line, line and 1)))

    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            name = next((p.name for p in sorted(path.glob("*.y*ml"))), "submission.yaml")
            raise refused("a YAML file", "a folder", f"name the file: {path / name}")
        if not stat.S_ISREG(status.st_mode):
            raise refused("a YAML file", "a device or a pipe", "save it as a file and name that")
        if status.st_size > max_bytes:
            fix = "name the YAML file itself; models and data stand in files of their own"
            raise refused(f"at most {_size(max_bytes)} of YAML", _size(status.st_size), fix)
        with path.open("rb") as file:
            data = file.read(max_bytes)
    except FileNotFoundError:
        near = get_close_matches(path.name, (p.name for p in path.parent.glob("*.y*ml")), 1)
        fix = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise refused("a YAML file", "nothing there", fix) from None
    except (OSError, ValueError) as error:
        got = f"one that cannot be read ({getattr(error, 'strerror', None) or error})"
        raise refused("a YAML file", got, "check the path and its permissions") from None
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data and not utf16:
        raise refused("YAML text", "a binary file", "name the YAML file, not the model", "FB101")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        got = "UTF-16" if utf16 else f"the byte 0x{data[error.start]:02x}"
        raise refused("UTF-8 text", got, "save the file as UTF-8", "FB101", line) from None
    if text.lstrip()[:14].lower().startswith(("<!doctype html", "<html")):
        raise refused("YAML", "an HTML page", "download the raw file instead of its page", "FB101", 1)
    return text


def _size(n: int) -> str:
    return f"{n / 1024:,.0f} KiB" if n < 2**20 else f"{n / 2**20:,.1f} MiB"


def _root(path: Path, text: str, lines: tuple[str, ...]) -> yaml.Node:
    start = _mark(0, 0)

    def refused(code: str, expected: str, got: str, fix: str, mark: yaml.Mark = start) -> InvalidInput:
        return InvalidInput(Problem(code, expected, got, fix, _where(path, lines, mark, None)))

    try:
        root = compose(text)
    except yaml.reader.ReaderError as error:
        before = _BREAK.split(text[: error.position])
        mark = _mark(len(before) - 1, len(before[-1]))
        got = f"the character U+{ord(text[error.position]):04X}, which is not allowed"
        raise refused("FB101", "YAML", got, "remove it", mark) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or start
        got = f"text that breaks its grammar ({error.problem})"
        raise refused("FB101", "YAML", got, _yaml_fix(str(error.problem)), mark) from None
    except RecursionError:
        raise refused("FB107", "a few levels", "YAML too deep to be read", "write it flatter") from None
    except TooMuch as error:
        fix = "write the values out instead of using anchors (&) and aliases (*)"
        raise refused("FB107", error.expected, error.got, fix, error.node.start_mark) from None
    if root is None:
        raise refused("FB102", "`key: value` lines", "an empty file", "begin with `schema: 1`")
    if not is_mapping(root):
        got = "a list" if isinstance(root, yaml.SequenceNode) else "one single value"
        raise refused("FB102", "`key: value` lines", got, "begin with `schema: 1`", root.start_mark)
    return root


def _mark(line: int, column: int) -> yaml.Mark:
    return yaml.Mark("", 0, line, column, None, 0)


def _yaml_fix(problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces instead of tabs"
    if "another document" in problem:
        return "keep one document a file: remove `---` and what follows it"
    if "mapping values" in problem:
        return 'put text that holds ": " in quotes, and check the indentation'
    if "undefined alias" in problem:
        return "put text that begins with * in quotes"
    return "check the brackets, quotes and indentation here and on the line above"


def _where(path: Path, lines: tuple[str, ...], mark: yaml.Mark, key: str | None) -> Where:
    text = lines[mark.line] if mark.line < len(lines) else ""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return Where(path, mark.line + 1, mark.column + 1, key or None, shown)
