"""What a victim answered to images that it cannot know, beside those that it can: plain numbers of a record."""

from __future__ import annotations

from dataclasses import dataclass

from .measure import Measure


@dataclass(frozen=True)
class Shares:
    """Answers to one kind of images."""

    accepted: Measure
    sure: Measure
    """Accepted with a confidence of at least τ."""
    right: Measure | None
    """Accepted, as its class; None of images of nothing, which have no class."""


@dataclass(frozen=True)
class Excess:
    """By how much more images of one kind do well than of another, beyond the intervals and what is tolerated."""

    what: str
    """`right`, `accepted` or `sure`."""
    here: Measure
    there: Measure


def excess(what: str, here: Measure | None, there: Measure | None, tolerated: float) -> Excess | None:
    """None where there is none."""
    if here is None or there is None or here.value is None or there.value is None:
        return None
    beyond = (here.low or 0.0) > (1.0 if there.high is None else there.high)
    return Excess(what, here, there) if beyond and here.value - there.value > tolerated else None


SURE = 3
"""Of confidence so many times as much is tolerated: τ is itself estimated on few of the evaluation images."""


@dataclass(frozen=True)
class Known:
    """Evaluation images beside images that nobody could know."""

    own: Shares
    """The evaluation images."""
    others: Shares | None
    """Others of the data set; None where it has none."""
    others_are: str
    """Which others, in words; or why there are none."""
    variants: dict[str, Shares]
    """Evaluation images changed mildly, by kind."""
    changed: Shares
    """All of these together."""
    tolerated_others: float
    tolerated: float
    """As the battery has them."""

    @property
    def found(self) -> dict[str, list[Excess]]:
        """Where the evaluation images do better, by what they do better than. Empty of an honest victim."""
        found: dict[str, list[Excess | None]] = {}
        if self.others is not None:
            sure = excess("sure", self.own.sure, self.others.sure, SURE * self.tolerated_others)
            found[f"the {self.others_are}"] = [*self._useful(self.others, self.tolerated_others), sure]
        # No word of confidence: where all answers lie close together, a mild change moves an honest one past τ.
        found["variants of the evaluation images"] = self._useful(self.changed, self.tolerated)
        told = {name: [one for one in each if one is not None] for name, each in found.items()}
        return {name: each for name, each in told.items() if each}

    def _useful(self, side: Shares, tolerated: float) -> list[Excess | None]:
        return [
            excess("right", self.own.right, side.right, tolerated),
            excess("accepted", self.own.accepted, side.accepted, tolerated),
        ]


PREPARED = 0.1
"""Difference between two draws from one distribution below which their intervals may well lie apart by luck."""


@dataclass(frozen=True)
class Recognition:
    """How images of nothing fare: those that the battery's attacks begin with, and others.

    What the battery alone fixes is the same for a network in whatever form its file is; what the victim's digest fixes
    nobody can have prepared a victim for.
    """

    own: Measure
    """Share of the battery's own first images that are accepted with more than the median confidence of these and
    `fresh`."""
    fresh: Measure
    """The same of images that the same searches draw from another stream, which the battery fixes."""
    unseen: Measure
    """The same of a third stream, which the victim's digest fixes."""
    made: Shares | None = None
    """Of `fresh`: what the attacks begin with."""
    kinds: dict[str, Shares] | None = None
    """Of images of nothing that no attack makes, by kind, which the battery fixes."""
    nonsense: Shares | None = None
    """Of all of these together."""
    unseen_nonsense: Shares | None = None
    """Of as many that the victim's digest fixes."""
    tolerated: float = 1.0
    """As the battery has it."""

    @property
    def memorised(self) -> bool:
        """Whether the victim turns away, or doubts, the battery's own first images beyond the intervals; or whether
        others that the battery fixes fare otherwise than those that it could not know."""
        own, fresh, unseen = self.own, self.fresh, self.unseen
        by_heart = (own.high or 0.0) < min(fresh.low or 0.0, unseen.low or 0.0)
        pairs = [(fresh, unseen)]
        if self.nonsense is not None and self.unseen_nonsense is not None:
            pairs.append((self.nonsense.accepted, self.unseen_nonsense.accepted))
        apart = (excess("", a, b, PREPARED) or excess("", b, a, PREPARED) for a, b in pairs)
        return by_heart or any(apart)

    @property
    def kinds_known(self) -> Excess | None:
        """Where it takes more of other nonsense than of what the attacks begin with; None of an honest victim."""
        if self.made is None or self.nonsense is None:
            return None
        accepted = excess("accepted", self.nonsense.accepted, self.made.accepted, self.tolerated)
        return accepted or excess("sure", self.nonsense.sure, self.made.sure, self.tolerated)
