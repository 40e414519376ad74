"""What a tier of a battery changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def overlaid(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, key by key where both hold keys of their own; a new dict."""
    merged = dict(base)
    for key, value in change.items():
        inner = base.get(key)
        merged[key] = overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
