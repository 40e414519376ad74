"""Searches by labels alone: what they are shown, what they find where that is known, and whom they run against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from foolbench.attacks.answers import label_alone, label_of
from foolbench.attacks.base import BlackBox, Fool, Perturb, Query, Search
from foolbench.attacks.cppn_label import CppnLabel
from foolbench.attacks.entry import Limit
from foolbench.attacks.evolution_label import EvolutionLabel
from foolbench.attacks.evolving.grains import in_squares
from foolbench.attacks.hop_skip_jump import HopSkipJump
from foolbench.attacks.levels import Levels
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Asking, Execution
from foolbench.bench.battery.panel import wanted
from foolbench.bench.evaluation.estimate import estimate
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.running.drive import drive_black_box, within_limit
from foolbench.bench.running.prepared import prepare
from foolbench.models.base import Classifier
from planted import SMALL, battery, classifier, ground, halves, left_or_right, meter, seeded, subject
from torch import Tensor, nn

SHAPE = (1, 8, 8)
Answers = Callable[[Tensor], Tensor]


def told(attack: BlackBox, task: Fool | Perturb, answers: Answers, seed: int = 0) -> tuple[Tensor, int]:
    """The finals of a search that is told labels alone, and how many images it asked about."""
    search = attack.search(task, seeded(seed))
    query, asked = next(search), 0
    try:
        while True:
            asked += len(query.images)
            query = search.send(label_alone(answers(task.levels.rounded(query.images))))
    except StopIteration as finished:
        return finished.value, asked


def test_a_label_is_left_of_an_answer_and_nothing_else() -> None:
    answers = torch.tensor([[0.2, 0.7, 0.1], [0.34, 0.33, 0.33], [0.2, 0.3, 0.1], [0.0, 0.0, 0.0]])
    shown = label_alone(answers)  # the third and the fourth are rejected
    assert shown.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert torch.equal(label_of(shown), label_of(answers))


@dataclass(frozen=True)
class Looking:
    """Notes what it is sent for one image a task."""

    seen: list[Tensor]

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        self.seen.append((yield Query(task.images, torch.arange(len(task.images)))))
        return task.images


def test_the_driver_shows_labels_alone_to_whom_an_entry_says_so() -> None:
    victim = classifier(left_or_right(), SHAPE, 2)
    images = torch.from_numpy(halves(4)[0]).float() / 255
    task = Perturb(images, torch.tensor([0, 1, 0, 1]), images, images.mean(0))
    seen: list[Tensor] = []
    for access in ("scores", "label"):
        drive_black_box(
            Looking(seen),
            task,
            victim,
            meter(4),
            attack_rng=seeded(),
            victim_rng=seeded(),
            how=Asking(4),
            stop=lambda: False,
            access=access,
        )
    scores, labels = seen
    assert bool(((scores > 0) & (scores < 1)).all())
    assert labels.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_an_image_beyond_the_limit_is_no_hit() -> None:
    images = torch.from_numpy(halves(2)[0]).float() / 255
    task = Perturb(images, torch.tensor([0, 1]), images, images.mean(0))
    within = within_limit(Limit("linf", 0.1), task)
    assert within is not None
    near = (images + 25 / 255).clamp(0, 1)
    asked, owners = torch.cat([near, near + 2 / 255, images.flip(0)]), torch.tensor([0, 1, 0, 1, 0, 1])
    assert within(asked, owners).tolist() == [True, True, False, False, False, False]


def test_noise_in_squares_has_one_value_a_square() -> None:
    noise = torch.arange(16.0).view(1, 1, 4, 4).repeat(3, 1, 1, 1)
    made = in_squares(noise, torch.tensor([1, 2, 3]))
    assert torch.equal(made[0], noise[0])
    assert made[1, 0].tolist() == [[0, 0, 2, 2], [0, 0, 2, 2], [8, 8, 10, 10], [8, 8, 10, 10]]
    assert made[2, 0].tolist() == [[0, 0, 0, 3], [0, 0, 0, 3], [0, 0, 0, 3], [12, 12, 12, 15]]


# What they find


def plane(seed: int = 5) -> tuple[Tensor, Answers]:
    """A linear victim of two classes, of small slopes either way, and its weights."""
    weight = torch.randn(64, generator=seeded(seed))
    weight = weight - weight.mean()

    def answers(images: Tensor) -> Tensor:
        score = (images - 0.5).flatten(1) @ weight
        return torch.stack([score.sigmoid(), (-score).sigmoid()], 1)

    return weight, answers


def test_hop_skip_jump_reaches_the_distance_of_a_plane_and_nothing_nearer() -> None:
    weight, answers = plane()
    levels = Levels(256)
    images = levels.rounded(0.35 + 0.3 * torch.rand(12, *SHAPE, generator=seeded(1)))
    labels = answers(images).argmax(1)
    # A plane is crossed where ε reaches |score| / |weight|₁; images are far enough inside to be clipped nowhere.
    distance = ((images - 0.5).flatten(1) @ weight).abs() / weight.abs().sum() * 255
    task = Perturb(images, labels, torch.rand(6, *SHAPE, generator=seeded(2)), images.mean(0))
    for factor, expected in ((0.9, False), (1.5, True)):
        for i, exact in enumerate(distance.tolist()):
            steps = max(int(exact * factor), 1) if not expected else int(exact * factor) + 2
            if not expected and steps > exact:
                continue  # nearer than a level: nothing lies below it
            one = replace(task, images=images[i : i + 1], labels=labels[i : i + 1])
            finals, asked = told(HopSkipJump(steps / 255, 2000, samples=100), one, answers)
            assert ((finals - one.images).abs().max() * 255).round() <= steps
            assert asked <= 2000 + 16
            assert bool((answers(levels.rounded(finals)).argmax(1) != one.labels).all()) is expected


def test_hop_skip_jump_takes_no_rejection_for_a_success() -> None:
    def rejecting(images: Tensor) -> Tensor:
        plain = torch.tensor([0.9, 0.1]).expand(len(images), 2)
        return torch.where((images.flatten(1).mean(1) > 0.5)[:, None], plain * 0.3, plain)

    images = torch.full((3, *SHAPE), 100 / 255)
    task = Perturb(images, torch.zeros(3, dtype=torch.int64), torch.rand(4, *SHAPE, generator=seeded()), images[0])
    finals, asked = told(HopSkipJump(0.5, 500), task, rejecting)
    assert torch.equal(finals, images)
    assert asked == 4 + 10  # there is nothing to begin at


def templates(seed: int = 3) -> tuple[Tensor, Answers]:
    weight = torch.randn(64, 5, generator=seeded(seed))
    return weight, lambda images: ((images.flatten(1) - 0.5) @ weight).softmax(1)


@pytest.mark.parametrize(
    ("attack", "least"),
    [(EvolutionLabel(generations=60), 0.999), (CppnLabel(generations=40, children=100), 0.85)],
    ids=["evolution", "cppn"],
)
def test_labels_lead_to_confidence_which_no_search_was_told(attack: BlackBox, least: float) -> None:
    weight, answers = templates()
    task = Fool(SHAPE, torch.arange(5), 2, torch.full(SHAPE, 0.5))
    finals, asked = told(attack, task, answers)
    reached = torch.stack([answers(run)[torch.arange(5), torch.arange(5)] for run in finals])
    assert asked == 2 * (12_000 if isinstance(attack, EvolutionLabel) else 8_000)
    # What an image that is labelled so has by chance, which is all that a label says of it.
    chance = answers(torch.rand(4000, *SHAPE, generator=seeded(8))).amax(1).median()
    assert chance < 0.8
    assert bool((reached > least).all())
    if isinstance(attack, EvolutionLabel):
        # Of a linear victim the label of class c holds furthest at black and white after the signs of its own weights.
        own = (weight - weight.mean(1, keepdim=True)).T
        agree = ((finals[0].flatten(1) > 0.5) == (own > 0)).float().mean(1)
        assert bool((agree > 0.75).all())


def test_a_class_that_no_answer_names_ends_black_and_costs_no_other() -> None:
    def answers(images: Tensor) -> Tensor:
        score = (images.flatten(1).mean(1) - 0.5) * 40
        return torch.stack([score.sigmoid() * 0.9, (-score).sigmoid() * 0.9, torch.full_like(score, 0.1)], 1)

    task = Fool(SHAPE, torch.arange(3), 1, torch.full(SHAPE, 0.5))
    for attack in (EvolutionLabel(generations=30, children=40, copies=10), CppnLabel(generations=20, children=40)):
        finals, _ = told(attack, task, answers)
        assert bool((finals[0, 2] == 0).all())
        assert label_of(answers(finals[0, :2])).tolist() == [0, 1]


# Against whom they run


LABELS = {
    "evolution_label": {
        "runs": 2, "children": 40, "generations": 30, "copies": 10, "noise": 0.3, "step": 0.1, "when": "withheld",
        "runs_per_shard": 1,
    },
    "hop_skip_jump": {
        "images": 8, "epsilon": 0.4, "curve": [0.2, 0.4], "queries": 300, "samples": 20, "probe": 0.05, "noise": 4,
        "when": "withheld", "images_per_shard": 8,
    },
}  # fmt: skip
ATTACKS = {"evolution": SMALL["evolution"], **LABELS}


class Three(nn.Module):
    """`halves` and a third class that some images are: enough of them for two classes to be left when one is told."""

    def __init__(self, gain: float = 8.0) -> None:
        super().__init__()
        self.inner, self.gain = left_or_right(gain=gain, columns=3), gain

    def forward(self, images: Tensor) -> Tensor:
        plain = self.inner(images)
        third = self.gain * (images.flatten(1).std(1) - 0.15)
        return torch.cat([plain[:, :2], third[:, None]], 1)


def one_hot(victim: Classifier) -> Classifier:
    return replace(victim, logits=None, probabilities=lambda i, g: label_alone(victim.probabilities(i, g)))


def others_alike(victim: Classifier) -> Classifier:
    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        whole = victim.probabilities(images, rng)
        top = whole.max(1, keepdim=True)
        rest = ((1 - top.values) / (whole.shape[1] - 1)).expand_as(whole)
        return rest.scatter(1, top.indices, top.values)

    return replace(victim, logits=None, probabilities=probabilities)


def one_decimal(victim: Classifier) -> Classifier:
    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        whole = (victim.probabilities(images, rng) * 10).round() / 10
        return whole / whole.sum(1, keepdim=True).clamp_min(1)

    return replace(victim, logits=None, probabilities=probabilities)


HONEST = {
    "as it is": lambda v: v,
    "without gradients": lambda v: replace(v, logits=None),
}


@pytest.mark.parametrize("defend", [one_hot, others_alike, one_decimal])
def test_whoever_withholds_is_searched_by_labels(defend: Callable[[Classifier], Classifier], tmp_path: Path) -> None:
    planted = ground(battery(tmp_path, *halves(40), attacks=ATTACKS, classes=3, train=halves(8, seed=1)))
    prepared = prepare(defend(classifier(Three(3.0), SHAPE, 3)), planted)
    assert prepared.clean.blinds is not None
    assert [prepared.needless(entry) for entry in entries(planted.battery)] == [None] * 4


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("gain", [0.3, 3.0, 8.0])
def test_whoever_tells_is_not(name: str, gain: float, tmp_path: Path) -> None:
    planted = ground(battery(tmp_path, *halves(40), attacks=ATTACKS, classes=3, train=halves(8, seed=1)))
    prepared = prepare(HONEST[name](classifier(Three(gain), SHAPE, 3)), planted)
    assert prepared.clean.blinds is None
    left_out = [entry.name for entry in entries(planted.battery) if prepared.needless(entry)]
    assert left_out == ["evolution_label", "hop_skip_jump", "hop_skip_jump_0.2"]


def test_a_needless_search_is_no_failure_and_costs_nothing(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(40), attacks=ATTACKS, classes=3, train=halves(8, seed=1))
    honest = classifier(Three(3.0), SHAPE, 3)
    run = evaluate_subject(subject(honest), planted, Execution("cpu", 1), out=tmp_path / "honest")
    assert not run.failures
    told_of = run.record.attacks["evolution_label"].fooling_ratio
    assert told_of.value is None
    assert (told_of.reason or "").startswith("not run: ")
    assert run.record.scores.robust_score.value is not None  # no row is missing
    assert [row.name for row in run.record.battery.ranked] == ["evolution"]
    titles = {cost.title for cost in estimate(subject(honest), planted, Execution("cpu", 1)).costs}
    assert titles == {"Evolution (direct encoding)"}
    assert [entry.name for entry in wanted(entries(planted))] == ["evolution"]

    blind = evaluate_subject(subject(one_hot(honest)), planted, Execution("cpu", 1), out=tmp_path / "blind")
    assert blind.record.attacks["evolution_label"].fooling_ratio.value is not None
    assert blind.record.attacks["hop_skip_jump"].tasks
    assert "withheld" in {flag.code for flag in blind.record.flags}  # the doubt stays


def test_a_battery_of_label_searches_alone_ranks_nothing_and_runs_against_everybody(tmp_path: Path) -> None:
    always = {name: {**spec, "when": "always"} for name, spec in LABELS.items()}
    planted = battery(tmp_path, *halves(40), attacks=always, classes=3, train=halves(8, seed=1))
    victim = classifier(Three(3.0), SHAPE, 3)
    run = evaluate_subject(subject(victim), planted, Execution("cpu", 1), out=tmp_path / "run")
    assert run.record.battery.ranked == []
    assert all(attack.fooling_ratio.value is not None for attack in run.record.attacks.values())
