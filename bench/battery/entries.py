"""A battery's attacks as Entries: what each attack's own file makes of the battery's YAML."""

from __future__ import annotations

from ...attacks.entry import Entry
from .battery import Battery


def entries(battery: Battery) -> tuple[Entry, ...]:
    """All entries of a battery, attacks first, then controls; an attack's headline stands before its other settings."""
    return tuple(entry for _, planned in battery.spec.plans() for entry in planned)
