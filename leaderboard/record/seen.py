"""What was seen of a victim beside the attacks on it: plain numbers, from which its flags can be worked out again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .known import Known, Recognition
from .measure import Measure


@dataclass(frozen=True)
class Statement:
    """One statement that does not hold."""

    what: str
    """`deterministic`, `rejection`, `logits`, `chance` or `gradient`; of which part, where it is not the whole."""
    finding: str
    """What was found instead, in a clause."""


TOLERATED, FEWEST_APART = 0.02, 3
"""Share and number of images that rounding may change: last bits move with the batch, and a threshold may lie between
two answers."""


@dataclass(frozen=True)
class Compared:
    """Answers to the same images in two situations."""

    differ: Measure
    """Share of the images whose answers differ: by label, or (where nothing is random) by more than a hundredth in a
    probability."""
    chance: Measure | None
    """The same of two answers in one situation, by label alone; None where nothing is random."""
    largest: float
    """The largest difference of a probability."""

    @property
    def apart(self) -> bool:
        """Whether more differ than rounding and chance explain, beyond the intervals."""
        low, chance = self.differ.low, 0.0 if self.chance is None else self.chance.high
        if low is None or chance is None or (self.differ.k or 0) < FEWEST_APART:
            return False
        return low > max(TOLERATED, chance)


@dataclass(frozen=True)
class Fresh:
    """What a victim built anew, which no attack had asked, answered to images of the run."""

    process: bool
    """Whether it was built in a process of its own."""
    why: str | None
    """Where it was not: why, in a clause."""
    failed: bool
    """Whether the other process was tried and gave no answers."""
    searched: dict[str, Compared]
    """By attack: queries of its searches, as they were answered then and as the fresh victim answers them."""
    company: dict[str, Compared]
    """By situation: images among others, as the fresh victim answers them beside other images."""
    verdicts: dict[str, tuple[int, int, int]]
    """By entry whose verdicts changed: final images, those fooled as the searched victim was judged, and as the fresh
    one is, which counts."""

    @property
    def evidence(self) -> dict[str, Compared]:
        """What differs beyond rounding and chance."""
        searched = {f"searched: {name}": found for name, found in self.searched.items() if found.apart}
        return searched | {f"company: {name}": found for name, found in self.company.items() if found.apart}


FEWEST_VALUES = 30
"""Numbers below which nothing can be said of how many differ."""
FEW, FEW_IN_ALL = 0.3, 64
"""Share and number of different values below which they are votes or the like: of float32 numbers nearly all differ, of
a forest's hundreds."""
CAPPED = 0.2
"""Share of largest probabilities that are one number, short of 1, above which they are capped."""


@dataclass(frozen=True)
class Informative:
    """How much a victim's answers say beyond a label."""

    images: int
    """Different images whose answers were looked at."""
    label_only: int
    """Of them, those whose answer tells nothing but a label: all other classes alike."""
    values: int
    """Probabilities between 0.02 and 0.98 in all those answers."""
    distinct: int
    """How many different numbers those are, to six digits; 65 stands for all that is more than 64."""
    tops: int
    """Largest probabilities below 0.9999."""
    capped: int
    """How many of them are the most common one, to seven digits."""
    cap: float | None
    """Which that is; None where there are none."""
    step: float | None
    """The coarsest step, a power of a tenth or of a half, that all those probabilities are multiples of."""
    logits_tell: bool | None
    """Whether its logits, which white-box attacks see, tell more than that; None without logits."""

    @property
    def blinds(self) -> str | None:
        """What is kept back from a search, which sees no logits, in a clause; None where answers tell enough."""
        return replace(self, logits_tell=None).withheld

    @property
    def withheld(self) -> str | None:
        """What is kept back, in a clause; None where answers tell enough to climb."""
        if self.images and self.label_only >= 0.9 * self.images and not self.logits_tell:
            return f"{self.label_only} of {self.images} answers give all classes but the first the same probability"
        if self.values >= FEWEST_VALUES and self.step is not None:
            return f"{self.values} probabilities between 0.02 and 0.98 are all multiples of {self.step:.3g}"
        if _few(self.distinct, self.values):
            return f"{self.values} probabilities between 0.02 and 0.98 take only {self.distinct} different values"
        if self.capped >= max(FEWEST_VALUES, CAPPED * self.tops):
            return f"{self.capped} of {self.tops} images got one and the same largest probability, {self.cap:.6g}"
        return None


def _few(distinct: int, values: int) -> bool:
    return values >= FEWEST_VALUES and distinct < FEW * values and distinct <= FEW_IN_ALL


@dataclass(frozen=True)
class Seen:
    """What was seen of a victim beside the attacks on it. From both, its flags can be worked out again."""

    classes: int
    """K."""
    tau: float | None
    confidence: float | None
    """Median confidence of the clean images that it accepts and gets right; None where there are none."""
    randomised: bool
    difference: float
    """The largest difference between two answers to one image."""
    zero_gradient_share: float | None
    """Share of the evaluation images on which the gradient vanishes; None where that was not measured."""
    mismatch: str | None
    """Why the torch copy could not be certified; None where it could, or there is none."""
    false_statements: tuple[Statement, ...] = ()
    """What it states of itself and is not so."""
    recognition: Recognition | None = None
    """How the battery's own first images fare against fresh ones, and other nonsense; None where it has none."""
    known: Known | None = None
    """How the evaluation images fare against others; None where that was not asked."""
    fresh: Fresh | None = None
    """What a victim built anew answered; None where it was not asked."""
    informative: Informative | None = None
    """How much its answers tell; None where that was not looked at."""
    surrogates: tuple[str, ...] = ()
    """What of it declares a stand-in for its gradient, or passes it straight through."""
    declares: tuple[str, ...] = ()
    """`randomised` and `rejects`, where it declares them."""
