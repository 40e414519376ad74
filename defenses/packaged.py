"""A defense from an installed package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..bench.errors import Failed, Unexpected, one_line
from ..models.base import Classifier


def packaged(inner: Classifier, name: str, factory: Callable[..., Any], args: Mapping[str, Any]) -> Classifier:
    """`factory(inner, **args)`, checked.

    What it returns must be a Classifier of the same shape, classes and device. What it says of its gradient, its chance
    and its rejection is taken as it says; what the evaluation finds out about them is another matter. For that it is
    also built in front of the model alone, where other defenses stand between the two.

    Raises:
        Unexpected: it returned something else; or the factory raised it, to refuse its `args`.
        Failed: the factory raised anything else.
    """
    try:
        result = factory(inner, **args)
    except Unexpected:
        raise
    except Exception as error:  # whatever somebody else's package raises
        raise Failed(
            f"the defense {name} to be built", one_line(error), "look at `args`, or ask its authors"
        ) from error
    if not isinstance(result, Classifier):
        raise Unexpected(
            f"the defense {name} to return a Classifier",
            type(result).__name__,
            "return dataclasses.replace(inner, ...)",
        )
    for what in ("shape", "classes", "device"):
        mine, its = getattr(inner, what), getattr(result, what)
        if mine != its:
            raise Unexpected(
                f"the defense {name} to keep {what} {mine}",
                its,
                "return dataclasses.replace(inner, ...) without changing it",
            )
    behind = inner if result.behind is inner.behind else result.behind  # its own parts, where it is made of ours
    return replace(result, behind=behind, alone=_alone(inner, factory, args))


def _alone(inner: Classifier, factory: Callable[..., Any], args: Mapping[str, Any]) -> Classifier | None:
    if inner.behind is None:
        return None
    try:
        result = factory(inner.innermost(), **args)
    except Exception:  # it need not work in front of anything else than what it was written for
        return None
    return result if isinstance(result, Classifier) else None
