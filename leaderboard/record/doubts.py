"""Which flags are doubts: a number beside one may not be believed, so the entry is shown and never ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .record import Flag
from .words import printable

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
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count)


@dataclass(frozen=True)
class Told:
    """One flag as people read it, whatever attacks earned it."""

    kind: Kind
    code: str
    sentences: list[str]
    """Each once, after the titles of the attacks that it is about."""


def told(flags: Iterable[Flag], titles: Mapping[str, str]) -> list[Told]:
    """Each code once, doubts first. `titles`: what people read for each attack."""
    found: dict[str, dict[str, list[str]]] = {}
    kinds: dict[str, Kind] = {}
    for flag in flags:
        attacks = found.setdefault(flag.code, {}).setdefault(printable(flag.sentence, 1000), [])
        attacks += [] if flag.attack is None else [printable(titles.get(flag.attack, flag.attack), 60)]
        kinds[flag.code] = min(kind_of(flag), kinds.get(flag.code, "note"))  # "doubt" comes first
    rows = [Told(kinds[code], code, [_about(*pair) for pair in pairs.items()]) for code, pairs in found.items()]
    return sorted(rows, key=lambda row: row.kind)


def _about(sentence: str, titles: list[str]) -> str:
    names = ", ".join(titles)
    return f"{names}: {sentence}" if names and names not in sentence else sentence
