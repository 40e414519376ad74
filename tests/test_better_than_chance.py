"""Attacks against chance, at as many queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from contract_tasks import CLASSES, fool, perturb, toy
from foolbench.attacks.answers import margins
from foolbench.attacks.base import BlackBox, Fool, Perturb, Query, Search
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.deepception import Deepception
from foolbench.attacks.evolution import Evolution
from foolbench.attacks.fgsm import Fgsm
from foolbench.attacks.gradient_ascent import GradientAscent
from foolbench.attacks.noise import Noise
from foolbench.attacks.one_pixel import OnePixel
from foolbench.attacks.random_cppn import RandomCppn
from foolbench.bench.battery.ground import Asking
from foolbench.bench.running.drive import drive_black_box
from foolbench.bench.running.oracle import DrivenOracle, drive_white_box
from planted import meter, seeded
from torch import Tensor


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
