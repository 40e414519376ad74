"""What a record says of its battery: which attacks it has, in words, and what it ranks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...bench.errors import Unexpected
from .measure import Scores
from .rows import RankedRow as RankedRow

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""An attack's, in a battery. It becomes part of files' names, of addresses and of the columns of downloads."""
TAKEN = frozenset((*Scores.model_fields, "original", "originals", "properties"))
"""Names that no attack may have: scores and other evidence have them."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AttackRef(_Model):
    """One attack or control of a battery, in words. Report and site read them here, so that none keeps a list."""

    title: str
    """What people read for it, such as "Evolution (direct encoding)"."""
    sentence: str
    """What its fooling ratio is the share of, in one or two sentences."""
    task: Literal["fool", "perturb"]
    control: bool = False
    """Whether it is a base rate that attacks must beat, and never ranked."""
    package: str | None = None
    """The installed package that it comes from, with its version; None: foolbench itself."""


class BatteryRef(_Model):
    """Which battery, exactly."""

    name: str
    tier: Literal["standard", "smoke"]
    digest: str
    """sha256 of the battery's definition and of the files it names."""
    shape: tuple[int, int, int]
    classes: list[str]
    """The classes' names, in order."""
    shipped: bool
    """Whether it is one of foolbench's own; others get boards of their own."""
    attacks: dict[Name, AttackRef]
    """All attacks and controls, in the battery's order."""
    ranked: list[RankedRow]
    """What the robust score is the mean over, in the order in which tables show it."""

    @property
    def counted(self) -> tuple[str, ...]:
        """The attacks that ranked rows count, each once, in the rows' order."""
        return tuple(dict.fromkeys(name for row in self.ranked for name in row.entries))

    def task_of(self, row: RankedRow) -> Literal["fool", "perturb"]:
        """What a row's attacks do."""
        return self.attacks[row.entries[0]].task

    @property
    def unranked(self) -> tuple[str, ...]:
        """The attacks that no ranked row counts, in the battery's order."""
        return tuple(n for n, a in self.attacks.items() if not a.control and n not in self.counted)

    @property
    def controls(self) -> tuple[str, ...]:
        """The base rates that attacks must beat, in the battery's order."""
        return tuple(name for name, attack in self.attacks.items() if attack.control)

    @model_validator(mode="after")
    def _rows_count_attacks(self) -> BatteryRef:
        if taken := sorted(TAKEN & {*self.attacks, *(row.name for row in self.ranked)}):
            raise Unexpected("attacks that are named otherwise than scores and evidence", taken[0], "rename it")
        for row in self.ranked:
            wrong = [n for n in row.entries if n not in self.attacks or self.attacks[n].control]
            if wrong:
                raise Unexpected("ranked attacks of the battery, none of them a control", wrong[0], "remove its row")
            if len({self.attacks[name].task for name in row.entries}) > 1:
                raise Unexpected("attacks of one task in a row", f"both in {row.name}", "make two rows of it")
            if row.control is not None and not (row.control in self.attacks and self.attacks[row.control].control):
                raise Unexpected("a control of the battery", row.control, f"remove it from the row {row.name}")
            if twice := sorted({name for name in row.entries if row.entries.count(name) > 1}):
                raise Unexpected("each attack once in a row", f"{twice[0]} twice in {row.name}", "remove one")
        names = [row.name for row in self.ranked]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Unexpected("each row once in the ranking", f"{twice[0]} twice", "remove one")
        return self
