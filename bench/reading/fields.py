"""Where a Pydantic error's location leads: through models, lists and unions, to a field and what it may hold."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Field:
    """A place in a model: the type it takes, and what is declared of it."""

    type: Any
    """Without Annotated and None."""
    info: tuple[Any, ...] = ()
    """FieldInfos and constraints, outermost first."""

    @property
    def choices(self) -> tuple[Any, ...]:
        """The legal values, where they can be listed."""
        found = [value for member in members(self.type) if get_origin(member) is Literal for value in get_args(member)]
        return (True, False) if self.type is bool else tuple(found)

    @property
    def is_list(self) -> bool:
        """Whether it takes a list (and nothing else)."""
        return get_origin(self.type) in (list, tuple)

    @property
    def is_number(self) -> bool:
        """Whether it takes a number (and nothing else)."""
        return self.type in (int, float)

    @property
    def item(self) -> Field:
        """Of a list: its values' type."""
        return make_field((get_args(self.type) or (Any,))[0])

    @property
    def holds_numbers(self) -> bool:
        """Of a list: whether its values are numbers."""
        return self.is_list and self.item.is_number

    @property
    def length(self) -> int | None:
        """Of a list with a fixed number of values: that number."""
        args = get_args(self.type)
        return len(args) if get_origin(self.type) is tuple and Ellipsis not in args else None

    @property
    def optional(self) -> bool:
        """Whether it may be left out."""
        return any(isinstance(info, FieldInfo) and not info.is_required() for info in self.info)

    @property
    def form(self) -> str | None:
        """Of text with a pattern: the description that stands beside it, which says the same in words."""
        infos = (info for info in self.info if isinstance(info, FieldInfo))
        return next((i.description for i in infos if any(getattr(c, "pattern", None) for c in i.metadata)), None)

    def clamped(self, number: float) -> float | None:
        """The legal number nearest to `number`."""
        for info in self._constraints:
            number = max(number, getattr(info, "ge", number))
            number = min(number, getattr(info, "le", number))
            if number <= getattr(info, "gt", -math.inf) or number >= getattr(info, "lt", math.inf):
                return next(self.examples, None)
        return round(number) if self.type is int else number

    @property
    def examples(self) -> Iterator[Any]:
        """Legal values, the most telling first."""
        for info in self.info:
            if isinstance(info, FieldInfo):
                yield from info.examples or ()
        for info in self.info:
            if isinstance(info, FieldInfo) and isinstance(info.default, bool | int | float | str):
                yield info.default
        yield from self.choices[:1]
        for info in self._constraints:
            yield from (value for name in ("ge", "le") if (value := getattr(info, name, None)) is not None)

    @property
    def _constraints(self) -> tuple[Any, ...]:
        inner = (c for info in self.info if isinstance(info, FieldInfo) for c in info.metadata)
        return (*inner, *(info for info in self.info if not isinstance(info, FieldInfo)))


def make_field(annotation: Any, *info: Any) -> Field:
    """A Field of an annotation, peeled of Annotated and of `| None`."""
    options = members(annotation)
    if len(options) == 1 and options[0] is not annotation:
        more = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
        return make_field(options[0], *info, *more)
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        return make_field(annotation, *info, *more)
    return Field(annotation, info)


def members(annotation: Any) -> list[Any]:
    """The members of a union but None; of anything else, itself."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) in (Union, types.UnionType):
        return [inner for arg in get_args(bare) if arg is not types.NoneType for inner in members(arg)]
    return [annotation]


def discriminator(field: Field) -> str | None:
    """The key that tells a union's members apart."""
    found = (info.discriminator for info in field.info if isinstance(info, FieldInfo))
    return next((name for name in found if isinstance(name, str)), None)


def fields(annotation: Any) -> Mapping[str, FieldInfo] | None:
    """A model's fields by the names they have in a file; None for what is no model."""
    annotation = make_field(annotation).type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {info.alias or name: info for name, info in annotation.model_fields.items()}
    return None


def legal_values(model: Any, name: str) -> tuple[Any, ...]:
    """The legal values of one of a model's fields."""
    info = (fields(model) or {}).get(name)
    return make_field(info.annotation, info).choices if info is not None else ()


def follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[tuple[int | str, ...], Field]:
    """The path of keys in a Pydantic location, which also names the members of unions, and the field it leads to."""
    field, path = Field(model), []
    for part in location:
        options = members(field.type)
        if len(options) > 1:
            tag = discriminator(field)
            field = make_field(_member(options, str(part), tag), *field.info)
        elif (known := fields(field.type)) is not None:
            path.append(part)
            info = known.get(str(part))
            field = make_field(info.annotation, info) if info is not None else Field(Any)
        elif get_origin(field.type) in (list, tuple, dict):
            args = get_args(field.type)
            path.append(part)
            if get_origin(field.type) is dict:
                field = make_field(args[1])
            elif field.length is not None and isinstance(part, int) and part < len(args):
                field = make_field(args[part])
            else:
                field = field.item
    return tuple(path), field


def _member(options: list[Any], label: str, tag: str | None) -> Any:
    """The member of a union that a part of a location stands for."""
    if tag is not None:
        return next((option for option in options if label in map(str, legal_values(option, tag))), Any)
    for option in options:
        bare = make_field(option).type
        name = getattr(get_origin(bare) or bare, "__name__", "")
        if label.removeprefix("constrained-").split("[")[0] in (name, name.replace("str", "string")):
            return option
    return options[0]
