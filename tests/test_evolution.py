"""The two evolutionary attacks and their two controls, stepped by hand and against toy victims."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from foolbench.attacks.base import BlackBox, Fool
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.evolution import Evolution
from foolbench.attacks.noise import Noise
from foolbench.attacks.random_cppn import RandomCppn
from torch import Tensor

Victim = Callable[[Tensor], Tensor]
ALL = [Evolution, Cppn, Noise, RandomCppn]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fool(shape: tuple[int, int, int] = (1, 8, 8), targets: Sequence[int] = range(10), runs: int = 2) -> Fool:
    return Fool(shape=shape, targets=torch.tensor(list(targets)), runs=runs, mean=torch.full(shape, 0.5))


class Told(NamedTuple):
    """A search as seen from outside: every image with what it was told, by run, and the finals."""

    images: Tensor  # (runs, queries, c, h, w)
    answers: Tensor  # (runs, queries, K)
    finals: Tensor


def drive(attack: BlackBox[Fool], task: Fool, victim: Victim, seed: int = 0) -> Told:
    search = attack.search(task, generator(seed))
    images, answers = [], []
    query = next(search)
    while True:
        count = len(query.images) // task.runs
        assert query.owners.tolist() == [run for run in range(task.runs) for _ in range(count)]
        assert query.images.shape[1:] == task.shape
        assert query.images.dtype == torch.float32
        assert query.images.min() >= 0
        assert query.images.max() <= 1
        answer = victim((query.images * 255).round() / 255)
        images.append(query.images.view(task.runs, count, *task.shape).clone())
        answers.append(answer.view(task.runs, count, -1))
        try:
            query = search.send(answer)
        except StopIteration as stop:
            return Told(torch.cat(images, 1), torch.cat(answers, 1), stop.value)


def linear(shape: tuple[int, int, int], classes: int = 10, scale: float = 1.0) -> Victim:
    weights = torch.randn(shape[0] * shape[1] * shape[2], classes, generator=generator(99)) * scale
    return lambda images: ((images.flatten(1) - 0.5) @ weights).softmax(1)


def generations_until(told: Told, targets: Tensor, level: float, children: int) -> Tensor:
    """`(runs, k)`: the generation, from 1, that first reaches `level`; one more than there were where none does."""
    reached = told.answers[:, :, targets].cummax(1).values >= level
    return (~reached).sum(1) // children + 1


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_contract(attack, channels):
    shape = (channels, 6, 5)
    task, victim = fool(shape, targets=[7, 2, 4], runs=3), linear(shape)
    targets, mean = task.targets.clone(), task.mean.clone()
    chosen = attack(children=20, generations=9)
    told = drive(chosen, task, victim, seed=1)

    assert told.images.shape == (3, 180, *shape)  # the budget, exactly
    # What is returned is, bit for bit, the first of the images that each class was most sure of.
    best = told.answers[:, :, task.targets].argmax(1)
    expected = torch.stack([images[rows] for images, rows in zip(told.images, best, strict=True)])
    assert torch.equal(told.finals, expected)

    assert torch.equal(task.targets, targets)
    assert torch.equal(task.mean, mean)
    again, other = drive(chosen, task, victim, seed=1), drive(chosen, task, victim, seed=2)
    assert torch.equal(again.images, told.images)
    assert torch.equal(again.finals, told.finals)
    assert not torch.equal(other.images[:, :20], told.images[:, :20])
    assert not torch.equal(told.images[0], told.images[1])


@pytest.mark.parametrize("attack", ALL)
def test_fields_and_shapes_are_checked(attack):
    with pytest.raises(ValueError, match="expected generations of at least 1, got 0: raise it"):
        attack(generations=0)
    if attack is not Noise:
        with pytest.raises(ValueError, match="expected images of 1 or 3 channels, got 2"):
            next(attack(generations=1).search(fool((2, 4, 4)), generator()))


def nothing_but_the_first(images: Tensor) -> Tensor:
    """A victim that is equally sure of all images: the first one asked holds every cell for ever."""
    return torch.full((len(images), 10), 0.1)


@pytest.mark.parametrize(("attack", "still"), [(Evolution, {"mutation_rate": 0.0}), (Cppn, None)])
def test_at_rate_zero_children_are_their_parents(attack, still):
    rates = still or dict.fromkeys(
        ["weight_rate", "activation_rate", "add_connection", "delete_connection", "add_node", "delete_node"], 0.0
    )
    told = drive(attack(children=8, generations=3, **rates), fool(), nothing_but_the_first)
    torch.testing.assert_close(told.images[:, 8:], told.finals[:, :1].expand(-1, 16, -1, -1, -1), atol=1e-5, rtol=0)
    if attack is Evolution:
        assert torch.equal(told.images[:, 8:], told.finals[:, :1].expand(-1, 16, -1, -1, -1))


def test_mutation_rate_is_halved_every_so_many_generations():
    told = drive(Evolution(children=50, generations=9, halve_every=3), fool((1, 20, 20), runs=1), nothing_but_the_first)
    changed = (told.images != told.finals[:, :1]).float().view(9, -1).mean(1)[1:]
    expected = torch.tensor([0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025])
    assert ((changed - expected).abs() < 5 * (expected / 20_000).sqrt()).all()


def test_random_cppns_are_as_intricate_as_asked():
    flat = drive(RandomCppn(children=300, generations=1, mutations=0), fool(runs=1), nothing_but_the_first)
    rich = drive(RandomCppn(children=300, generations=1, mutations=10), fool(runs=1), nothing_but_the_first)
    assert not torch.equal(flat.images, rich.images)
    with pytest.raises(ValueError, match="expected mutations of at least 0, got -1"):
        RandomCppn(generations=1, mutations=-1)


def test_evolution_beats_noise_on_a_linear_victim():
    task = fool(runs=3)
    victim = linear(task.shape, scale=0.5)
    evolved = drive(Evolution(generations=60), task, victim).answers.amax(1)
    noise = drive(Noise(generations=60), task, victim).answers.amax(1)
    assert evolved.min() > 0.99
    assert noise.max() < 0.99
    assert noise.median() < 0.9


def stripe_lover(images: Tensor) -> Tensor:
    """Sure of class 1 as far as the image correlates, at any phase, with vertical stripes four pixels wide a pair."""
    width = images.shape[-1]
    phase = torch.arange(width) * (torch.pi / 2)
    stripes = torch.stack([phase.sin(), phase.cos()]).repeat_interleave(width, 0).view(2, -1)
    stripes = stripes / stripes.norm(dim=1, keepdim=True)
    flat = images.flatten(1) - images.flatten(1).mean(1, keepdim=True)
    correlation = (flat @ stripes.T).norm(dim=1) / flat.norm(dim=1).clamp_min(1e-6)
    sure = torch.sigmoid(20 * (correlation - 0.5))
    return torch.stack([1 - sure, sure], 1)


def test_cppn_finds_planted_stripes_long_before_evolution():
    task = fool((1, 28, 28), targets=[0, 1], runs=5)
    targets = task.targets
    cppn = drive(Cppn(generations=60), task, stripe_lover)
    evolution = drive(Evolution(generations=60), task, stripe_lover)
    found = generations_until(cppn, targets, 0.9, 200)[:, 1]
    assert (found <= 30).all()
    assert (generations_until(evolution, targets, 0.9, 200)[:, 1] > 60).all()
    assert evolution.answers[:, :, 1].max() < 0.6


@pytest.fixture(scope="module")
def digits_net() -> Victim:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images, classes = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    first, second = (torch.randn(64, width, generator=generator(3)) / 8 for width in (64, 10))
    weights = [first, torch.zeros(64), second]
    speed = [torch.zeros_like(weight) for weight in weights]

    def logits(images: Tensor) -> Tensor:
        return (images.flatten(1) @ weights[0] + weights[1]).relu() @ weights[2]

    for weight in weights:
        weight.requires_grad_()
    for _ in range(600):  # momentum by hand: torch.optim takes seconds to import
        slopes = torch.autograd.grad(torch.nn.functional.cross_entropy(logits(images), classes), weights)
        with torch.no_grad():
            for weight, slope, drift in zip(weights, slopes, speed, strict=True):
                weight -= 0.1 * drift.mul_(0.9).add_(slope)
    assert (logits(images).argmax(1) == classes).float().mean() > 0.99
    return lambda images: logits(images).softmax(1).detach()


@pytest.mark.parametrize("attack", [Evolution, Cppn])
def test_every_digit_of_a_real_net_is_fooled(attack, digits_net):
    told = drive(attack(generations=250), fool(runs=2), digits_net)
    assert told.answers.shape[1] == 50_000
    reached = told.answers.amax(1) > 0.999
    assert reached.any(0).all()
    assert reached.sum() >= (20 if attack is Evolution else 18)
    # Nguyen 2015: images at 99.99% for every MNIST digit in fewer than 50 generations.
    assert generations_until(told, torch.arange(10), 0.9999, 200).float().median() < 50
