"""A battery's attacks as Entries: one attack with one setting, its tasks, its budget and the judge's limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...attacks.base import BlackBox, WhiteBox
from ...attacks.cppn import Cppn
from ...attacks.deepception import Deepception
from ...attacks.evolution import Evolution
from ...attacks.fgsm import Fgsm, SmallestEpsilon
from ...attacks.gradient_ascent import GradientAscent
from ...attacks.noise import Noise, RandomCppn
from ...attacks.one_pixel import OnePixel
from ...attacks.patches.bank import UNSCANNED, PatchKind
from ..running.finite_difference import FiniteDifferences
from .attacks import DeepceptionSpec, FgsmSpec, GradientAscentSpec, OnePixelSpec, pixel_range
from .battery import Battery
from .limits import Limit


@dataclass(frozen=True)
class Entry:
    """One setting of one attack. The unit that is cut into shards."""

    name: str
    """Unique in the battery; names its evidence file."""
    group: str
    """The attack (or control) that it belongs to; the group's first entry is its headline."""
    title: str
    """This setting, in words."""
    attack: BlackBox[Any] | WhiteBox[Any]
    task: Literal["fool", "perturb"]
    box: Literal["black", "white"]
    tasks: int
    """Fool: independent runs. Perturb: the first so many evaluation images."""
    shard: int
    """Tasks (runs, images) a shard."""
    budget: int
    """Queries and gradients granted: to each run for a black-box Fool, else to each single task."""
    setup: int = 0
    """Queries granted to each shard for what its tasks share."""
    targets: tuple[int, ...] = ()
    """Fool: the classes aimed at."""
    limit: Limit | None = None
    """Perturb: what the judge holds the final images to."""
    least_likely: bool = False
    """Perturb: aimed at the class that the victim finds least likely; only that label counts."""
    best_of: bool = False
    """Whether the group's result is, task by task, the best of all its entries."""
    finite: FiniteDifferences | None = None
    """White box: how it estimates gradients of a victim that has none; None: only the panel stands in."""

    @property
    def most(self) -> int:
        """What a task can ask for: the budget, or what the attack itself never exceeds."""
        return min(self.budget, self.attack.most_queries) if isinstance(self.attack, Deepception) else self.budget

    @property
    def parameters(self) -> dict[str, Any]:
        """The attack's own parameters, for the record."""
        return asdict(self.attack)  # pyright: ignore[reportArgumentType]


def entries(battery: Battery) -> tuple[Entry, ...]:
    """All entries of a battery, attacks first, then controls; a group's headline stands before its other settings."""
    return tuple(_attacks(battery)) + tuple(_controls(battery))


def _attacks(battery: Battery) -> Iterator[Entry]:
    spec, everything = battery.spec.attacks, tuple(range(battery.classes))
    if (a := spec.evolution) is not None:
        attack = Evolution(
            children=a.children,
            generations=a.generations,
            mutation_rate=a.mutation_rate,
            halve_every=a.halve_every,
            eta=a.eta,
        )
        yield _fool("evolution", attack, a.runs, a.runs_per_shard, a.children * a.generations, everything)
    if (a := spec.cppn) is not None:
        attack = Cppn(children=a.children, generations=a.generations)
        yield _fool("cppn", attack, a.runs, a.runs_per_shard, a.children * a.generations, everything)
    if (a := spec.deepception) is not None:
        yield from _deepception(a, battery)
    if (a := spec.one_pixel) is not None:
        yield from _one_pixel(a)
    if (a := spec.fgsm) is not None:
        yield from _fgsm(a)
    if (a := spec.gradient_ascent) is not None:
        yield from _gradient_ascent(a, everything)


def _controls(battery: Battery) -> Iterator[Entry]:
    spec, everything = battery.spec.controls, tuple(range(battery.classes))
    if (c := spec.noise) is not None:
        attack = Noise(children=c.children, generations=c.generations)
        yield _fool("noise", attack, c.runs, c.runs_per_shard, c.children * c.generations, everything)
    if (c := spec.random_cppn) is not None:
        attack = RandomCppn(children=c.children, generations=c.generations)
        yield _fool("random_cppn", attack, c.runs, c.runs_per_shard, c.children * c.generations, everything)


def _fool(name: str, attack: BlackBox[Any], runs: int, shard: int, budget: int, targets: tuple[int, ...]) -> Entry:
    title = f"{runs} run{'s' if runs > 1 else ''} × {budget:,} queries"
    return Entry(name, name, title, attack, "fool", "black", runs, shard, budget, targets=targets)


_PATCHES: tuple[tuple[PatchKind, str, str], ...] = (
    ("donor", "deepception", "donor patches"),
    ("mean_color", "deepception_mean_color", "control: mean-colour patches"),
    ("shuffled", "deepception_shuffled", "control: pixel-shuffled patches"),
    ("noise", "deepception_noise", "control: uniform-noise patches"),
    ("random_donor", "deepception_random_donor", "control: random donor patches"),
)


def _deepception(a: DeepceptionSpec, battery: Battery) -> Iterator[Entry]:
    limit = Limit("pixels", a.copies * a.side**2)
    _, height, width = battery.spec.shape
    windows = ((height - a.side) // a.stride + 1) * ((width - a.side) // a.stride + 1)
    scan = (a.bank + 1) * windows
    for patch, name, title in _PATCHES:
        attack = Deepception(
            side=a.side, stride=a.stride, copies=a.copies, grid=a.grid, keep=a.keep, bank=a.bank, patch=patch
        )
        yield Entry(
            name,
            "deepception",
            title,
            attack,
            "perturb",
            "black",
            a.images,
            a.images_per_shard,
            a.queries,
            setup=battery.spec.donors + (0 if patch in UNSCANNED else scan),
            limit=limit,
        )


def _one_pixel(a: OnePixelSpec) -> Iterator[Entry]:
    for pixels in a.pixels:
        name = "one_pixel" if pixels == a.pixels[0] else f"one_pixel_{pixels}"
        attack = OnePixel(pixels=pixels, population=a.population, iterations=a.iterations, f=a.f)
        yield Entry(
            name,
            "one_pixel",
            f"{pixels} pixel{'s' if pixels > 1 else ''}",
            attack,
            "perturb",
            "black",
            a.images,
            a.images_per_shard,
            a.population * (a.iterations + 1),
            limit=Limit("pixels", pixels),
        )


def _fgsm(a: FgsmSpec) -> Iterator[Entry]:
    finite = None if a.finite is None else FiniteDifferences(a.finite.queries, pixel_range(a.finite.step))

    def entry(
        name: str, title: str, attack: WhiteBox[Any], budget: int, epsilon: float, least_likely: bool = False
    ) -> Entry:
        return Entry(
            name,
            "fgsm",
            title,
            attack,
            "perturb",
            "white",
            a.images,
            a.images_per_shard,
            budget,
            limit=Limit("linf", epsilon),
            least_likely=least_likely,
            finite=finite,
        )

    headline = pixel_range(a.epsilon)
    yield entry("fgsm", f"ε = {a.epsilon}", Fgsm(headline), 1, headline)
    for written in a.curve:
        if (epsilon := pixel_range(written)) != headline:
            yield entry(f"fgsm_{str(written).replace('/', '_')}", f"ε = {written}", Fgsm(epsilon), 1, epsilon)
    title = f"ε = {a.epsilon}, at the least likely class"
    yield entry("fgsm_least_likely", title, Fgsm(headline, targeted=True), 1, headline, least_likely=True)
    s = a.smallest
    smallest = SmallestEpsilon(largest=s.largest, coarse=s.coarse, bisections=s.bisections)
    yield entry("fgsm_smallest", "smallest ε that flips", smallest, 1 + s.coarse + s.bisections, s.largest)


def _gradient_ascent(a: GradientAscentSpec, everything: tuple[int, ...]) -> Iterator[Entry]:
    for objective in a.objectives:
        for decay in a.decays:
            attack = GradientAscent(objective=objective, decay=decay, steps=a.steps, early=a.early, late=a.late)
            yield Entry(
                f"gradient_ascent_{objective}_{decay:g}",
                "gradient_ascent",
                f"{objective}, L2 decay {decay:g}",
                attack,
                "fool",
                "white",
                a.runs,
                a.runs_per_shard,
                a.steps + 1,
                targets=a.targets or everything,
                best_of=True,
            )
