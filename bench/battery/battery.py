"""Batteries: the frozen, versioned, hashed definition of what is measured. YAML in, `Battery` out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from ... import attacks as shipped_attacks
from ...attacks.entry import Entry
from ...attacks.levels import Levels
from ...attacks.spec import AtLeastOne, Attack, BatteryFacts, Rate, Strict
from ..choices import Tier, nearest
from ..data.data import Data, data_root, load
from ..data.kinds import DataSpec, FolderData, ImageNetData, NpzData
from ..errors import InvalidInput, Problem, Several, Unexpected, Where, one_line
from ..reading.source import Source, read_source, refusal, validated
from ..submission.models import Input
from .attacks import Section, section
from .installed import Packaged, packaged
from .named import found
from .overlay import overlaid


class JudgeSpec(Strict):
    """How the judge decides, and how scores are made of its decisions."""

    tau_quantile: Rate
    flat_confidence: Rate
    draws: AtLeastOne
    expectation_draws: AtLeastOne
    query_draws: AtLeastOne = 8
    """Draws that an attack's query to a randomised victim is answered with the mean of."""
    bootstrap: AtLeastOne


class PanelModel(Strict):
    """A reference model, for transfer."""

    name: str
    title: str
    path: str
    """For a shipped battery a file of foolbench.models.panel, else inside the battery's own folder."""
    sha256: str
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
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
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
    ranked: tuple[str, ...] | None = None
    """The attacks that the robust score is the mean over, in the order in which tables show them; all when absent."""
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
        there, wrong = [name for name, _ in self.attacks.chosen()], list[Unexpected]()
        for i, name in enumerate(self.ranked or ()):
            if name not in there:
                expected = f"one of this battery's attacks ({', '.join(there) or 'it has none'})"
                fix = f"write {nearest(name, there)}" if nearest(name, there) else "remove it, or add it to `attacks:`"
                wrong.append(Unexpected(expected, repr(name), fix, at=("ranked", i)))
            elif name in (self.ranked or ())[:i]:
                wrong.append(Unexpected("each attack once", f"{name!r} twice", "remove one", at=("ranked", i)))
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
    def ranking(self) -> tuple[str, ...]:
        """The ranked attacks, in the order in which tables show them."""
        return tuple(name for name, _ in self.attacks.chosen()) if self.ranked is None else self.ranked

    @property
    def facts(self) -> BatteryFacts:
        """What attacks may know of it beforehand."""
        return BatteryFacts(self.shape, len(self.class_names), self.donors, Levels(self.levels))

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


@dataclass(frozen=True)
class Battery:
    """A battery at one tier, ready to be run."""

    spec: BatterySpec
    tier: Tier
    folder: Path
    """Where its relative paths start."""
    shipped: bool
    digest: str
    """sha256 of the definition at this tier, evidence and panel models included."""
    packages: Mapping[str, str]
    """Attack -> the package and version that it comes from, where that is not foolbench."""

    @property
    def attacks(self) -> dict[str, Attack[Any]]:
        """Its attacks, then its controls, by name."""
        return {attack.name: attack for attack, _ in self.spec.declared()}

    @property
    def titles(self) -> dict[str, str]:
        """What people read for each of them."""
        return {name: attack.title for name, attack in self.attacks.items()}

    @property
    def classes(self) -> int:
        """K."""
        return len(self.spec.class_names)

    @property
    def data_folder(self) -> Path:
        """Where relative paths of its data start."""
        return self.folder if isinstance(self.spec.data, NpzData | FolderData) and not self.shipped else data_root()

    def load(self) -> Data:
        """Its evaluation images, donors and mean image.

        Raises EnvironmentFault where they are missing or altered, InvalidInput where an attack wants more of them.
        """
        spec = self.spec
        data = load(
            spec.data,
            folder=self.data_folder,
            shape=spec.shape,
            classes=self.classes,
            images=spec.images,
            donors_per_class=spec.donors_per_class,
            digest=spec.digest,
            levels=spec.facts.levels,
        )
        problems: list[Problem] = []
        for attack, planned in spec.plans():
            if attack.task == "perturb" and (most := max(entry.tasks for entry in planned)) > len(data.labels):
                key = f"{'controls' if attack.control else 'attacks'}.{attack.name}.images"
                expected = f"at most the {len(data.labels)} evaluation images there are"
                fix = f"lower {key} to {len(data.labels)}, or add evaluation images"
                problems.append(Problem("FB104", expected, f"{most}", fix, Where(key=key)))
        if problems:
            raise InvalidInput(*problems)
        return data

    def panel_path(self, model: PanelModel) -> Path:
        """Where a panel model's file lies."""
        root = Path(str(files("foolbench.models.panel"))) if self.shipped else self.folder
        return root / model.path


def read_battery(
    name: str | os.PathLike[str], *, tier: Tier = "standard", folder: str | os.PathLike[str] | None = None
) -> Battery:
    """Read a shipped battery by name, or a user's own by path (`./mine.yaml`, relative to `folder`, which is the
    current folder by default).

    Raises InvalidInput with everything that is wrong with it, and for arguments that mean nothing.
    """
    path, shipped = found(name, tier, folder)
    brought: list[Packaged] = []

    def form(value: dict[str, Any]) -> type[BatterySpec]:
        if not shipped:
            brought.extend(packaged(_foreign(value)))
        return form_of(tuple(p.attack for p in brought))

    spec, source = read_source(path, form, max_bytes=4 * 262_144)
    if tier == "smoke":
        spec = _smoke(spec, source)
    packages = {p.attack.name: p.source for p in brought}
    return Battery(spec, tier, path.parent, shipped, _digest(spec, tier, packages), packages)


def _foreign(value: Mapping[str, Any]) -> set[str]:
    """Attacks and controls that a battery names and foolbench has not: only they can be a package's, and no other
    package is imported for a battery."""
    parts = [value.get(part) for part in ("attacks", "controls")]
    return {str(name) for part in parts if isinstance(part, dict) for name in part} - {*shipped_attacks.NAMES}


@cache
def form_of(brought: tuple[Attack[Any], ...]) -> type[BatterySpec]:
    """What a battery's YAML may hold: the shipped attacks, and those that packages have brought."""
    every = {attack.name: attack for attack in (*shipped_attacks.table(), *brought)}
    attacks = section("Attacks", (a for a in every.values() if not a.control))
    controls = section("Controls", (a for a in every.values() if a.control))
    return create_model("BatterySpec", __base__=BatterySpec, attacks=(attacks, ...), controls=(controls, controls()))


def _digest(spec: BatterySpec, tier: Tier, packages: Mapping[str, str]) -> str:
    # The title is for people; all else decides what is measured.
    meaning = spec.model_dump(mode="json", by_alias=True, exclude={"smoke", "title"})
    for part in ("attacks", "controls"):
        # So that an attack that foolbench learns later leaves the batteries without it as they are.
        meaning[part] = {name: value for name, value in meaning[part].items() if value is not None}
    brought = {"packages": dict(packages)} if packages else {}
    text = json.dumps({"tier": tier, **meaning, **brought}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _smoke(spec: BatterySpec, source: Source) -> BatterySpec:
    if spec.smoke is None:
        expected = f"the battery {spec.name} to say what --tier smoke changes"
        fix, where = "add `smoke:` with the numbers to change", source.where(("smoke",))
        raise InvalidInput(Problem("FB105", expected, "no key `smoke`", fix, where))
    plain = spec.model_dump(mode="json", by_alias=True, exclude={"smoke"})
    smaller, wrong = validated(type(spec), overlaid(plain, spec.smoke))
    if smaller is None:
        raise refusal(source.problem(finding, under=("smoke",)) for finding in wrong)
    return smaller
