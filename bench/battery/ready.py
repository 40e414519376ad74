"""Whether a run of a battery will find what it needs, before it is run."""

from __future__ import annotations

import os

from ..choices import Tier
from ..errors import EnvironmentFault, InvalidInput, together
from .battery import Battery, read_battery
from .panel import named


def read_ready(name: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None) -> Battery:
    """Read a battery like `read_battery`, and of a user's own also its data and the evidence of its panel, at both
    tiers. The data of a shipped battery may be on another machine.

    Raises InvalidInput and EnvironmentFault with everything that is wrong at the first tier where something is.
    """
    battery = read_battery(name, folder=folder)
    if not battery.shipped:
        tiers: tuple[Tier, ...] = ("standard",) if battery.spec.smoke is None else ("standard", "smoke")
        for tier in tiers:
            _check(battery if tier == battery.tier else read_battery(name, tier=tier, folder=folder))
    return battery


def _check(battery: Battery) -> None:
    wrong: list[InvalidInput | EnvironmentFault] = []
    for look in (battery.load, lambda: named(battery)):
        try:
            look()
        except (InvalidInput, EnvironmentFault) as error:
            wrong.append(error)
    if wrong:
        raise together(wrong) from wrong[0]
