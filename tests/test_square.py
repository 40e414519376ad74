"""Square and transfer: known answers on victims that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from foolbench.attacks.base import BlackBox, Perturb, Search
from foolbench.attacks.levels import Levels
from foolbench.attacks.projected_ascent import ProjectedAscent
from foolbench.attacks.square import Square
from foolbench.attacks.transfer import Transfer
from foolbench.bench.errors import Unexpected
from test_fgsm import TorchOracle, linear, perturb, rng
from test_projected_ascent import Net, balanced, flipped, fooled, images_and_margins
from torch import Tensor


def asked(attack: BlackBox[Perturb], task: Perturb, net: Net, rejects: bool = False) -> tuple[Tensor, Tensor]:
    """The finals, and what each task asked for."""
    oracle = TorchOracle(net, len(task.images), rejects)
    search: Search = attack.search(task, rng())
    try:
        query = next(search)
        while True:
            query = search.send(oracle.probabilities(query.images, query.owners))
    except StopIteration as finished:
        return finished.value, oracle.queries


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_on_a_linear_victim_it_finds_exactly_what_there_is(levels: int) -> None:
    weights = balanced(2)
    images, labels, radii = images_and_margins(weights, 30)
    inside = radii < levels
    assert 3 < inside.sum() < 27
    finals, queries = asked(Square(levels / 255, queries=250), perturb(images, labels), linear(weights))
    assert torch.equal(fooled(linear(weights), finals, labels), inside)
    changes = ((finals - images).abs() * 255).round()
    assert (changes == levels).all()
    assert (queries[~inside] == 250).all()
    assert (queries[inside] < 250).all()


def test_it_sees_past_a_gradient_that_points_the_wrong_way() -> None:
    """And an honest gradient finds as much in a tenth of the looks."""
    weights = balanced(2)
    images, labels, radii = images_and_margins(weights, 20)
    net, task = linear(weights), perturb(images, labels)
    misled = ProjectedAscent(4 / 255, steps=30).ascend(task, TorchOracle(flipped(net), 20), rng())
    honest = ProjectedAscent(4 / 255, steps=30).ascend(task, TorchOracle(net, 20), rng())
    seen, _ = asked(Square(4 / 255, queries=250), task, net)
    inside = radii < 4
    assert torch.equal(fooled(net, seen, labels), inside)
    assert torch.equal(fooled(net, honest, labels), inside)
    assert fooled(net, misled, labels).sum() < inside.sum() / 2


def test_rejection_is_no_success_and_saturation_no_obstacle() -> None:
    net = linear(torch.tensor([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0]]), torch.tensor([3.0, -3.0, -1.0]))
    images, labels = torch.full((1, 1, 1, 2), 76 / 255), torch.tensor([0])
    for epsilon, label in ((0.6, 1), (0.2, 0)):
        finals, _ = asked(Square(epsilon, queries=50), perturb(images, labels), net, rejects=True)
        assert net(finals).argmax() == label
    sharp = 1e3 * balanced(2)  # the label's probability is 1 on all sides
    images, labels, radii = images_and_margins(sharp, 30)
    finals, _ = asked(Square(4 / 255, queries=250), perturb(images, labels), linear(sharp))
    found = fooled(linear(sharp), finals, labels)
    assert found.sum() > 0.7 * (radii < 4).sum()
    assert not (found & (radii >= 4)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_every_candidate_is_another_one_on_the_levels_and_within_the_limit(channels: int) -> None:
    levels = Levels(17)
    images = levels.at(torch.randint(0, 17, (3, channels, 8, 8), generator=rng()))
    task = Perturb(images, torch.zeros(3, dtype=torch.int64), images, images[0], levels=levels)
    search = Square(2 / 16, queries=200).search(task, rng())
    query, best = next(search), images
    for k in range(199):
        assert torch.equal(query.images, levels.rounded(query.images))
        steps = ((query.images - images) * 16).round()
        assert int(steps.abs().max()) == 2
        assert (query.images != best).flatten(1).any(1).all()
        best = query.images.clone()
        rising = torch.tensor([0.9 - 1e-3 * k, 0.1 + 1e-3 * k]).expand(3, 2)  # so that every candidate is kept
        query = search.send(rising)
    with pytest.raises(StopIteration):
        search.send(torch.tensor([[0.9, 0.1]]).expand(3, 2))


def test_the_squares_shrink_as_the_paper_s() -> None:
    attack = Square(0.1, queries=10_000)
    sides = [attack._side(k, 100, 100) for k in (1, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert sides == [round((0.8 / 2**i * 1e4) ** 0.5) for i in (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)]
    assert Square(0.1, queries=5000)._side(4500, 4, 4) == 1
    with pytest.raises(Unexpected, match=r"epsilon in \(0, 1\]"):
        Square(8)


def test_transfer_keeps_the_first_that_fools_or_else_what_came_nearest() -> None:
    """Three versions of three images. The victim says class 1 from the level 100 on; its label is 0."""
    versions = torch.tensor([[10, 120, 5], [110, 130, 40], [120, 90, 30]]).view(3, 3, 1, 1, 1) / 255

    def net(images: Tensor) -> Tensor:
        level = images.flatten(1) * 255
        return torch.cat([torch.zeros_like(level), (level - 99.5) / 20], 1)

    images = torch.zeros(3, 1, 1, 1)
    task = replace(perturb(images, torch.zeros(3, dtype=torch.int64)), borrowed=versions)
    finals, queries = asked(Transfer(0.6), task, net)
    assert (finals.flatten() * 255).round().tolist() == [110, 120, 40]
    assert queries.tolist() == [2, 1, 3]
    for nothing in (None, versions[:0]):
        finals, queries = asked(Transfer(0.6), replace(task, borrowed=nothing), net)
        assert torch.equal(finals, images)
        assert queries.tolist() == [0, 0, 0]
