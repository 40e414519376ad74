"""The contract of attacks/checks.py: foolbench's own attacks keep it, and planted offenders are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from foolbench.attacks import table
from foolbench.attacks.base import Fool, Oracle, Perturb, Query, Search
from foolbench.attacks.checks import Check, checks_of, parametrize_with_checks
from foolbench.attacks.entry import Entry, Limit
from foolbench.attacks.spec import Attack, BatteryFacts, FoolSpec, PerturbSpec
from torch import Tensor


@parametrize_with_checks(table())
def test_shipped_attacks(check: Check) -> None:
    check()


class DarkenSpec(PerturbSpec):
    """Nothing beside what every Perturb attack has."""


@dataclass(frozen=True)
class Darken:
    """Asks about each image darker and brighter, and keeps what is least sure of its label."""

    fault: str = ""

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        owners = torch.arange(len(task.images))
        darker, brighter = task.images * 0.6, (task.images * 1.4).clamp(0, 1)
        if self.fault == "chance":
            darker = (darker + torch.rand(darker.shape) / 100).clamp(0, 1)
        one = yield Query(darker, owners + 9 if self.fault == "owner" else owners)
        two = yield Query(brighter.double() if self.fault == "double" else brighter, owners)
        if self.fault == "overspends":
            yield Query(darker, owners)
        if self.fault == "writes":
            task.images.mul_(0.5)
        one, two = (answer.gather(1, task.labels[:, None]) for answer in (one, two))
        best = torch.where((one < two).view(-1, 1, 1, 1), darker, brighter)
        if self.fault == "range":
            return best * 3
        if self.fault == "shape":
            return best[:1]
        return task.images if self.fault == "idle" else best


def darkening(fault: str = "", bound: float = 1.0, **changes: Any) -> Attack[DarkenSpec]:
    def entries(spec: DarkenSpec, facts: BatteryFacts) -> Iterator[Entry]:
        yield Entry(
            "darken",
            "darken",
            "half",
            Darken(fault),
            "perturb",
            "black",
            spec.images,
            spec.images_per_shard,
            2,
            limit=Limit("linf", bound),
        )

    made = Attack(
        name="darken",
        title="Darken",
        sentence="Share of images whose label half the light changed.",
        task="perturb",
        box="black",
        spec=DarkenSpec,
        entries=entries,
        example={"images": 4, "images_per_shard": 2},
    )
    return replace(made, **changes)


def broken(attack: Attack[Any]) -> set[str]:
    """The checks that an attack breaks, by their middle names."""
    found = set()
    for check in checks_of(attack):
        try:
            check()
        except (AssertionError, RuntimeError, ValueError, IndexError):
            found.add(check.name.removeprefix("darken-").split("-")[0])
    return found


def test_a_small_honest_attack_keeps_the_contract() -> None:
    assert broken(darkening()) == set()
    assert len(list(checks_of(darkening()))) == 1 + 2 * 5


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("chance", "seeds"),
        ("owner", "finals_and_questions"),
        ("double", "finals_and_questions"),
        ("overspends", "budget"),
        ("writes", "finals_and_questions"),
        ("range", "finals_and_questions"),
        ("shape", "finals_and_questions"),
        ("idle", "effect"),
    ],
)
def test_a_planted_fault_is_found(fault: str, check: str) -> None:
    assert check in broken(darkening(fault))


def test_a_limit_that_is_not_kept_is_found() -> None:
    assert broken(darkening(bound=0.1)) == {"limit"}


@pytest.mark.parametrize(
    "change",
    [{"title": " "}, {"sentence": "No full stop"}, {"name": "Darken"}, {"spec": FoolSpec}],
    ids=lambda change: next(iter(change)),
)
def test_a_declaration_that_does_not_hold_together_is_found(change: dict[str, Any]) -> None:
    attack = darkening(**change)
    with pytest.raises((AssertionError, ValueError)):
        next(checks_of(attack))()


@pytest.mark.parametrize("change", [{"task": "fool"}, {"box": "white"}, {"control": True}])
def test_entries_that_contradict_the_declaration_are_refused(change: dict[str, Any]) -> None:
    attack = darkening(**change)
    with pytest.raises(ValueError, match="every entry of darken to say"):
        attack.plan(DarkenSpec(images=1, images_per_shard=1), BatteryFacts((1, 8, 8), 3, 6))


def test_a_white_box_that_never_differentiates_is_found() -> None:
    @dataclass(frozen=True)
    class Blind:
        def ascend(self, task: Fool, oracle: Oracle, rng: torch.Generator) -> Tensor:
            images = task.mean.expand(task.runs, len(task.targets), *task.shape).contiguous()
            oracle.probabilities(images.flatten(0, 1), torch.arange(task.runs * len(task.targets)))
            return images

    class Spec(FoolSpec):
        """None of its own."""

    def entries(spec: Spec, facts: BatteryFacts) -> Iterator[Entry]:
        everything = tuple(range(facts.classes))
        yield Entry("blind", "blind", "once", Blind(), "fool", "white", spec.runs, 1, 1, targets=everything)

    attack = Attack(
        "blind", "Blind", "It looks once.", "fool", "white", Spec, entries, {"runs": 2, "runs_per_shard": 1}
    )
    failing: list[str] = []
    for check in checks_of(attack):
        _note(check, failing)
    assert {name.split("-")[1] for name in failing} == {"budget", "effect"}


def _note(check: Callable[[], None], failing: list[str]) -> None:
    try:
        check()
    except AssertionError:
        failing.append(check.name)  # type: ignore[attr-defined]
