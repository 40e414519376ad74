"""What all shards of one victim share."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...models.base import Classifier
from ..asking.clean import Clean
from ..battery.battery import Battery
from ..battery.panel import Sources
from ..data.data import Data
from ..machine.memory import Memory
from .oracle import Look


@dataclass(frozen=True)
class Arena:
    """One victim on one battery: where shards are worked on."""

    battery: Battery
    data: Data
    victim: Classifier
    clean: Clean
    sources: Sources | None
    """The panel's images, for a victim without gradients; None where there is no panel."""
    memory: Memory = field(default_factory=Memory)
    """How many images fit into it at once."""
    looks: dict[tuple[int, int], dict[str, Look]] = field(default_factory=dict)
    """By a shard's first task and its end: what was differentiated there, for all entries on those images. A look
    depends on nothing else, so it does not matter which entry comes first, or whether two take it side by side."""

    @property
    def draws(self) -> int:
        """How often the judge asks about each image."""
        return self.battery.spec.judge.draws if self.clean.randomised else 1
