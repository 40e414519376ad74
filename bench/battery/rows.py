"""The rows that a battery ranks: what its YAML says of them, and what they are for the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...attacks.entry import Entry
from ...attacks.spec import AtLeastOne, Attack, Strict
from ...leaderboard.record.rows import RankedRow
from ..choices import nearest
from ..errors import Unexpected

PASSES = 3
"""Forward passes that a gradient counts as: one forward, and about two for the way back."""


class RowSpec(Strict):
    """One of `ranked:`. An attack's name alone is a row of that attack."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_]*$",
            max_length=40,
            description="at most 40 lower-case letters, digits and underscores, a letter first, such as my_row",
            examples=["my_row"],
        ),
    ]
    title: str | None = None
    """What people read; the first attack's title when absent."""
    entries: Annotated[tuple[str, ...], Field(min_length=1)]
    """The attacks that it counts. The first to get there counts, task by task."""
    over: Literal["queries", "epsilon"] = "queries"
    """What a task holds out against: forward passes, or the ε of the attacks' curves."""
    first: AtLeastOne | None = None
    """Forward passes that an attack makes before it can have learned anything; when absent, one look: a query, or a
    gradient where one of its attacks takes those, so that a single step is lost or not and nothing between."""
    reason: str | None = None
    """Why `first` is what it is."""
    control: str | None = None
    """The control that the row must beat."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "entries": (value,)}
        # Once a validator has looked at it, Pydantic takes it for Python's own, where a list is no tuple.
        if isinstance(value, dict) and isinstance(value.get("entries"), list):
            return value | {"entries": tuple(value["entries"])}
        return value


def check_rows(
    rows: Sequence[RowSpec], attacks: Iterable[Attack[Any]], controls: Iterable[Attack[Any]]
) -> list[Unexpected]:
    """What is wrong with the rows of a battery that has these attacks and controls."""
    known, wrong = {attack.name: attack for attack in attacks}, list[Unexpected]()
    beside = [control.name for control in controls]
    for i, row in enumerate(rows):
        at: tuple[str | int, ...] = ("ranked", i)
        plain = row.entries == (row.name,) and row.title is None
        for k, name in enumerate(row.entries):
            if name not in known:
                expected = f"one of this battery's attacks ({', '.join(known) or 'it has none'})"
                like = nearest(name, list(known))
                fix = f"write {like}" if like else "remove it, or add it to `attacks:`"
                wrong.append(Unexpected(expected, repr(name), fix, at=at if plain else (*at, "entries", k)))
            elif name in row.entries[:k]:
                wrong.append(Unexpected("each attack once", f"{name!r} twice", "remove one", at=(*at, "entries", k)))
        tasks = {known[name].task for name in row.entries if name in known}
        if len(tasks) > 1:
            fix = "make two rows of it"
            wrong.append(
                Unexpected("attacks of one task in a row", "fooling and changing ones", fix, at=(*at, "entries"))
            )
        if row.name in [other.name for other in rows[:i]]:
            what = "each attack once" if plain else "rows of different names"
            wrong.append(Unexpected(what, f"{row.name!r} twice", "remove one", at=at if plain else (*at, "name")))
        if row.control is not None and row.control not in beside:
            expected = f"one of this battery's controls ({', '.join(beside) or 'it has none'})"
            wrong.append(Unexpected(expected, repr(row.control), "correct or remove it", at=(*at, "control")))
    return wrong


def ranked_row(row: RowSpec, plans: Mapping[str, Sequence[Entry]], titles: Mapping[str, str]) -> RankedRow:
    """The row as a record holds it. `plans`: each attack's entries, the headline first.

    Raises Unexpected, `at` a key of the row, where a row over ε has an attack without a limit in ε.
    """
    curve, epsilon = list[float](), None
    if row.over == "epsilon":
        for k, name in enumerate(row.entries):
            limit = plans[name][0].limit
            if limit is None or limit.kind != "linf":
                expected = "attacks within an ε, for a row over epsilon"
                raise Unexpected(expected, name, "remove it, or say over: queries", at=("entries", k))
            if epsilon is None:
                epsilon = limit.value
        grid = {e.limit.value for name in row.entries for e in plans[name] if e.limit is not None and not e.smallest}
        curve = sorted({round(value, 9) for value in grid})
    taken = [entry for name in row.entries for entry in counted(plans[name])]
    look = PASSES if any(entry.box == "white" for entry in taken) else 1
    return RankedRow(
        name=row.name,
        title=row.title or titles[row.entries[0]],
        entries=list(row.entries),
        first=row.first or look,
        budget=max(passes(entry) for entry in taken),
        curve=curve,
        epsilon=epsilon,
        control=row.control,
        reason=row.reason,
    )


def counted(members: Sequence[Entry]) -> Sequence[Entry]:
    """Which of an attack's entries count in a row over queries: the headline, or all where the best counts."""
    return members if members[0].best_of else members[:1]


def passes(entry: Entry) -> int:
    """Forward passes that an entry grants to each task, at most."""
    granted = min(entry.budget, entry.most or entry.budget)
    return granted * PASSES if entry.box == "white" else granted
