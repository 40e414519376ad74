"""What `foolbench explain` tells of one error code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """One error code, at length."""

    title: str
    exit_code: int
    """What the command exits with (after several problems: that of their kind)."""
    text: str
