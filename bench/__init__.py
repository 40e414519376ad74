"""The Python API: `evaluate`, `read_submission`, `read_battery`. Importing it imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .battery.battery import read_battery as read_battery
    from .evaluation.api import evaluate as evaluate
    from .submission.submission import read_submission as read_submission

__all__ = ["evaluate", "read_battery", "read_submission"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = {
        "evaluate": "evaluation.api",
        "read_battery": "battery.battery",
        "read_submission": "submission.submission",
    }.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
