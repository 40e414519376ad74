"""A battery on its way to another process: its spec's class is made on use, and has no address to be found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..choices import Tier
from ..reading.source import Source
from .battery import Battery, form_of
from .installed import packaged


@dataclass(frozen=True)
class SentBattery:
    """All that a Battery is made of, in words."""

    plain: dict[str, Any]
    tier: Tier
    shipped: bool
    digest: str
    packages: Mapping[str, str]
    source: Source

    @staticmethod
    def of(battery: Battery) -> SentBattery:
        """Take a battery to pieces."""
        plain = battery.spec.model_dump(mode="json", by_alias=True)
        packages = dict(battery.packages)
        return SentBattery(plain, battery.tier, battery.shipped, battery.digest, packages, battery.source)

    def battery(self) -> Battery:
        """Put it together again. Raises FoolbenchError where a package that it needs is not installed here."""
        brought = tuple(found.attack for found in packaged(set(self.packages)))
        spec = form_of(brought).model_validate(self.plain)
        return Battery(spec, self.tier, self.shipped, self.digest, self.packages, self.source)
