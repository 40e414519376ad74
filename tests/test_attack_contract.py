"""One contract for every attack and control, as the batteries use them: whoever adds one inherits these tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from foolbench.attacks.answers import margins
from foolbench.attacks.base import BlackBox, Fool, Perturb, Query, Search, WhiteBox
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.deepception import Deepception
from foolbench.attacks.entry import Entry
from foolbench.attacks.evolution import Evolution
from foolbench.attacks.fgsm import Fgsm
from foolbench.attacks.gradient_ascent import GradientAscent
from foolbench.attacks.noise import Noise
from foolbench.attacks.one_pixel import OnePixel
from foolbench.attacks.random_cppn import RandomCppn
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
from foolbench.models.base import Classifier
from planted import (
    SMALL,
    SMALL_CONTROLS,
    Idle,
    Linear,
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
    "noise",
    "random_cppn",
)
UNSCANNED = ("deepception_noise", "deepception_random_donor")
WITHOUT_CHANCE = {
    *("deepception", "deepception_mean_color", "fgsm", "fgsm_0.05", "fgsm_least_likely", "fgsm_smallest"),
    *("transfer", "transfer_0.05"),
    # These draw, but all their starts end at one corner where the victim is linear; what they ask is not looked at.
    *("projected_ascent", "projected_ascent_0.05", "projected_ascent_everywhere"),
}
CHANNELS = (1, 3)
CLASSES = 3
LENT = 2


@cache
def toy(channels: int, gain: float = 3.0) -> Classifier:
    """A linear network whose weights vary smoothly over the image; CPPN images and patches can speak to it."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 8), torch.linspace(0, 3, 8), indexing="ij")
    waves = torch.stack([torch.sin(x + i) * torch.cos(y * (i + 1) / 2 + i) for i in range(CLASSES * channels)])
    weight = gain * waves.view(CLASSES, -1)
    weight -= weight.mean(0)
    return classifier(Linear(weight / 8, -0.5 * weight.sum(1) / 8), (channels, 8, 8), CLASSES)


def fool(channels: int) -> Fool:
    return Fool((channels, 8, 8), torch.arange(CLASSES), 2, torch.full((channels, 8, 8), 0.4))


def perturb(channels: int, count: int = 4) -> Perturb:
    images = torch.randint(40, 216, (count + 6, channels, 8, 8), generator=seeded(3)) / 255
    answered = toy(channels).probabilities(images, seeded())
    donors = images[count:]
    return Perturb(
        images[:count], answered[:count].argmax(1), donors, donors.mean(0), targets=answered[:count].argmin(1)
    )


def aims(entry: Entry, task: Perturb) -> Tensor | None:
    if entry.fixed_target is not None:
        return torch.full_like(task.labels, entry.fixed_target)
    return task.targets if entry.least_likely else None


def lent(task: Perturb) -> Tensor:
    """What two other models could have made of the task's images, which fools none."""
    moves = 2 * torch.randint(2, (LENT, *task.images.shape), generator=seeded(4)) - 1
    return torch.stack([task.levels.moved(task.images, move) for move in moves])


def every_attack(folder: Path, classes: int) -> Battery:
    given = {"attacks": SMALL | SMALL_LINF, "controls": SMALL_CONTROLS, "panel": small_panel(folder)}
    return battery(folder, *halves(8), classes=classes, **given)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """Every entry that a battery can have, at a few queries each."""
    made = every_attack(tmp_path_factory.mktemp("plan"), 2)
    found = {entry.name: entry for entry in entries(made)}
    # Six donors, as `perturb` has, instead of the battery's own; 16 windows of each where they are scanned.
    scanned = {name: 0 if name in UNSCANNED else 16 for name in found}
    found = {name: replace(e, budget=LENT) if e.borrows else e for name, e in found.items()}
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
    owners = task.runs * (1 if entry.box == "black" else CLASSES) if isinstance(task, Fool) else len(task.images)
    spent, asked = meter(owners, entry.budget, entry.setup), []
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

    finals = drive_black_box(
        Spied(), task, victim, spent, attack_rng=seeded(seed), victim_rng=seeded(1), how=Asking(16), stop=lambda: False
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
    tasks = entry.tasks * CLASSES if entry.task == "fool" else 8
    assert result.fooled.shape == (tasks,)
    attacked = prepared.clean.reading.label.numpy() != entry.fixed_target if entry.task == "perturb" else True
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


# Better than chance, at as many queries


def confidence(finals: Tensor) -> float:
    """Mean confidence of the fooling images in their own classes."""
    answered = toy(1).probabilities(finals.flatten(0, 1), seeded())
    return float(answered.gather(1, torch.arange(CLASSES).repeat(len(finals))[:, None]).mean())


def searched(attack: BlackBox[Any], task: Fool | Perturb, budget: int, setup: int = 0) -> tuple[Tensor, int]:
    """Finals, and the most that a task spent."""
    spent = meter(task.runs if isinstance(task, Fool) else len(task.images), budget, setup)
    finals = drive_black_box(
        attack, task, toy(1), spent, attack_rng=seeded(), victim_rng=seeded(1), how=Asking(64), stop=lambda: False
    )
    return finals, int(spent.spent.max())


def test_fooling_images_are_better_than_chance() -> None:
    task = replace(fool(1), runs=8)
    best: dict[str, float] = {}
    for name, attack in {
        "evolution": Evolution(children=30, generations=20),
        "cppn": Cppn(children=30, generations=20),
        "noise": Noise(children=30, generations=20),
        "random_cppn": RandomCppn(children=30, generations=20),
    }.items():
        finals, spent = searched(attack, task, 600)
        assert spent == 600
        best[name] = confidence(finals)
    for objective in ("softmax", "logit"):
        spent = meter(8 * CLASSES, 600 // CLASSES)
        oracle = DrivenOracle(toy(1), spent, seeded(1), Asking(64), 1, lambda: False)
        ascent = GradientAscent(objective=objective, starts=(1 / 255,), steps=600 // CLASSES)
        best[objective] = confidence(drive_white_box(ascent, task, oracle, attack_rng=seeded()))
    assert best["evolution"] > best["noise"] + 0.1
    assert best["cppn"] > best["random_cppn"] + 0.02
    assert best["cppn"] > best["noise"] + 0.1
    assert min(best["softmax"], best["logit"]) > best["noise"] + 0.1


@dataclass(frozen=True)
class Chance:
    """Tries random changes, all at once, and keeps the one of least margin."""

    tries: int
    change: Callable[[Tensor, torch.Generator], Tensor]

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        offered = self.change(task.images.repeat_interleave(self.tries, 0), rng)
        owners = torch.arange(len(task.images)).repeat_interleave(self.tries)
        answered = yield Query(offered, owners)
        found = margins(answered, task.labels[owners]).view(-1, self.tries)
        return offered.view(-1, self.tries, *offered.shape[1:])[torch.arange(len(found)), found.argmin(1)]


def margin(finals: Tensor, task: Perturb) -> float:
    return float(margins(toy(1).probabilities(finals, seeded()), task.labels).mean())


def firm(count: int) -> Perturb:
    """Images that no small change can flip, so that every attack spends all that it has."""
    many = perturb(1, 400)
    sure = toy(1).probabilities(many.images, seeded()).amax(1).topk(count).indices
    return replace(many, images=many.images[sure], labels=many.labels[sure], targets=None)


def random_pixels(pixels: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    def change(images: Tensor, rng: torch.Generator) -> Tensor:
        changed = images.flatten(2).clone()
        places = torch.rand(len(images), 64, generator=rng).argsort(1)[:, None, :pixels]
        colours = torch.rand(len(images), 1, pixels, generator=rng)
        return changed.scatter_(2, places, colours).view_as(images)

    return change


@pytest.mark.parametrize("pixels", [1, 3])
def test_one_pixel_is_better_than_chance(pixels: int) -> None:
    task = firm(12)
    finals, spent = searched(OnePixel(pixels=pixels, population=20, iterations=19), task, 400)
    chance, spent_by_chance = searched(Chance(400, random_pixels(pixels)), task, 400)
    assert spent == spent_by_chance == 400
    assert margin(finals, task) < margin(chance, task) < margin(task.images, task)


def random_patches(donors: Tensor, side: int, copies: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Copies of one random window of a random donor, anywhere."""

    def draw(high: int, count: int, rng: torch.Generator) -> Tensor:
        return torch.randint(high, (count,), generator=rng)

    def change(images: Tensor, rng: torch.Generator) -> Tensor:
        changed, n = images.clone(), len(images)
        donor, row, column = draw(len(donors), n, rng), draw(9 - side, n, rng), draw(9 - side, n, rng)
        for _ in range(copies):
            down, right = draw(9 - side, n, rng), draw(9 - side, n, rng)
            for i in range(side):
                for j in range(side):
                    changed[torch.arange(n), 0, down + i, right + j] = donors[donor, 0, row + i, column + j]
        return changed

    return change


def test_deepception_is_better_than_chance() -> None:
    task = firm(12)
    attack = Deepception(side=2, stride=1, copies=3, grid=5, keep=8, bank=2)
    finals, spent = searched(attack, task, attack.most_queries, 6 * 50)
    assert 50 < spent <= attack.most_queries
    chance, _ = searched(Chance(spent, random_patches(task.donors, 2, 3)), task, spent)
    assert margin(finals, task) < margin(chance, task) < margin(task.images, task)


def test_fgsm_is_better_than_chance() -> None:
    task = firm(12)
    spent = meter(12, 1)
    oracle = DrivenOracle(toy(1), spent, seeded(1), Asking(64), 1, lambda: False)
    finals = drive_white_box(Fgsm(0.1), task, oracle, attack_rng=seeded())

    def signs(images: Tensor, rng: torch.Generator) -> Tensor:
        return (images + 0.1 * (2 * torch.randint(2, images.shape, generator=rng) - 1)).clamp(0, 1)

    chance, _ = searched(Chance(200, signs), task, 200)  # two hundred times the queries do not help
    assert margin(finals, task) < margin(chance, task) < margin(task.images, task)


def test_a_battery_s_numbers_are_those_that_its_attacks_spend() -> None:
    """The shipped budgets, by hand: what a reader of digits-v1.yaml would work out."""
    budgets = {e.name: (e.budget, e.setup, e.tasks) for e in entries(read_battery("digits-v1"))}
    assert budgets["evolution"] == budgets["cppn"] == (50_000, 0, 5)
    assert budgets["noise"] == budgets["random_cppn"] == (50_000, 0, 1)
    assert budgets["one_pixel"] == budgets["one_pixel_5"] == (100 * 51, 0, 100)
    assert budgets["fgsm"] == budgets["fgsm_least_likely"] == (1, 0, 200)
    assert budgets["fgsm_smallest"] == (1 + 16, 0, 200)
    scanned = [budgets[name] for name in ("deepception", "deepception_mean_color", "deepception_shuffled")]
    assert scanned == [(1000, 20 + 10 * 7 * 7, 200)] * 3
    assert budgets["deepception_noise"] == budgets["deepception_random_donor"] == (1000, 20, 200)
    ascent = {name: value for name, value in budgets.items() if name.startswith("gradient_ascent")}
    assert len(ascent) == 4 + 2
    assert ascent.pop("gradient_ascent_adam") == (200, 0, 5)
    assert ascent.pop("gradient_ascent_borrowed") == (32 + 200, 0, 5)
    assert all(tasks == 5 and 500 <= budget <= 501 for budget, _, tasks in ascent.values())
    assert budgets["projected_ascent"] == budgets["projected_ascent_5_16"] == ((2 * 2 + 3) * (2 * 100 + 1), 0, 200)
    assert budgets["projected_ascent_everywhere"] == (2 * 2 * (2 * 100 + 1), 0, 200)
    assert budgets["transfer_1_16"] == (8 * 2, 0, 200)
    assert budgets["square"] == budgets["square_1_16"] == (5000, 0, 200)
    assert budgets["one_pixel_exact"] == (64 * 17, 0, 100)
    assert len(budgets) == 2 + 5 + 3 + 1 + (5 + 2) + (5 + 1) + 5 + 5 + 4 + 2 + 2
