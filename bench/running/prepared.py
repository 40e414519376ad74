"""A victim prepared to be attacked: what all its shards share."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...attacks.entry import Entry
from ...models.base import Classifier
from ..asking.clean import CleanAnswers, blinded, examine
from ..battery.ground import Ground
from ..battery.panel import Sources
from ..battery.spec import BatterySpec
from .oracle import Look


@dataclass(frozen=True)
class Prepared:
    """A victim that was asked about the clean images: all that its shards depend on, beside their own tasks."""

    ground: Ground
    victim: Classifier
    """As attacks may use it: without its gradient where that vanishes nearly everywhere."""
    clean: CleanAnswers
    sources: Sources | None
    """The panel's images, for a victim without gradients; None where there is no panel."""
    looks: dict[tuple[int, int], dict[str, Look]] = field(default_factory=dict)
    """By a shard's first task and its end: what was differentiated there, for all entries on those images. A look
    depends on nothing else, so it does not matter which entry comes first, or whether two take it side by side."""

    @property
    def spec(self) -> BatterySpec:
        """The battery's definition."""
        return self.ground.spec

    def needless(self, entry: Entry) -> str | None:
        """Why this victim makes an entry needless, in a clause; None where it runs."""
        if entry.when == "withheld" and self.clean.blinds is None:
            return "the victim gives its probabilities, so it is searched by them"
        return None

    @property
    def draws(self) -> int:
        """How often the judge asks about each image."""
        return self.spec.judge.draws if self.clean.randomised else 1


def prepare(victim: Classifier, ground: Ground, sources: Sources | None = None, digest: str = "") -> Prepared:
    """Ask a victim about the clean images, and take from it a gradient that is none. `digest`: see `examine`.

    Raises ModelFailure.
    """
    clean = examine(victim, ground, digest)
    return Prepared(ground, blinded(victim, clean), clean, sources)
