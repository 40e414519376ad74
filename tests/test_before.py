"""Entries that need others: what those fooled is left alone or carried on, and their images are lent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from foolbench.attacks.base import Fool, Perturb, Query, Search
from foolbench.attacks.entry import Entry, Limit
from foolbench.attacks.fgsm import Fgsm
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Execution
from foolbench.bench.battery.panel import Member, SourceImages, Sources
from foolbench.bench.errors import Unexpected
from foolbench.bench.running.prepared import Prepared, prepare
from foolbench.bench.running.progress import Silent
from foolbench.bench.running.run import run_entries
from foolbench.bench.running.shards import ShardResult
from foolbench.bench.victim.assemble import panel_member

LENT: list[torch.Tensor | None] = []


@dataclass(frozen=True)
class _Spy:
    """Asks once about what it is given, and notes what it may borrow."""

    def search(self, task: Fool | Perturb, rng: torch.Generator) -> Search:
        LENT.append(task.borrowed)
        if isinstance(task, Fool):
            images = task.mean.expand(task.runs, len(task.targets), *task.shape).clone()
            yield Query(images[:, 0], torch.arange(task.runs))
            return images
        yield Query(task.images, torch.arange(len(task.images)))
        return task.images


def _perturb(name: str, levels: int, attack: object, **more: tuple[str, ...]) -> Entry:
    box = "black" if isinstance(attack, _Spy) else "white"
    limit = Limit("linf", levels / 16)
    return Entry(name, name, name, attack, "perturb", box, 40, 20, 1, limit=limit, **more)  # pyright: ignore


def _fool(name: str, runs: int, targets: tuple[int, ...], **more: tuple[str, ...]) -> Entry:
    return Entry(name, name, name, _Spy(), "fool", "black", runs, 1, 1, targets=targets, **more)  # pyright: ignore


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    read = read_battery("digits-v1", tier="smoke")
    with Execution(device="cpu").on(read) as ground:
        panel = read.spec.panel
        assert panel is not None
        return prepare(panel_member(ground, panel.models[0]).classifier, ground)


def _run(prepared: Prepared, plan: list[Entry], workers: int = 2) -> dict[str, ShardResult]:
    found = run_entries(prepared, plan, folder=None, determined_by={}, workers=workers, progress=Silent())
    assert all(isinstance(result, ShardResult) for result in found.values())
    return {name: result for name, result in found.items() if isinstance(result, ShardResult)}


def test_what_smaller_limits_fooled_stands_and_what_others_fooled_is_left_alone(prepared: Prepared) -> None:
    LENT.clear()
    plan = [
        _perturb("spy", 3, _Spy(), after=("three", "absent")),  # first in the plan, last in time
        _perturb("three", 3, Fgsm(3 / 16), carries=("two",)),
        _perturb("two", 2, Fgsm(2 / 16), carries=("one",)),
        _perturb("one", 1, Fgsm(1 / 16)),
        _perturb("small", 1, _Spy(), after=("three",)),  # a larger limit says nothing of a smaller one
    ]
    found = _run(prepared, plan)
    one, two, three, spy = (found[name] for name in ("one", "two", "three", "spy"))
    assert 0 < one.fooled.sum() < two.fooled.sum() <= three.fooled.sum() < 40
    assert (two.fooled[one.fooled].all(), three.fooled[two.fooled].all()) == (True, True)
    assert np.array_equal(three.images[one.fooled], one.images[one.fooled])
    assert (two.spent[one.fooled].max(), two.cost[one.fooled].tolist()) == (0, one.cost[one.fooled].tolist())
    assert int(two.counts[2]) == int((one.attacked & ~one.fooled).sum())  # a gradient each, for those left
    right = prepared.clean.right.cpu().numpy()
    assert (one.attacked & ~right).sum() > 0
    assert np.array_equal(spy.attacked, right & ~three.fooled)
    assert np.array_equal(found["small"].attacked, right)
    # No image of what is left was fooled by chance of the order in which shards were worked on.
    again = _run(prepared, plan[::-1], workers=1)
    for name, result in found.items():
        assert np.array_equal(result.images, again[name].images), name
    assert LENT
    assert all(part is None for part in LENT)


def test_images_are_lent_by_class_and_run(prepared: Prepared) -> None:
    t, shape = 40, (1, 8, 8)
    made = np.arange(t, dtype=np.uint8)[:, None, None, None] * np.ones((t, *shape), np.uint8)
    yes, label = np.ones(t, bool), np.zeros(t, np.int64)
    image = SourceImages("a", made, yes, yes, label, np.ones(t))
    sources = Sources((Member("a", label, 0.5),), {("a", "theirs"): image, ("a", "fool"): image})
    LENT.clear()
    given = replace(prepared, sources=sources)
    _run(given, [_perturb("spy", 3, _Spy(), borrows=("theirs", "absent"))], workers=1)
    accepted = prepared.clean.accepted.cpu().numpy()
    lent = [part for part in LENT if part is not None]
    assert [part.shape[0] for part in lent] == [1, 1]
    got = torch.cat([part[0, :, 0, 0, 0] for part in lent]).numpy() * 255
    assert np.array_equal(got.round(), np.arange(t)[accepted])

    LENT.clear()
    plan = [_fool("fool", 4, tuple(range(10))), _fool("mine", 6, (7, 2), after=("fool",), borrows=("fool",))]
    _run(given, plan, workers=1)
    lent = [part for part in LENT if part is not None]
    assert [part.shape for part in lent] == [(2, 1, 2, *shape)] * 6
    levels = [(part[1, 0, :, 0, 0, 0] * 255).round().tolist() for part in lent]
    assert levels == [[run % 4 * 10 + 7, run % 4 * 10 + 2] for run in range(6)]


def test_entries_that_wait_for_each_other_are_refused(prepared: Prepared) -> None:
    plan = [_perturb("a", 1, _Spy(), after=("b",)), _perturb("b", 1, _Spy(), after=("a",))]
    with pytest.raises(Unexpected, match="wait"):
        run_entries(prepared, plan, folder=None, determined_by={}, workers=1, progress=Silent())
