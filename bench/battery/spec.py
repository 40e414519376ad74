"""What stands in a battery's YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ... import attacks as shipped_attacks
from ...attacks.entry import Entry
from ...attacks.levels import Levels
from ...attacks.spec import AtLeastOne, Attack, BatteryFacts, Rate, Strict
from ...leaderboard.record.rows import RankedRow
from ..data.kinds import DataSpec, ImageNetData
from ..errors import Several, Unexpected, one_line
from ..reading.values import File, NamesFile, Sha256
from ..submission.models import Input
from .attacks import Section
from .probes import Nonsense, Variants
from .rows import RowSpec, check_rows, ranked_row


class JudgeSpec(Strict):
    """How the judge decides, and how scores are made of its decisions."""

    tau_quantile: Rate
    flat_confidence: Rate
    draws: AtLeastOne
    expectation_draws: AtLeastOne
    query_draws: AtLeastOne = 8
    """Draws that an attack's query to a randomised victim is answered with the mean of."""
    bootstrap: AtLeastOne


class PanelModel(NamesFile):
    """A reference model, for transfer."""

    name: str
    title: str
    path: File
    """For a shipped battery a file of foolbench.models.panel, else inside the battery's own folder."""
    sha256: Sha256  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    output: Literal["logits", "probabilities"]
    output_name: str | None = None
    input: Input = Input()


class Panel(Strict):
    """The reference models, and the images that the battery's attacks made on them."""

    evidence: str | None = None
    """An npz beside the battery; where it is absent the panel is attacked on first use and the result cached."""
    sha256: str | None = None
    models: Annotated[tuple[PanelModel, ...], Field(min_length=1)]


class BatterySpec(Strict):
    """What stands in a battery's YAML, tiers resolved."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
            description="at most 64 lower-case letters, digits, dots, hyphens and underscores, such as my-battery",
            examples=["my-battery"],
        ),
    ]
    title: str = ""
    data: Annotated[DataSpec, Field(discriminator="kind")]
    digest: str | None = None
    """sha256 of the evaluation images' pixels and labels; checked when given."""
    shape: tuple[Literal[1, 3], AtLeastOne, AtLeastOne]
    classes: Annotated[tuple[str, ...] | int, Field()]
    """The classes' names, or how many there are."""
    levels: Annotated[int, Field(ge=2, le=256)] = 256
    """The gray levels that the data themselves have, black and white included: every image is rounded to them."""
    images: AtLeastOne | None = None
    """Evaluation images; all there are when absent."""
    donors_per_class: Annotated[int, Field(ge=0)] = 2
    batch: AtLeastOne
    gradient_batch: AtLeastOne
    judge: JudgeSpec
    attacks: Section
    controls: Section = Section()
    ranked: tuple[RowSpec, ...] | None = None
    """The rows that the robust score is the mean over, in the order in which tables show them, each an attack's name or
    a row of several attacks; one for each attack that sees probabilities or more when absent."""
    variants: Variants = Variants()
    nonsense: Nonsense = Nonsense()
    panel: Panel | None = None
    smoke: dict[str, Any] | None = None
    """What the smoke tier changes; same shape as the battery."""

    @model_validator(mode="after")
    def _attacks_fit(self) -> BatterySpec:
        names, wrong = set[str](), list[Unexpected]()
        for attack, spec in self.declared():
            at = ("controls" if attack.control else "attacks", attack.name)
            try:
                found = [entry.name for entry in attack.plan(spec, self.facts)]
            except Unexpected as error:
                error.at = (*at, *error.at)
                wrong.append(error)
                continue
            except Exception as error:
                if attack.name in shipped_attacks.NAMES:
                    raise
                expected = f"the attack {attack.name}, which a package brings, to take these values"
                wrong.append(Unexpected(expected, one_line(error), "correct them, or ask its authors", at=at))
                continue
            if twice := next((name for name in found if name in names or found.count(name) > 1), None):
                wrong.append(Unexpected("different settings", f"{twice} twice", "state each setting once", at=at))
            names |= set(found)
        Several.check(wrong)
        return self

    @model_validator(mode="after")
    def _ranks_what_it_has(self) -> BatterySpec:
        known = [attack for attack, _ in self.declared()]
        attacks, controls = ([a for a in known if a.control is control] for control in (False, True))
        wrong = check_rows(self.ranked or (), attacks, controls)
        Several.check(wrong)
        for i, row in enumerate(self.ranked or ()):
            try:
                self._row(row)
            except Unexpected as error:
                error.at = ("ranked", i, *error.at)
                wrong.append(error)
        Several.check(wrong)
        return self

    @model_validator(mode="after")
    def _classes(self) -> BatterySpec:
        if len(self.class_names) < 2:
            raise Unexpected("at least 2 classes", len(self.class_names), "name another", at=("classes",))
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, in order."""
        return self.classes if isinstance(self.classes, tuple) else tuple(str(i) for i in range(self.classes))

    @property
    def ranking(self) -> tuple[RankedRow, ...]:
        """The ranked rows, in the order in which tables show them, as a record holds them."""
        scored = [attack.name for attack, _ in self.declared() if not attack.control and attack.access == "scores"]
        every = tuple(RowSpec.model_validate(name) for name in scored)
        return tuple(self._row(row) for row in (every if self.ranked is None else self.ranked))

    def _row(self, row: RowSpec) -> RankedRow:
        plans = {attack.name: plan for attack, plan in self.plans()}
        return ranked_row(row, plans, {attack.name: attack.title for attack, _ in self.declared()})

    @property
    def facts(self) -> BatteryFacts:
        """What attacks may know of it beforehand."""
        panel = 0 if self.panel is None else len(self.panel.models)
        return BatteryFacts(self.shape, len(self.class_names), self.donors, Levels(self.levels), panel)

    def declared(self) -> Iterator[tuple[Attack[Any], Strict]]:
        """Its attacks, then its controls, each with what the YAML says of it."""
        for part in (self.attacks, self.controls):
            known = type(part).declarations
            yield from ((known[name], spec) for name, spec in part.chosen())

    def plans(self) -> Iterator[tuple[Attack[Any], tuple[Entry, ...]]]:
        """Its attacks, then its controls, each with its settings, the headline first."""
        for attack, spec in self.declared():
            yield attack, attack.plan(spec, self.facts)

    @property
    def donors(self) -> int:
        """How many donors there are at most."""
        every = len(self.class_names) * self.donors_per_class
        return min(every, self.data.donors) if isinstance(self.data, ImageNetData) else every
