"""Batteries: the frozen, versioned, hashed definition of what is measured. YAML in, `Battery` out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .data import Data, data_root, load
from .data_kinds import DataSpec, FolderData, ImageNetData, NpzData
from .errors import InvalidInput, Problem
from .model_specs import Input
from .yaml_source import read

Tier = Literal["standard", "smoke"]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=1)]
Epsilon = Rate | Annotated[str, Field(pattern=r"^\d+(\.\d+)?/255$")]
"""A largest change of a pixel: in units of the range [0, 1], or in gray levels, written as in `8/255`."""


def pixel_range(epsilon: float | str) -> float:
    """An Epsilon in units of the pixel range [0, 1]."""
    return float(epsilon.removesuffix("/255")) / 255 if isinstance(epsilon, str) else epsilon


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EvolutionSpec(_Spec):
    """`evolution`: see attacks/evolution.py for the parameters. A run spends children × generations queries."""

    runs: Positive
    children: Positive
    generations: Positive
    mutation_rate: Rate
    halve_every: Positive
    eta: Annotated[float, Field(gt=0)]
    runs_per_shard: Positive


class CppnSpec(_Spec):
    """`cppn`: see attacks/cppn.py, which holds the published rates. A run spends children × generations queries."""

    runs: Positive
    children: Positive
    generations: Positive
    runs_per_shard: Positive


class DeepceptionSpec(_Spec):
    """`deepception`: see attacks/deepception.py. `queries` caps what one image may cost."""

    images: Positive
    side: Positive
    stride: Positive
    copies: Positive
    grid: Positive
    keep: Positive
    bank: Positive
    queries: Positive
    properties: Positive
    """Images on which the victim's four properties are measured (attacks/psychophysics.py)."""
    images_per_shard: Positive


class OnePixelSpec(_Spec):
    """`one_pixel`: see attacks/one_pixel.py. The first number of pixels is the headline."""

    images: Positive
    pixels: Annotated[tuple[Positive, ...], Field(min_length=1)]
    population: Annotated[int, Field(ge=4)]
    iterations: Positive
    f: Annotated[float, Field(gt=0, le=2)]
    images_per_shard: Positive


class SmallestSpec(_Spec):
    """The search for the smallest ε that flips an image: a coarse scan, then bisection of the first bracket."""

    largest: Rate
    coarse: Positive
    bisections: Annotated[int, Field(ge=0)]


class FiniteSpec(_Spec):
    """`fgsm.finite`: see bench/finite_difference.py. For victims without gradients only."""

    queries: Annotated[int, Field(ge=3)]
    """Granted to each image's gradient."""
    step: Epsilon

    @model_validator(mode="after")
    def _gray_levels(self) -> FiniteSpec:
        levels = pixel_range(self.step) * 255
        if round(levels) < 1 or abs(levels - round(levels)) > 1e-6:
            raise ValueError(
                f"expected a step of whole gray levels, since queries have 8 bits, got {self.step}: write it as 8/255"
            )
        return self


class FgsmSpec(_Spec):
    """`fgsm`: see attacks/fgsm.py."""

    images: Positive
    epsilon: Epsilon
    curve: tuple[Epsilon, ...]
    smallest: SmallestSpec
    finite: FiniteSpec | None = None
    images_per_shard: Positive


class GradientAscentSpec(_Spec):
    """`gradient_ascent`: see attacks/gradient_ascent.py. Every objective with every decay; the best counts."""

    runs: Positive
    targets: tuple[Annotated[int, Field(ge=0)], ...] | None
    """Classes aimed at; null for all."""
    steps: Positive
    early: Annotated[float, Field(gt=0)]
    late: Annotated[float, Field(gt=0)]
    objectives: Annotated[tuple[Literal["softmax", "logit"], ...], Field(min_length=1)]
    decays: Annotated[tuple[Rate, ...], Field(min_length=1)]
    runs_per_shard: Positive


class ControlSpec(_Spec):
    """A control that runs beside the attacks and is never ranked."""

    runs: Positive
    children: Positive
    generations: Positive
    runs_per_shard: Positive


class Attacks(_Spec):
    """The six. A user's own battery may leave some out; it is not rankable then."""

    evolution: EvolutionSpec | None = None
    cppn: CppnSpec | None = None
    deepception: DeepceptionSpec | None = None
    one_pixel: OnePixelSpec | None = None
    fgsm: FgsmSpec | None = None
    gradient_ascent: GradientAscentSpec | None = None


class Controls(_Spec):
    """The base rates that "fooled" must beat."""

    noise: ControlSpec | None = None
    random_cppn: ControlSpec | None = None


class JudgeSpec(_Spec):
    """How the judge decides, and how scores are made of its decisions."""

    tau_quantile: Rate
    flat_confidence: Rate
    draws: Positive
    expectation_draws: Positive
    query_draws: Positive = 8
    """Draws that an attack's query to a randomised victim is answered with the mean of."""
    bootstrap: Positive


class PanelModel(_Spec):
    """A reference model, for transfer."""

    name: str
    title: str
    path: str
    """For a shipped battery a file of foolbench.models.panel, else inside the battery's own folder."""
    sha256: str
    output: Literal["logits", "probabilities"]
    output_name: str | None = None
    input: Input = Input()


class Panel(_Spec):
    """The reference models, and the images that the battery's attacks made on them."""

    evidence: str | None = None
    """An npz beside the battery; where it is absent the panel is attacked on first use and the result cached."""
    sha256: str | None = None
    models: Annotated[tuple[PanelModel, ...], Field(min_length=1)]


class BatterySpec(_Spec):
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
        message = f"battery: expected one of {legal}, or a path to a YAML file, got {name!r}."
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
        message = f"--tier smoke: expected the battery {spec.name} to define a smoke tier, and it has no `smoke:` key."
        raise InvalidInput(Problem("FB105", message, "add `smoke:` with the numbers to change", file=path, key="smoke"))
    plain = spec.model_dump(mode="json", by_alias=True, exclude={"smoke"})
    try:
        return BatterySpec.model_validate(_overlay(plain, spec.smoke))
    except ValueError as error:
        message = f"smoke: expected the keys and types of the battery itself; {error}."
        raise InvalidInput(Problem("FB104", message, "correct the smoke tier", file=path, key="smoke")) from error


def _overlay(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        inner = base.get(key)
        merged[key] = _overlay(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
