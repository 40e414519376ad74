"""Pydantic's errors as sentences: what was expected, what came, and a line to paste. Knows nothing of files."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..choices import nearest
from ..errors import Several, Unexpected, one_line
from .fields import Field, discriminator, fields, follow, legal_values, members

Key = tuple[str | int, ...]
MAX_FINDINGS = 100
"""More than anyone reads; a hostile file could hold a hundred thousand."""


@dataclass(frozen=True)
class Finding:
    """Something wrong at a key; a Problem without its place in the file."""

    code: str
    key: Key
    expected: str
    got: str
    fix: str
    on_key: bool = False
    """Whether to point at the key rather than at its value."""
    meant: str | None = None
    """Of an unknown key: the one that it probably stands for."""


class Refused(Unexpected):
    """What a validator raises that has a code of its own; `at` leads on from the validated value. For all else it
    raises Unexpected, whose code is FB104."""

    def __init__(self, code: str, expected: str, got: object, fix: str, *, at: Key = ()):
        super().__init__(expected, got, fix, at=at)
        self.code = code


def dotted(key: Key) -> str:
    """`("defenses", 0, "bits")` -> `defenses[0].bits`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def findings(
    error: ValidationError, model: type[BaseModel], value: dict[str, Any]
) -> tuple[list[Finding], dict[str, Any]]:
    """All that is wrong, and `value` with wrong kinds of discriminated unions replaced by the likeliest ones."""
    guess = copy.deepcopy(value)
    found: list[Finding] = []
    wrong_types: dict[Key, list[str]] = {}
    wrong: dict[Key, Field] = {}
    for detail in error.errors(include_url=False)[:MAX_FINDINGS]:
        key, field = follow(model, detail["loc"])
        kind, given = detail["type"], _at(value, key)
        if kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(given, dict):
            found.append(_wrong_kind(key, field, given, _at(guess, key)))
        elif kind == "extra_forbidden":
            found.append(_unknown(key, follow(model, detail["loc"][:-1])[1], _at(value, key[:-1])))
        elif kind.startswith("missing") and isinstance(key[-1], str):
            found.append(_missing(key, field))
        elif kind in ("value_error", "assertion_error"):
            found += _refused(key, detail)
        elif kind == "too_short" and isinstance(given, list) and len(given) >= detail.get("ctx", {})["min_length"]:
            pass  # Pydantic counts the legal values alone, and each of the others is an error of its own
        else:
            key = key[:-1] if kind == "missing" else key  # of a list with a fixed number of values
            wrong[key] = follow(model, detail["loc"][:-1])[1] if kind == "missing" else field
            wrong_types.setdefault(key, []).append(_expected(detail, wrong[key]))
    for key, expected in wrong_types.items():
        # Where a union takes a list too, what is wrong inside that list says more.
        if not any(len(other) > len(key) and other[: len(key)] == key for other in wrong_types):
            given = _at(value, key)
            nouns = " or ".join(dict.fromkeys(expected))
            fix = _fix(key, wrong[key], given) or f"write {nouns} here"
            found.append(Finding("FB104", key, nouns, _got(given, expected), fix))
    return [f for f in found if not _renamed(f, found)], guess


def _renamed(finding: Finding, found: list[Finding]) -> bool:
    """Whether a key is missing only because it is misspelt."""
    return finding.code == "FB105" and any(
        other.meant == finding.key[-1] and other.key[:-1] == finding.key[:-1] for other in found
    )


def _refused(key: Key, detail: ErrorDetails) -> Iterator[Finding]:
    """What a validator refused."""
    error = detail.get("ctx", {}).get("error")
    for one in error.errors if isinstance(error, Several) else (error,):
        if isinstance(one, Unexpected):
            code = one.code if isinstance(one, Refused) else "FB104"
            yield Finding(code, (*key, *one.at), one.expected, one.got, one.fix)
        else:
            got = detail["msg"] if one is None else one_line(one)
            yield Finding("FB104", key, "a legal value", got, "correct it")


def _unknown(key: Key, parent: Field, given: Any) -> Finding:
    known = list(fields(parent.type) or ())
    name = str(key[-1])
    # A misspelt key is rarely one that is there too.
    near = nearest(name, [k for k in known if k not in given]) or nearest(name, known)
    if near:
        return _instead(key, near, _line(near, given[name]))
    expected = f"keys of `{dotted(key[:-1])}`" if len(key) > 1 else "keys of this file"
    fix = "write the keys out: merge keys are not read" if name == "<<" else "remove it"
    return Finding("FB103", key, f"{expected} ({', '.join(known)})", f"the unknown key `{name}`", fix, on_key=True)


def _instead(key: Key, near: str, fix: str) -> Finding:
    """An unknown key that stands for another one."""
    return Finding("FB103", key, f"the key `{near}`", f"the unknown key `{key[-1]}`", fix, on_key=True, meant=near)


def _missing(key: Key, field: Field) -> Finding:
    return Finding("FB105", key, f"the key `{key[-1]}`", "none", _line(str(key[-1]), _example(field)))


def _wrong_kind(key: Key, field: Field, given: dict[str, Any], guess: dict[str, Any]) -> Finding:
    """A mapping whose `kind` is missing, misspelt or unknown. Writes the likeliest kind into `guess`."""
    tag = discriminator(field) or "kind"
    options = {name: member for member in members(field.type) for name in legal_values(member, tag)}
    legal = " or ".join(options)
    shared = {name: len((given.keys() - {tag}) & (fields(member) or {}).keys()) for name, member in options.items()}
    likeliest = max(shared, key=lambda name: shared[name])
    # Where several are as likely, what stands beside the kind is not checked as any of them.
    sure = likeliest if list(shared.values()).count(shared[likeliest]) == 1 else None
    fix = f"{tag}: {likeliest}" if shared[likeliest] else f"write one of these after `{tag}: `"
    if tag in given:
        near = nearest(str(given[tag]), list(options))
        guess[tag] = near or sure or given[tag]
        return Finding("FB104", (*key, tag), legal, _describe(given[tag]), _line(tag, near) if near else fix)
    known = {name for member in options.values() for name in fields(member) or ()}
    misspelt = next((name for name in given if name not in known and nearest(name, [tag])), None)
    if misspelt is not None:
        written = guess.pop(misspelt)
        near = nearest(str(written), list(options))
        guess[tag] = near or sure or written
        return _instead((*key, misspelt), tag, _line(tag, near or written))
    if sure:
        guess[tag] = sure
    return Finding("FB105", (*key, tag), f"the key `{tag}` ({legal})", "none", fix)


_NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "model": "a mapping (`key: value`)",
    "dict": "a mapping (`key: value`)",
    "union_tag_not": "a mapping (`key: value`)",
    "model_attributes": "a mapping (`key: value`)",
    "none": "nothing",
    "finite": "a finite number",
}
_BOUNDS = {
    "greater_than_equal": "a number of at least {ge:g}",
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "less_than": "a number below {lt:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


def _expected(detail: ErrorDetails, field: Field) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("string_pattern_mismatch", "string_type") and field.form:
        return field.form
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context).replace("'", "")
    if kind in ("too_short", "too_long", "missing"):
        word = {"too_short": "at least ", "too_long": "at most "}.get(kind, "")
        count = context.get("min_length", context.get("max_length"))
        if (fixed := field.length) is not None:
            word, count = "", fixed
        noun = "number" if field.holds_numbers else "value"
        return f"{word}{count} {noun}{'' if count == 1 else 's'}"
    if kind.startswith("int_from_float"):
        return _NOUNS["int"]
    noun = _NOUNS.get(re.sub(r"_(type|parsing|required|found|number|parsing_size)$", "", kind))
    return noun or f"something else ({detail['msg']})"


def _got(value: Any, expected: list[str]) -> str:
    counted = isinstance(value, list) and all(re.search(r"\d (number|value)s?$", text) for text in expected)
    return str(len(value)) if counted else _describe(value)


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:59] + '…'!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "a mapping" if isinstance(value, dict) else _flow(value)


def _fix(key: Key, field: Field, given: Any) -> str | None:
    """What to write instead; None where only the reader knows."""
    value = _corrected(field, given)
    if not key or isinstance(key[-1], int):
        return None if value is None else f"write {_flow(value)} here"
    line = None if _flow(value) == _UNKNOWN else _line(str(key[-1]), value)
    if line is None and isinstance(given, dict) and field.is_list:
        return "begin each value of the list with `- `, on a line of its own"
    if given is None and field.optional:
        return f"remove it, or {line}" if line else "remove it"
    return line


def _corrected(field: Field, given: Any) -> Any:
    """The legal value nearest to what was given."""
    choices = field.choices
    if choices:
        near = nearest(str(given), [str(choice) for choice in choices])
        return next((choice for choice in choices if str(choice) == near), choices[0])
    if field.is_list and isinstance(given, int | float | str) and not isinstance(given, bool) and field.length is None:
        one = given if isinstance(given, str) and field.item.type is str else _corrected(field.item, given)
        return _example(field) if one is None else [one]
    if field.is_list and isinstance(given, dict) and given:
        return [given]
    if isinstance(given, str) and field.is_number:
        given = _number(given)
    if isinstance(given, int | float) and not isinstance(given, bool) and field.is_number:
        return field.clamped(given)
    if isinstance(given, int | float) and field.type is str and not field.form:
        return str(given).lower() if isinstance(given, bool) else str(given)
    return _example(field)


def _number(text: str) -> Any:
    try:
        number = float(text.rstrip("% ").replace("_", "").replace(",", ".")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return int(number) if number.is_integer() else number


def _example(field: Field) -> Any:
    return next(iter(field.examples), None)


def _line(name: str, value: Any) -> str:
    return f"{name}: {_flow(value)}".rstrip()


_UNKNOWN = "…"


def _flow(value: Any) -> str:
    """A value on one line of YAML; `…` for what only the reader knows."""
    if value is None:
        return _UNKNOWN
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    return text if len(text) <= 100 and "\n" not in text else _UNKNOWN


def _at(value: Any, key: Key) -> Any:
    for part in key:
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
