"""YAML text -> nodes that know their place -> plain JSON values. Knows nothing of files and models.

Only mappings, lists and scalars are read; a tag is never acted on. Scalars are read as YAML 1.2's core schema has them,
as people mean them: `1e-3` is a number, `no` and `2024-01-01` are text. Aliases are counted before they are expanded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml

from .wording import Finding, Key

MAX_NODES = 10_000
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
):  # fmt: skip
    firsts = [*_first, ""] if _name == "null" else list(_first)
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z", re.ASCII), firsts)


class TooMuch(Exception):
    """Aliases that never end or blow up, and the node to point at."""

    def __init__(self, node: yaml.Node, expected: str, got: str):
        self.node, self.expected, self.got = node, expected, got


def compose(text: str) -> yaml.Node | None:
    """The one document in `text`; None when it is empty.

    Raises yaml.YAMLError, RecursionError (nested too deep) or TooMuch.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
    finally:
        loader.dispose()
    if root is not None:
        _weigh(root)
    return root


def is_mapping(node: yaml.Node) -> bool:
    """Whether it is a plain mapping."""
    return isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map"


def child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node to point at and the value's node, for a key of a mapping or a position in a list; None if not there."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def plain(node: yaml.Node, at: Key, broken: list[Finding]) -> Any:
    """A node as a JSON value. What has none goes to `broken` and is null; of a repeated key the first counts."""
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [plain(item, (*at, i), broken) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                broken.append(Finding("FB101", at, "text as a key", "a list or a mapping", "use plain keys"))
            elif key.value not in values:
                values[key.value] = plain(value, (*at, key.value), broken)
        return values
    if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
        noun, parse = _SCALARS[kind]
        try:
            return parse(node.value)
        except (ValueError, KeyError):
            shown = node.value if len(node.value) <= 40 else node.value[:39] + "…"
            broken.append(Finding("FB104", at, noun, repr(shown), f"write {noun}"))
            return None
    tag = node.tag.replace(_TAG, "!!")
    broken.append(Finding("FB101", at, "plain YAML", f"the tag {tag}, which is never read", "remove the tag"))
    return None


def repeated(root: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node, Key]]:
    """Keys that a mapping holds twice: the later node, the first one, and their path."""
    seen: set[int] = set()
    todo: list[tuple[yaml.Node, Key]] = [(root, ())]
    while todo:
        node, at = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [(item, (*at, i)) for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, yaml.Node] = {}
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    todo.append((value, (*at, key.value)))
                    if (earlier := first.setdefault(key.value, key)) is not key:
                        yield key, earlier, (*at, key.value)


def _weigh(root: yaml.Node) -> None:
    """Refuse what aliases would blow up, by counting on the graph. A long text counts as several values."""
    weights: dict[int, int] = {}
    above: set[int] = set()
    written = 0

    def weigh(node: yaml.Node) -> int:
        nonlocal written
        if id(node) in above:
            raise TooMuch(node, "aliases (*) that end", "one inside its own anchor (&), which never ends")
        if id(node) not in weights:
            alone = 1 + (len(node.value) // 64 if isinstance(node, yaml.ScalarNode) else 0)
            written += alone
            above.add(id(node))
            weights[id(node)] = alone + sum(weigh(inner) for inner in _inner(node))
            above.remove(id(node))
        return weights[id(node)]

    total = weigh(root)
    if total > MAX_NODES and total > written:
        got = f"{total:,}" if total < 10**12 else f"about 10^{int(math.log10(total))}"
        raise TooMuch(root, f"aliases (*) to expand to at most {MAX_NODES:,} values", got)


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _finite(text: str) -> float:
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _encodable(text: str) -> str:
    text.encode()  # an escape such as "\ud800" makes text that no file and no terminal can hold
    return text


_SCALARS = {
    "null": ("nothing", lambda text: None),
    "bool": ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
    "int": ("a whole number", lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))),
    "float": ("a finite number", _finite),
    "str": ("text", _encodable),
}
