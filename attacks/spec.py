"""How an attack is declared: once, in its own file, for everybody who has to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..bench.errors import Unexpected
from .entry import Access, Entry
from .levels import EIGHT_BITS, Levels

AtLeastOne = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=1)]
_FRACTION = r"^\d+(\.\d+)?/[1-9]\d{0,2}$"
_Levels = Annotated[
    str,
    Field(pattern=_FRACTION, description="gray levels out of 255, such as 8/255", examples=["8/255"]),
]
Epsilon = Rate | _Levels
"""A largest change of a pixel: in units of the range [0, 1], or in gray levels, written as in `8/255` or, where the
data have 17 levels, `3/16`."""


def pixel_range(epsilon: float | str) -> float:
    """An Epsilon in units of the pixel range [0, 1]."""
    if not isinstance(epsilon, str):
        return epsilon
    levels, of = epsilon.split("/")
    return float(levels) / int(of)


class Strict(BaseModel):
    """Unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def fractions(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Each Epsilon that is written in gray levels, with the keys that lead to it."""
        for key, value in self:
            for place, one in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
                at = (key,) if place is None else (key, place)
                if isinstance(one, Strict):
                    yield from ((at + inner, written) for inner, written in one.fractions())
                elif isinstance(one, str) and re.fullmatch(_FRACTION, one):
                    yield at, one


class FoolSpec(Strict):
    """Keys of every Fool attack in a battery's YAML."""

    runs: AtLeastOne
    """Independent runs, each at all targets."""
    runs_per_shard: AtLeastOne


class PerturbSpec(Strict):
    """Keys of every Perturb attack in a battery's YAML."""

    images: AtLeastOne
    """The first so many evaluation images are attacked."""
    images_per_shard: AtLeastOne


class EpsilonSpec(PerturbSpec):
    """Keys of a Perturb attack with a setting at each of several largest changes of a pixel."""

    epsilon: Epsilon
    """The headline."""
    curve: tuple[Epsilon, ...]
    """All that are tried, the headline among them or not."""

    def settings(self, name: str) -> tuple[EpsilonSetting, ...]:
        """One at each ε, the headline first: it is called as the attack, `name`, the others `NAME_ε`."""
        headline = pixel_range(self.epsilon)
        curve = [(pixel_range(e), f"_{e}".replace("/", "_"), e) for e in self.curve if pixel_range(e) != headline]
        every = [(headline, "", self.epsilon), *curve]
        rising = sorted(every, key=lambda one: one[0])

        def below(epsilon: float) -> tuple[str, ...]:
            return tuple(f"{name}{suffix}" for e, suffix, _ in rising if e < epsilon)

        return tuple(EpsilonSetting(f"{name}{suffix}", suffix, f"ε = {w}", e, below(e)) for e, suffix, w in every)


@dataclass(frozen=True)
class EpsilonSetting:
    """One ε of an attack's curve."""

    name: str
    """The entry's."""
    suffix: str
    """What its name has beyond the attack's: attacks with the same curve have settings of the same suffix."""
    title: str
    epsilon: float
    """In units of [0, 1]."""
    smaller: tuple[str, ...]
    """The names of the settings of smaller ε, the smallest first."""


SpecT = TypeVar("SpecT", bound=Strict)


@dataclass(frozen=True)
class BatteryFacts:
    """What a battery has that an attack's entries may depend on."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    donors: int
    """Training images that an attack may learn from, at most."""
    levels: Levels = EIGHT_BITS
    """The gray levels that its images have and that every image is rounded to."""
    panel: int = 0
    """Reference models whose images an attack may borrow."""


@dataclass(frozen=True, eq=False)
class Attack(Generic[SpecT]):
    """An attack or control, declared once: what a battery's YAML says of it, what it makes of that, and its words.

    A file `attacks/NAME.py` holds one as `ATTACK`. An installed package registers one as an entry point of the group
    `foolbench.attacks`, under its `name`.
    """

    name: str
    """Its key in a battery's YAML and in records: lower-case letters, digits and underscores."""
    title: str
    """What people read, such as "Evolution (direct encoding)"."""
    sentence: str
    """What its fooling ratio is the share of, with the source; one or two sentences that stand alone."""
    task: Literal["fool", "perturb"]
    box: Literal["black", "white"]
    """Whether it sees probabilities (black) or gradients too (white)."""
    spec: type[SpecT]
    """The Pydantic model of its keys in a battery's YAML: a subclass of FoolSpec or PerturbSpec."""
    entries: Callable[[SpecT, BatteryFacts], Iterable[Entry]]
    """Its settings, the headline first; their `group` is `name`. Raises Unexpected, `at` a key, where the battery's
    images do not allow what the YAML asks."""
    example: Mapping[str, Any]
    """Values of those keys that take a moment on images of 8 × 8 pixels, for tests."""
    control: bool = False
    """Whether it is a base rate that attacks must beat: it stands under `controls:` and is never ranked."""
    access: Access = "scores"
    """Black box: whether it sees probabilities or labels alone. What sees labels alone is ranked only where a battery
    says so."""

    def plan(self, spec: Strict, facts: BatteryFacts) -> tuple[Entry, ...]:
        """`entries`, held to what is declared. Raises Unexpected as they do, for a largest change that is not one of
        the battery's gray levels, and for a declaration that contradicts itself."""
        top = facts.levels.top
        for at, written in spec.fractions():
            if not written.endswith(f"/{top}"):
                such = f"{max(1, round(top / 32))}/{top}"
                fix = f"{at[-1]}: {such}" if isinstance(at[-1], str) else f"write {such}"
                raise Unexpected(f"a number or gray levels out of {top}, such as {such}", repr(written), fix, at=at)
        found = tuple(self.entries(spec, facts))  # pyright: ignore[reportArgumentType]
        for entry in found:
            said = (self.name, self.task, self.box, self.control, self.access)
            own = (entry.group, entry.task, entry.box, entry.control, entry.access)
            if own != said:
                raise Unexpected(
                    f"every entry of {self.name} to say (group, task, box, control, access) {said}, as it declares",
                    f"{own} of {entry.name}",
                    "mend the declaration, or the entry",
                )
            if entry.limit is not None and entry.limit.kind == "linf":
                facts.levels.whole(entry.limit.value)
        if not found or any((e.limit is None) is (self.task == "perturb") for e in found):
            limited = "with" if self.task == "perturb" else "without"
            raise Unexpected(
                f"the attack {self.name} to have an entry, each {limited} a limit",
                ", ".join(f"{entry.name} with {entry.limit}" for entry in found) or "none",
                "mend its `entries`",
            )
        return found
