"""One contract for every attack and control, as the batteries use them: whoever adds one inherits these tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from contract_tasks import CLASSES, fool, perturb, toy
from foolbench.attacks import declared
from foolbench.attacks.base import BlackBox, Fool, Perturb, Query, Search, WhiteBox
from foolbench.attacks.entry import Entry
from foolbench.attacks.every_pixel import EveryPixel
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Asking
from foolbench.bench.errors import OverBudget
from foolbench.bench.running.drive import Meter, drive_black_box
from foolbench.bench.running.oracle import DrivenOracle, drive_white_box
from foolbench.bench.running.prepared import Prepared
from foolbench.bench.running.shards import Shard
from foolbench.bench.running.work import work
from planted import (
    SMALL,
    SMALL_CONTROLS,
    Idle,
    battery,
    classifier,
    ground,
    halves,
    left_or_right,
    meter,
    seeded,
)
from small_linf import SMALL_LINF, small_panel
from torch import Tensor

NAMES = (
    "evolution",
    "cppn",
    "deepception",
    "deepception_mean_color",
    "deepception_shuffled",
    "deepception_noise",
    "deepception_random_donor",
    "one_pixel",
    "one_pixel_3",
    "one_pixel_exact",
    "fgsm",
    "fgsm_0.05",
    "fgsm_least_likely",
    "fgsm_smallest",
    "projected_ascent",
    "projected_ascent_0.05",
    "projected_ascent_everywhere",
    "transfer",
    "transfer_0.05",
    "square",
    "square_0.05",
    "gradient_ascent_softmax_0",
    "gradient_ascent_softmax_0.01",
    "gradient_ascent_logit_0",
    "gradient_ascent_logit_0.01",
    "gradient_ascent_adam",
    "gradient_ascent_borrowed",
    "evolution_label",
    "cppn_label",
    "hop_skip_jump",
    "hop_skip_jump_0.1",
    "noise",
    "random_cppn",
)
UNSCANNED = ("deepception_noise", "deepception_random_donor")
WITHOUT_CHANCE = {
    *("deepception", "deepception_mean_color", "fgsm", "fgsm_0.05", "fgsm_least_likely", "fgsm_smallest"),
    *("transfer", "transfer_0.05", "one_pixel_exact", "gradient_ascent_borrowed"),
    # These draw, but all their starts end at one corner where the victim is linear; what they ask is not looked at.
    *("projected_ascent", "projected_ascent_0.05", "projected_ascent_everywhere"),
}
CHANNELS = (1, 3)
LENT = 2


def aims(entry: Entry, task: Perturb) -> Tensor | None:
    if entry.fixed_target is not None:
        return torch.full_like(task.labels, entry.fixed_target)
    return task.targets if entry.least_likely else None


def lent(task: Perturb) -> Tensor:
    """What two other models could have made of the task's images, which fools none."""
    moves = 2 * torch.randint(2, (LENT, *task.images.shape), generator=seeded(4)) - 1
    return torch.stack([task.levels.moved(task.images, move) for move in moves])


def every_attack(folder: Path, classes: int) -> Battery:
    exact = {"one_pixel": SMALL["one_pixel"] | {"exact": {"images": 4, "images_per_shard": 4, "values": 3}}}
    borrowed = {"after": ["evolution", "cppn"], "borrows": ["evolution"], "asked": 2, "climbed": 1}
    more = {"adam": {"steps": 4, "rate": 0.1}, "borrowed": {"steps": 4, "rate": 0.1} | borrowed}
    ascents = {"gradient_ascent": SMALL["gradient_ascent"] | more}
    labels = {name: dict(declared(name).example) for name in ("evolution_label", "cppn_label", "hop_skip_jump")}
    attacks = SMALL | SMALL_LINF | exact | ascents | labels
    given = {"attacks": attacks, "controls": SMALL_CONTROLS, "panel": small_panel(folder)}
    return battery(folder, *halves(8), classes=classes, **given)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """Every entry that a battery can have, at a few queries each."""
    made = every_attack(tmp_path_factory.mktemp("plan"), 2)
    found = {entry.name: entry for entry in entries(made)}
    # Six donors, as `perturb` has, instead of the battery's own; 16 windows of each where they are scanned.
    scanned = {name: 0 if name in UNSCANNED else 16 for name in found}
    found = {name: replace(e, budget=LENT) if e.borrows and e.limit else e for name, e in found.items()}
    return {name: replace(e, setup=6 * (1 + scanned[name])) if e.setup else e for name, e in found.items()}


@dataclass(frozen=True)
class Ran:
    finals: Tensor
    spent: Meter
    asked: list[Query]
    """Black box only: as the attack put its questions."""


def run(entry: Entry, channels: int, seed: int = 0, task: Fool | Perturb | None = None) -> Ran:
    """An entry's attack on a block of tasks, under its own budget. A black-box attack only ever meets its generator."""
    if task is None:
        task = fool(channels) if entry.task == "fool" else perturb(channels)
        if isinstance(task, Perturb):
            task = replace(task, targets=aims(entry, task), borrowed=lent(task) if entry.borrows else None)
        elif entry.borrows:
            made = torch.rand((LENT, task.runs, CLASSES, *task.shape), generator=seeded(4))
            task = replace(task, borrowed=task.levels.rounded(made))
    owners = task.runs * (1 if entry.box == "black" else CLASSES) if isinstance(task, Fool) else len(task.images)
    # The plan is for one channel; with three, a pixel has that many more colours.
    exact = isinstance(entry.attack, EveryPixel) and channels > 1
    spent, asked = meter(owners, entry.budget * 3 ** (channels - 1) if exact else entry.budget, entry.setup), []
    victim = toy(channels)
    if entry.box == "white":
        oracle = DrivenOracle(victim, spent, seeded(1), Asking(16), 1, lambda: False)
        attack = cast(WhiteBox[Any], entry.attack)
        return Ran(drive_white_box(attack, task, oracle, attack_rng=seeded(seed)), spent, asked)

    class Spied:
        def search(self, task: Any, rng: torch.Generator) -> Search:
            search = cast(BlackBox[Any], entry.attack).search(task, rng)
            try:
                query = next(search)
                while True:
                    asked.append(Query(query.images.clone(), query.owners.clone()))
                    query = search.send((yield query))
            except StopIteration as finished:
                return finished.value

    one, two, access = seeded(seed), seeded(1), entry.access
    finals = drive_black_box(
        *(Spied(), task, victim, spent),
        attack_rng=one,
        victim_rng=two,
        how=Asking(16),
        stop=lambda: False,
        access=access,
    )
    return Ran(finals, spent, asked)


def test_the_list_above_is_complete(plan: dict[str, Entry]) -> None:
    assert set(plan) == set(NAMES)
    shipped = {e.attack.__class__ for e in entries(read_battery("digits-v1"))}
    assert shipped == {e.attack.__class__ for e in plan.values()}


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_budget_is_noticed(plan: dict[str, Entry], name: str) -> None:
    """The numbers in entries.py are tight where an attack spends all of its budget on some task."""
    entry = plan[name]
    most = int(run(entry, 1).spent.spent.max())
    with pytest.raises(OverBudget):
        run(replace(entry, budget=most - 1), 1)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(plan: dict[str, Entry], name: str, channels: int) -> None:
    torch.manual_seed(1)
    one = run(plan[name], channels)
    torch.manual_seed(2)  # whoever draws from the global stream is found out
    two, other = run(plan[name], channels), run(plan[name], channels, seed=1)
    assert torch.equal(one.finals, two.finals)
    assert torch.equal(one.spent.spent, two.spent.spent)
    same = torch.equal(one.finals, other.finals) and all(
        torch.equal(a.images, b.images) for a, b in zip(one.asked, other.asked, strict=False)
    )
    assert same is (name in WITHOUT_CHANCE)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    made = every_attack(tmp_path_factory.mktemp("prepared"), CLASSES)
    victim = classifier(left_or_right(columns=CLASSES), (1, 8, 8), CLASSES)
    given = ground(made)
    return Prepared(given, victim, examine(victim, given), None)


@pytest.mark.parametrize("name", NAMES)
def test_doing_nothing_scores_zero(prepared: Prepared, name: str) -> None:
    """In every entry's place, judged like every entry."""
    (entry,) = (e for e in entries(prepared.ground.battery) if e.name == name)
    idle = Shard(replace(entry, attack=Idle()), 0, 0, entry.tasks)
    result = work(prepared, idle, stop=lambda: False, tick=lambda asked, fooled: None)
    tasks = entry.tasks * CLASSES if entry.task == "fool" else entry.tasks
    assert result.fooled.shape == (tasks,)
    labels = prepared.clean.reading.label.numpy()[:tasks]
    attacked = labels != entry.fixed_target if entry.task == "perturb" else True
    assert (result.attacked == attacked).all()
    assert not result.fooled.any()
    assert not result.fooled_flat.any()
    assert (result.first == -1).all()
    assert result.spent.sum() == result.counts.sum() == 0
    assert (result.refused == "").all()


def test_an_epsilon_grid_takes_one_gradient_and_comes_out_as_if_each_step_took_its_own(prepared: Prepared) -> None:
    net = left_or_right(columns=CLASSES)
    differentiated = []

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        if torch.is_grad_enabled():
            differentiated.append(len(images))
        return net(images)

    def worked(entry: Entry, prepared: Prepared) -> dict[str, Any]:
        result = work(prepared, Shard(entry, 0, 0, entry.tasks), stop=lambda: False, tick=lambda asked, fooled: None)
        return {name: value.tolist() for name, value in vars(result).items() if name != "seconds"}

    shared = replace(prepared, victim=replace(prepared.victim, logits=logits), looks={})
    grid = [e for e in entries(prepared.ground.battery) if e.name.startswith("fgsm")]
    assert len(grid) == 4
    for entry in [*grid, *grid[::-1]]:
        assert repr(worked(entry, shared)) == repr(worked(entry, replace(prepared, looks={})))
    assert sum(differentiated) == 2 * grid[0].tasks  # away from the labels, and towards the least likely class
