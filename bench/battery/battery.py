"""Batteries: the frozen, versioned, hashed definition of what is measured. YAML in, `Battery` out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..choices import Tier
from ..data.data import Data, data_root, load
from ..data.kinds import DataSpec, FolderData, ImageNetData, NpzData
from ..errors import InvalidInput, Problem
from ..reading.source import read
from ..reading.wording import refuse
from ..submission.models import Input
from .attacks import Attacks, Controls, Positive, Rate, Strict


class JudgeSpec(Strict):
    """How the judge decides, and how scores are made of its decisions."""

    tau_quantile: Rate
    flat_confidence: Rate
    draws: Positive
    expectation_draws: Positive
    query_draws: Positive = 8
    """Draws that an attack's query to a randomised victim is answered with the mean of."""
    bootstrap: Positive


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
    shape: tuple[Literal[1, 3], Positive, Positive]
    classes: Annotated[tuple[str, ...] | int, Field()]
    """The classes' names, or how many there are."""
    images: Positive | None = None
    """Evaluation images; all there are when absent."""
    donors_per_class: Annotated[int, Field(ge=0)] = 2
    batch: Positive
    gradient_batch: Positive
    judge: JudgeSpec
    attacks: Attacks
    controls: Controls = Controls()
    panel: Panel | None = None
    smoke: dict[str, Any] | None = None
    """What the smoke tier changes; same shape as the battery."""

    @model_validator(mode="after")
    def _patch_fits(self) -> BatterySpec:
        patches, most = self.attacks.deepception, min(self.shape[1:])
        if patches is not None and patches.side > most:
            message = f"Expected a side of at most {most} for images of {list(self.shape)}, got {patches.side}."
            raise refuse("FB104", message, f"side: {most}", at=("attacks", "deepception", "side"))
        return self

    @model_validator(mode="after")
    def _classes(self) -> BatterySpec:
        if len(self.class_names) < 2:
            raise ValueError("expected at least 2 classes")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, in order."""
        return self.classes if isinstance(self.classes, tuple) else tuple(str(i) for i in range(self.classes))

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
        )
        for name in ("deepception", "one_pixel", "fgsm"):
            attack = getattr(spec.attacks, name)
            if attack is not None and attack.images > len(data.labels):
                message = f"expected at most the {len(data.labels)} evaluation images there are, got {attack.images}."
                fix = f"lower attacks.{name}.images to {len(data.labels)}, or add evaluation images"
                raise InvalidInput(Problem("FB104", message, fix, key=f"attacks.{name}.images"))
        return data

    def panel_path(self, model: PanelModel) -> Path:
        """Where a panel model's file lies."""
        root = Path(str(files("foolbench.models.panel"))) if self.shipped else self.folder
        return root / model.path


def shipped_folder() -> Path:
    """The folder of the batteries that come with foolbench."""
    return Path(str(files("foolbench.bench.batteries")))


def shipped_names() -> list[str]:
    """Names of the batteries that come with foolbench."""
    return sorted(path.stem for path in shipped_folder().glob("*.yaml"))


def read_battery(name: str, *, tier: Tier = "standard", folder: Path | None = None) -> Battery:
    """Read a shipped battery by name, or a user's own by path (`./mine.yaml`, relative to `folder`).

    Raises InvalidInput with everything that is wrong with it.
    """
    if name in shipped_names():
        path, shipped = shipped_folder() / f"{name}.yaml", True
    elif name.endswith((".yaml", ".yml")) or "/" in name:
        path, shipped = (folder or Path()) / name, False
    else:
        legal = ", ".join(shipped_names())
        message = f"expected one of {legal}, or a path to a YAML file, got {name!r}."
        raise InvalidInput(Problem("FB110", message, f"battery: {shipped_names()[0]}", key="battery"))
    spec = read(path, BatterySpec, max_bytes=4 * 262_144)
    if tier == "smoke":
        spec = _smoke(spec, path)
    # The title is for people; all else decides what is measured.
    meaning = spec.model_dump(mode="json", by_alias=True, exclude={"smoke", "title"})
    text = json.dumps({"tier": tier, **meaning}, sort_keys=True, separators=(",", ":"))
    return Battery(spec, tier, path.parent, shipped, hashlib.sha256(text.encode()).hexdigest())


def _smoke(spec: BatterySpec, path: Path) -> BatterySpec:
    if spec.smoke is None:
        message = f"expected the battery {spec.name} to define what --tier smoke changes, and it does not."
        raise InvalidInput(Problem("FB105", message, "add `smoke:` with the numbers to change", file=path, key="smoke"))
    plain = spec.model_dump(mode="json", by_alias=True, exclude={"smoke"})
    try:
        return BatterySpec.model_validate(_overlay(plain, spec.smoke))
    except ValueError as error:
        message = f"expected the keys and types of the battery itself; {error}."
        raise InvalidInput(Problem("FB104", message, "correct the smoke tier", file=path, key="smoke")) from error


def _overlay(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        inner = base.get(key)
        merged[key] = _overlay(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
