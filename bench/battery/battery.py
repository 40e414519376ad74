"""Batteries: the frozen, versioned, hashed definition of what is measured. YAML in, `Battery` out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from ... import attacks as shipped_attacks
from ...attacks.spec import Attack
from ..choices import Tier
from ..data.data import Data, data_root, load
from ..data.kinds import FolderData, NpzData
from ..errors import InvalidInput, Problem, Where
from ..reading.source import Source, read_source, refusal, validated
from .attacks import section
from .installed import Packaged, own, packaged
from .named import found
from .spec import BatterySpec, PanelModel

if TYPE_CHECKING:
    import numpy as np

    from ..data.others import Others


@dataclass(frozen=True)
class Battery:
    """A battery at one tier, ready to be run."""

    spec: BatterySpec
    tier: Tier
    shipped: bool
    digest: str
    """sha256 of the definition at this tier, evidence and panel models included."""
    packages: Mapping[str, str]
    """Attack -> the package and version that it comes from, where that is not foolbench."""
    source: Source
    """Its YAML, for problems that only show later."""

    @property
    def folder(self) -> Path:
        """Where its relative paths start."""
        return self.source.path.parent

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

    def where(self, *key: str | int) -> Where:
        """The place in its YAML that says a key of this tier: under `smoke:` where that changes it."""
        stated = self.source.value.get("smoke") if self.tier == "smoke" else None
        for part in key:
            stated = stated.get(part) if isinstance(stated, dict) else None
        return self.source.where(key if stated is None else ("smoke", *key))

    def load(self) -> Data:
        """Its evaluation images, donors and mean image.

        Raises EnvironmentFault where they are missing, altered or off its gray levels, InvalidInput where an attack
        wants more of them.
        """
        from ..data.readers import hold_to

        spec = self.spec
        data = load(
            spec.data,
            folder=self.data_folder,
            shape=spec.shape,
            classes=self.classes,
            images=spec.images,
            donors_per_class=spec.donors_per_class,
            digest=spec.digest,
            counted=self.where("images"),
        )
        hold_to(spec.facts.levels, data.images, data.indices, self.where("levels"))
        problems: list[Problem] = []
        for attack, planned in spec.plans():
            if attack.task == "perturb" and (most := max(entry.tasks for entry in planned)) > len(data.labels):
                expected = f"at most the {len(data.labels)} evaluation images there are"
                fix = f"images: {len(data.labels)}, or add evaluation images"
                where = self.where("controls" if attack.control else "attacks", attack.name, "images")
                problems.append(Problem("FB104", expected, f"{most}", fix, where))
        if problems:
            raise InvalidInput(*problems)
        return data

    def others(self, data: Data, count: int, rng: np.random.Generator) -> Others:
        """At most `count` images of its data set that are not evaluated. Raises EnvironmentFault."""
        from ..data.others import others

        spec = self.spec
        return others(
            spec.data,
            data,
            folder=self.data_folder,
            shape=spec.shape,
            classes=self.classes,
            count=count,
            rng=rng,
        )

    def panel_path(self, model: PanelModel) -> Path:
        """Where a panel model's file lies. Raises InvalidInput where it does not."""
        root = Path(str(files("foolbench.models.panel"))) if self.shipped else self.folder
        if not (root / model.path).is_file():
            owner = f"foolbench's own folder {root}" if self.shipped else f"the battery's own folder {root.absolute()}"
            fix = "install foolbench again" if self.shipped else "put the file beside the battery's YAML"
            assert self.spec.panel is not None  # the model is one of its own
            where = self.where("panel", "models", self.spec.panel.models.index(model), "path")
            raise InvalidInput(Problem("FB200", f"{model.path} in {owner}", "nothing there", fix, where))
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

    context = None if shipped else {"folder": path.parent}
    spec, source = read_source(path, form, max_bytes=4 * 262_144, context=context)
    if tier == "smoke":
        spec = _smoke(spec, source, context)
    packages = {p.attack.name: p.source for p in brought}
    return Battery(spec, tier, shipped, _digest(spec, tier, packages), packages, source)


def _foreign(value: Mapping[str, Any]) -> set[str]:
    """Attacks and controls that a battery names and foolbench has not: only they can be a package's, and no other
    package is imported for a battery."""
    parts = [value.get(part) for part in ("attacks", "controls")]
    return {str(name) for part in parts if isinstance(part, dict) for name in part} - {*shipped_attacks.NAMES}


@cache
def form_of(brought: tuple[Attack[Any], ...]) -> type[BatterySpec]:
    """What a battery's YAML may hold: the shipped attacks, and those that packages have brought."""
    every = {attack.name: attack for attack in (*own(), *brought)}
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


def _smoke(spec: BatterySpec, source: Source, context: Any) -> BatterySpec:
    if spec.smoke is None:
        expected = f"the battery {spec.name} to say what --tier smoke changes"
        fix, where = "add `smoke:` with the numbers to change", source.where(("smoke",))
        raise InvalidInput(Problem("FB105", expected, "no key `smoke`", fix, where))
    plain = spec.model_dump(mode="json", by_alias=True, exclude={"smoke"})
    smaller, wrong = validated(type(spec), _overlay(plain, spec.smoke), context)
    if smaller is None:
        raise refusal(source.problem(finding, under=("smoke",)) for finding in wrong)
    return smaller


def _overlay(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        inner = base.get(key)
        merged[key] = _overlay(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
