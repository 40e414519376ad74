"""The contract of every attack, as checks that its author can run on it; foolbench runs them on its own.

In a package's tests:

    from foolbench.attacks.checks import parametrize_with_checks
    from my_package import ATTACK

    @parametrize_with_checks([ATTACK])
    def test_contract(check):
        check()

Each check runs the attack's `example` on gray and on colour images of 8 × 8 pixels, against a small victim (toy.py),
and raises AssertionError with a sentence where the attack breaks the contract of base.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ..bench.errors import Unexpected
from .base import Fool, Perturb
from .entry import Entry
from .spec import Attack, FoolSpec, PerturbSpec
from .toy import CLASSES, IMAGES, RUNS, SIDE, Ran, Toy, facts, run, seeded, task_of

if TYPE_CHECKING:
    import pytest

CHANNELS = (1, 3)


def declaration(attack: Attack[Any]) -> None:
    """Its words are there, its spec takes the example and refuses what it does not know, its entries are distinct."""
    _hold(re.fullmatch(r"[a-z][a-z0-9_]{0,39}", attack.name) is not None, f"a name of a-z, 0-9 and _: {attack.name!r}")
    _hold(bool(attack.title.strip()) and attack.title == attack.title.strip(), "a title")
    _hold(attack.sentence.strip().endswith("."), "a sentence that ends with a full stop")
    base = FoolSpec if attack.task == "fool" else PerturbSpec
    _hold(issubclass(attack.spec, base), f"a spec derived from {base.__name__}")
    try:
        attack.spec.model_validate({**attack.example, "no_such_key": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError("expected its spec to refuse a key that it does not know (derive it from Strict)")
    for channels in CHANNELS:
        planned = plan(attack, channels)
        names = [entry.name for entry in planned]
        _hold(len(set(names)) == len(names), f"different names for its entries, got {names}")
        for entry in planned:
            _hold(re.fullmatch(r"[a-zA-Z0-9._-]+", entry.name) is not None, f"{entry.name!r} to be a file's name")
            _hold(min(entry.tasks, entry.shard, entry.budget) >= 1, f"tasks, shard and budget of at least 1: {entry}")
            json.dumps(entry.parameters)


def finals_and_questions(attack: Attack[Any], entry: Entry, channels: int) -> None:
    """Finals have the task's shape, float32, in [0, 1]; so has every question; owners exist; nothing is written to."""
    for victim in (Toy(channels), Toy(channels, rejects=True)):
        task = task_of(entry, victim)
        before = {key: value.clone() for key, value in vars(task).items() if isinstance(value, Tensor)}
        ran = run(entry, victim, task=task)
        for key, value in before.items():
            _hold(torch.equal(getattr(task, key), value), f"task.{key} to be left as it is")
        fooling = (RUNS, len(entry.targets), channels, SIDE, SIDE)
        shape = fooling if isinstance(task, Fool) else (IMAGES, channels, SIDE, SIDE)
        _hold(ran.finals.shape == shape, f"finals {shape}, got {tuple(ran.finals.shape)}")
        _images(ran.finals, "finals")
        _hold(not ran.finals.requires_grad, "finals without a gradient")
        lowest = -1 if entry.setup else 0
        for query in ran.asked:
            _images(query.images, "questions")
            _hold(query.images.shape[1:] == shape[-3:], f"questions of shape (n, {shape[-3:]})")
            _hold(query.owners.dtype == torch.int64, "owners in int64")
            _hold(len(query.images) == len(query.owners) >= 1, "an owner for each image, and an image at least")
            within = lowest <= int(query.owners.min()) and int(query.owners.max()) < len(ran.spent)
            _hold(within, f"owners from {lowest} to {len(ran.spent) - 1} (-1 where the entry grants a set-up)")


def budget(attack: Attack[Any], entry: Entry, channels: int) -> None:
    """No task asks for more than its entry grants. A black-box Fool asks for exactly that.

    A white box differentiates.
    """
    ran = run(entry, Toy(channels))
    spent = int(ran.spent.max())
    most = entry.budget if entry.most is None else min(entry.most, entry.budget)
    _hold(spent <= most, f"at most {most} queries and gradients a task, got {spent}")
    _hold(ran.setup <= entry.setup, f"at most {entry.setup} queries of set-up, got {ran.setup}")
    _hold(spent > 0, "an attack that asks about its tasks")
    if entry.box == "white":
        _hold(ran.gradients > 0, "a white-box attack that differentiates")
    elif entry.task == "fool":
        _hold(bool((ran.spent == entry.budget).all()), f"{entry.budget} queries a run, got {ran.spent.tolist()}")


def seeds(attack: Attack[Any], entry: Entry, channels: int) -> None:
    """Its generator is its only chance: the same seed gives the same bits, whatever the global stream is at."""
    victim = Toy(channels)
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(1)
        one = run(entry, victim)
        torch.manual_seed(2)
        two = run(entry, victim)
    finally:
        torch.random.set_rng_state(state)
    _hold(torch.equal(one.finals, two.finals), "the same finals from the same seed")
    _hold(torch.equal(one.spent, two.spent), "the same spending from the same seed")
    same = len(one.asked) == len(two.asked) and all(
        torch.equal(a.images, b.images) for a, b in zip(one.asked, two.asked, strict=True)
    )
    _hold(same, "the same questions from the same seed")


def limit(attack: Attack[Any], entry: Entry, channels: int) -> None:
    """A Perturb attack keeps the limit that the judge will hold its finals to, once they are rounded to its levels."""
    if entry.limit is None:
        return
    ran = run(entry, Toy(channels))
    assert isinstance(ran.task, Perturb)
    before, after = (ran.task.levels.to_bytes(images) for images in (ran.task.images, ran.finals))
    sizes = entry.limit.sizes(before, after)
    _hold(bool(entry.limit.kept(sizes, ran.task.levels).all()), f"{entry.limit}, got changes of {sizes.tolist()}")


def effect(attack: Attack[Any], entry: Entry, channels: int) -> None:
    """It does something: its finals are further from their labels, or nearer to their targets, than what it began
    with (Fool: than noise)."""
    victim = Toy(channels)
    ran = run(entry, victim)
    if isinstance(ran.task, Fool):
        rows = torch.arange(CLASSES).repeat(RUNS) if len(entry.targets) == CLASSES else ran.task.targets.repeat(RUNS)
        reached = victim.probabilities(ran.finals.flatten(0, 1)).gather(1, rows[:, None]).mean()
        noise = victim.probabilities(torch.rand(500, channels, SIDE, SIDE, generator=seeded(9)))
        chance = noise[:, ran.task.targets].mean()
        _hold(bool(reached > chance), f"more confidence than noise ({float(chance):.3f}), got {float(reached):.3f}")
        return
    sign, aims = (1, ran.task.targets) if ran.task.targets is not None else (-1, ran.task.labels)
    assert aims is not None
    before, after = (victim.probabilities(x).gather(1, aims[:, None]).mean() for x in (ran.task.images, ran.finals))
    _hold(bool(sign * after > sign * before), f"an effect on the victim, got {float(before):.4f} -> {float(after):.4f}")


EACH: tuple[Callable[[Attack[Any], Entry, int], None], ...] = (finals_and_questions, budget, seeds, limit, effect)


@dataclass(frozen=True)
class Check:
    """One check, bound to what it runs on. Call it: it raises AssertionError where the contract is broken."""

    name: str
    hold: Callable[[], None]

    def __call__(self) -> None:
        """Run it."""
        self.hold()


def checks_of(attack: Attack[Any]) -> Iterator[Check]:
    """Every check of an attack: its declaration, and each of its entries on gray and on colour images."""
    yield Check(f"{attack.name}-declaration", lambda: declaration(attack))
    for channels in CHANNELS:
        try:
            planned = plan(attack, channels)
        except (ValidationError, Unexpected):
            return  # the check of the declaration says so, and there is nothing else to check
        for entry in planned:
            for check in EACH:
                name = f"{entry.name}-{check.__name__}-{'gray' if channels == 1 else 'colour'}"
                yield Check(name, lambda check=check, e=entry, c=channels: check(attack, e, c))


def parametrize_with_checks(attacks: Iterable[Attack[Any]]) -> pytest.MarkDecorator:
    """A pytest decorator: the test below it is run once a check, as its argument `check`. Needs pytest."""
    import pytest

    found = [check for attack in attacks for check in checks_of(attack)]
    return pytest.mark.parametrize("check", [pytest.param(check, id=check.name) for check in found])


def plan(attack: Attack[Any], channels: int) -> tuple[Entry, ...]:
    """The entries that an attack makes of its own example, on the toy battery."""
    return attack.plan(attack.spec.model_validate(dict(attack.example)), facts(channels))


def _images(images: Tensor, what: str) -> None:
    _hold(images.dtype == torch.float32, f"{what} in float32, got {images.dtype}")
    low, high = float(images.min()), float(images.max())
    _hold(0 <= low <= high <= 1, f"{what} in [0, 1], got {low} to {high}")


def _hold(kept: bool, expected: str) -> None:
    if not kept:
        raise AssertionError(f"expected {expected}")


__all__ = ["Check", "Ran", "checks_of", "parametrize_with_checks", "plan"]
