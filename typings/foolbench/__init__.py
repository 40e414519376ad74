"""foolbench: a robustness benchmark for image classifiers.

The Python API is `foolbench.bench` (`from foolbench.bench import evaluate`); the command is `foolbench`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    """The installed version, such as `0.1.0`; `0+unknown` where foolbench is imported without being installed."""

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .bench.machine.version import own_version  # on use: importlib.metadata takes longer to import than all else

    return own_version()
