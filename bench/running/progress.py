"""What a run tells of itself while it runs. One interface, and the silent form; live forms are in bench/cli/live.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...attacks.entry import Entry
from .drive import Tick
from .shards import ShardResult, cut


@dataclass(frozen=True)
class PlannedEntry:
    """What a progress display must know of an entry beforehand."""

    name: str
    title: str
    group: str
    """The attack or control that it belongs to."""
    images: int
    """Images that will be asked for at most."""
    tasks: int
    shards: int
    attack: str
    """What people read for the attack or control."""


def planned(entry: Entry, images: int, attack: str) -> PlannedEntry:
    """What to expect of an entry on a battery of so many evaluation images; `attack` is its attack's title."""
    tasks = entry.tasks * len(entry.targets) if entry.task == "fool" else min(entry.tasks, images)
    owners = entry.tasks if entry.task == "fool" and entry.box == "black" else tasks
    shards = len(cut(entry))
    most = entry.budget if entry.most is None else min(entry.most, entry.budget)
    asked = owners * most + shards * entry.setup
    return PlannedEntry(entry.name, entry.title, entry.group, asked, tasks, shards, attack)


class Progress(Protocol):
    """Told what happens. Called from several threads; must never raise and never change a result."""

    def begin(self, phase: str, plan: list[PlannedEntry]) -> None:
        """A phase (the victim, the bare model, …) starts with these entries."""
        ...

    def shard(self, entry: str, index: int) -> Tick:
        """A shard is about to be worked on; the Tick is to be told of each of its batches."""
        ...

    def finished(self, entry: str, index: int, result: ShardResult) -> None:
        """A shard is done, or was found done."""
        ...

    def end(self) -> None:
        """The phase is over."""
        ...

    def say(self, text: str) -> None:
        """One line about something that is neither an entry nor an error."""
        ...


class Silent:
    """Says nothing."""

    def begin(self, phase: str, plan: list[PlannedEntry]) -> None:
        """See Progress."""

    def shard(self, entry: str, index: int) -> Tick:
        """See Progress."""
        return lambda asked, fooled: None

    def finished(self, entry: str, index: int, result: ShardResult) -> None:
        """See Progress."""

    def end(self) -> None:
        """See Progress."""

    def say(self, text: str) -> None:
        """See Progress."""
