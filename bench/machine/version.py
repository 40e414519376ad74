"""Which foolbench this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The installed version, such as `0.1.0`; `0+unknown` where foolbench is imported without being installed."""
    try:
        return version("foolbench")
    except PackageNotFoundError:
        return "0+unknown"
