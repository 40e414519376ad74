"""The parts of a battery's YAML that say how it attacks: one class an attack, its keys the attack's parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=1)]
Epsilon = Rate | Annotated[str, Field(pattern=r"^\d+(\.\d+)?/255$")]
"""A largest change of a pixel: in units of the range [0, 1], or in gray levels, written as in `8/255`."""


def pixel_range(epsilon: float | str) -> float:
    """An Epsilon in units of the pixel range [0, 1]."""
    return float(epsilon.removesuffix("/255")) / 255 if isinstance(epsilon, str) else epsilon


class Strict(BaseModel):
    """Unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EvolutionSpec(Strict):
    """`evolution`: see attacks/evolution.py for the parameters. A run spends children × generations queries."""

    runs: Positive
    children: Positive
    generations: Positive
    mutation_rate: Rate
    halve_every: Positive
    eta: Annotated[float, Field(gt=0)]
    runs_per_shard: Positive


class CppnSpec(Strict):
    """`cppn`: see attacks/cppn.py, which holds the published rates. A run spends children × generations queries."""

    runs: Positive
    children: Positive
    generations: Positive
    runs_per_shard: Positive


class DeepceptionSpec(Strict):
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
    """Images on which the victim's four properties are measured (attacks/responses/psychophysics.py)."""
    images_per_shard: Positive


class OnePixelSpec(Strict):
    """`one_pixel`: see attacks/one_pixel.py. The first number of pixels is the headline."""

    images: Positive
    pixels: Annotated[tuple[Positive, ...], Field(min_length=1)]
    population: Annotated[int, Field(ge=4)]
    iterations: Positive
    f: Annotated[float, Field(gt=0, le=2)]
    images_per_shard: Positive


class SmallestSpec(Strict):
    """The search for the smallest ε that flips an image: a coarse scan, then bisection of the first bracket."""

    largest: Rate
    coarse: Positive
    bisections: Annotated[int, Field(ge=0)]


class FiniteSpec(Strict):
    """`fgsm.finite`: see bench/running/finite_difference.py. For victims without gradients only."""

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


class FgsmSpec(Strict):
    """`fgsm`: see attacks/fgsm.py."""

    images: Positive
    epsilon: Epsilon
    curve: tuple[Epsilon, ...]
    smallest: SmallestSpec
    finite: FiniteSpec | None = None
    images_per_shard: Positive


class GradientAscentSpec(Strict):
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


class ControlSpec(Strict):
    """A control that runs beside the attacks and is never ranked."""

    runs: Positive
    children: Positive
    generations: Positive
    runs_per_shard: Positive


class Attacks(Strict):
    """The six. A user's own battery may leave some out; it is not rankable then."""

    evolution: EvolutionSpec | None = None
    cppn: CppnSpec | None = None
    deepception: DeepceptionSpec | None = None
    one_pixel: OnePixelSpec | None = None
    fgsm: FgsmSpec | None = None
    gradient_ascent: GradientAscentSpec | None = None


class Controls(Strict):
    """The base rates that "fooled" must beat."""

    noise: ControlSpec | None = None
    random_cppn: ControlSpec | None = None
