"""The Python API: `evaluate` and the `Run` it returns, `read_submission`, `read_battery`, and the `FoolbenchError` with
which they refuse. Importing it imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import FoolbenchError

if TYPE_CHECKING:
    from .battery.battery import read_battery as read_battery
    from .evaluation.api import evaluate as evaluate
    from .evaluation.finished import Run as Run
    from .submission.submission import read_submission as read_submission

__all__ = ["FoolbenchError", "Run", "evaluate", "read_battery", "read_submission"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = {
        "Run": "evaluation.finished",
        "evaluate": "evaluation.api",
        "read_battery": "battery.battery",
        "read_submission": "submission.submission",
    }.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
