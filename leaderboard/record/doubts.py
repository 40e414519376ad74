"""Which flags are doubts: a number that they stand beside may not be believed, so the entry is shown and never ranked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .record import Flag
from .words import plural

Kind = Literal["doubt", "note"]
DOUBTS = ("stateful", "memorised", "recognition", "withheld", "misdeclared")
"""Codes of doubts. All others are notes, but for `masking` where the stronger attack counts nowhere."""


def kind_of(flag: Flag) -> Kind:
    """A doubt or a note. A record's own word for it is not taken."""
    uncounted = flag.code == "masking" and flag.evidence.get("counted") is False
    return "doubt" if flag.code in DOUBTS or uncounted else "note"


def doubted(flags: Iterable[Flag]) -> str | None:
    """A clause that names the doubts; None where there is none."""
    codes = list(dict.fromkeys(flag.code.replace("_", " ") for flag in flags if kind_of(flag) == "doubt"))
    return f"in doubt: {', '.join(codes)}" if codes else None


def tally(flags: Iterable[Flag]) -> str:
    """Notes and doubts in numbers, each code once: "3 notes, 1 doubt"; empty where there are none."""
    kinds = {flag.code: kind_of(flag) for flag in sorted(flags, key=kind_of, reverse=True)}
    counts = [(sum(kind == each for kind in kinds.values()), each) for each in ("note", "doubt")]
    return ", ".join(plural(count, noun) for count, noun in counts if count)
