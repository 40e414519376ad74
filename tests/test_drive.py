"""The driver: who is charged what, what the victim sees, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from foolbench.attacks.base import Fool, Oracle, Perturb, Query, Search
from foolbench.bench.asking.answers import checked_answers
from foolbench.bench.asking.reading import hits_fool
from foolbench.bench.battery.ground import Asking
from foolbench.bench.errors import ModelFailure, OverBudget
from foolbench.bench.running.drive import Meter, Stopped, drive_black_box
from foolbench.bench.running.oracle import DrivenOracle, drive_white_box
from foolbench.models.base import Classifier
from foolbench.models.levels import rounded
from planted import CPU, classifier, left_or_right, meter, seeded
from torch import Tensor

SHAPE = (1, 2, 2)


def watched(answer: Callable[[Tensor], Tensor], classes: int = 2) -> tuple[Classifier, list[Tensor]]:
    """A victim that answers by a function of its images and keeps what it was asked."""
    seen: list[Tensor] = []

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        seen.append(images.clone())
        return answer(images)

    return Classifier(SHAPE, classes, CPU, probabilities, None), seen


def brightness(images: Tensor) -> Tensor:
    """Class 1 with the probability of the first pixel."""
    p = images[:, 0, 0, 0]
    return torch.stack([1 - p, p], 1)


def bright(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, *SHAPE).clone()


def owners(*which: int) -> Tensor:
    return torch.tensor(which)


@dataclass(frozen=True)
class Script:
    """Asks what it is told to and returns the answers, stacked; `kept` is what the finals are made of."""

    queries: tuple[Query, ...]

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        answered = []
        for query in self.queries:
            answered.append((yield query))
        return torch.cat(answered)


def task(count: int) -> Perturb:
    images = torch.zeros(count, *SHAPE)
    return Perturb(images, torch.zeros(count, dtype=torch.int64), images, images[0])


def drive(
    victim: Classifier, counted: Meter, *queries: Query, batch: int = 4, stop: Callable[[], bool] = lambda: False
) -> Tensor:
    return drive_black_box(
        Script(queries),
        task(counted.owners),
        victim,
        counted,
        attack_rng=seeded(),
        victim_rng=seeded(1),
        how=Asking(batch),
        stop=stop,
    )


def test_queries_are_counted_to_their_owners() -> None:
    victim, seen = watched(brightness)
    counted = meter(3, setup=10)
    first = Query(bright(*[0.1] * 7), owners(2, -1, 0, 2, 2, -1, 0))
    drive(victim, counted, first, Query(bright(0.2, 0.3), owners(0, -1)))
    assert counted.spent.tolist() == [3, 0, 3]
    assert (counted.setup, counted.queries, counted.gradients) == (3, 9, 0)
    assert sum(len(images) for images in seen) == 9


def test_the_first_success_is_numbered_in_each_owner_s_own_order() -> None:
    victim, _ = watched(brightness)

    def hit(probabilities: Tensor, owners: Tensor) -> Tensor:
        return (probabilities[:, 1] > 0.5).unsqueeze(1)

    counted = meter(4, setup=10, hit=hit)
    #                           owner  2    0    -1   2    1    0    2
    drive(victim, counted, Query(bright(0.1, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9), owners(2, 0, -1, 2, 1, 0, 2)))
    assert counted.first.tolist() == [[1], [-1], [2], [-1]]
    drive(victim, counted, Query(bright(0.1, 0.1, 0.9, 0.9, 0.9), owners(1, 3, 1, 0, 1)))
    assert counted.first.tolist() == [[1], [3], [2], [-1]]  # owner 1 asked once before, so this is its third; 0 keeps 1
    assert counted.fooled == 3
    assert counted.spent.tolist() == [3, 4, 3, 1]


def test_the_same_names_again_are_counted_again_and_other_names_in_the_same_tensor_are_noticed() -> None:
    counted = meter(3, setup=10)
    names = owners(1, 0, 1)
    assert counted.charge(names).tolist() == [1, 1, 2]
    assert counted.charge(names).tolist() == [3, 2, 4]
    names[:] = owners(2, 0, -1)
    assert counted.charge(names)[:2].tolist() == [1, 3]
    assert counted.spent.tolist() == [3, 4, 1]
    assert counted.setup == 1


def test_one_query_can_fool_several_tasks_of_its_run() -> None:
    table = torch.tensor([[0.6, 0.1, 0.1], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]])
    victim, _ = watched(lambda images: table[(images[:, 0, 0, 0] * 255).round().long()], classes=3)
    targets = torch.tensor([2, 0])
    counted = meter(2, per_owner=2, hit=lambda p, o: hits_fool(p, targets, 0.7))
    drive(victim, counted, Query(bright(0, 1 / 255, 1 / 255, 2 / 255), owners(1, 1, 0, 1)))
    assert counted.first.tolist() == [[1, -1], [2, 3]]


def test_the_victim_sees_eight_bits_in_small_batches() -> None:
    victim, seen = watched(brightness)
    wild = torch.rand(11, *SHAPE, generator=seeded())
    wild[0], wild[1], wild[2] = 0.7 / 255, 1.0000001, -1e-9
    kept = wild.clone()
    answered = drive(victim, meter(1), Query(wild, torch.zeros(11, dtype=torch.int64)), batch=4)
    assert torch.equal(wild, kept)
    assert [len(images) for images in seen] == [4, 4, 3]
    asked = torch.cat(seen)
    assert torch.equal(asked, torch.from_numpy((wild.numpy() * 255).round().clip(0, 255)) / 255)
    assert float(asked[0, 0, 0, 0]) == torch.tensor(1 / 255)
    assert torch.equal(answered, brightness(asked))  # in the order of the images


def test_rounding_keeps_what_is_a_gray_level_already() -> None:
    exact = torch.arange(256, dtype=torch.uint8).float() / 255
    assert torch.equal(rounded(exact), exact)


def test_a_budget_is_enforced_before_the_question_is_put() -> None:
    victim, seen = watched(brightness)
    counted = meter(2, budget=3, setup=1)
    drive(victim, counted, Query(bright(0, 0, 0, 0), owners(0, 0, 0, 1)), Query(bright(0), owners(-1)))
    asked = len(seen)
    with pytest.raises(OverBudget, match=r"a task to ask at most 3 .* asked for 4"):
        drive(victim, counted, Query(bright(0, 0), owners(1, 0)))
    with pytest.raises(OverBudget, match=r"its set-up to ask at most 1 .* asked for 2"):
        drive(victim, counted, Query(bright(0, 0), owners(1, -1)))
    assert len(seen) == asked
    assert (counted.spent.tolist(), counted.setup, counted.queries) == ([3, 1], 1, 5)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (Query(bright(0, 0, 0), owners(0)), "n owners, got \\(3, 1, 2, 2\\) and \\(1,\\)"),
        (Query(bright(0), owners(0, 0)), "n owners"),
        (Query(bright(), owners()), "n at least 1"),
        (Query(torch.zeros(1, 1, 3, 3), owners(0)), "images of the task's shape"),
        (Query(bright(0), owners(2)), "expected owners below 2, got 2"),
    ],
)
def test_an_attack_is_held_to_its_protocol(query: Query, told: str) -> None:
    victim, seen = watched(brightness)
    with pytest.raises(ValueError, match=told):
        drive(victim, meter(2), query)
    assert seen == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda images: torch.full((len(images), 2), torch.nan), "FB300.*3 rows with NaN"),
        (lambda images: torch.full((len(images), 2), 0.51), "FB300.*sum to up to 1.02"),
        (lambda images: torch.tensor([[1.2, -0.2]]).repeat(len(images), 1), "FB300.*entries from -0.2"),
        (lambda images: torch.full((len(images), 2), torch.inf), "FB300"),
        (lambda images: images.flatten(1) @ torch.zeros(3, 2), "FB301.*3 images.*RuntimeError"),
        (lambda images: 1 / 0, "FB301.*ZeroDivisionError: division by zero"),
    ],
)
def test_a_victim_that_talks_nonsense_is_a_model_failure(answer: Callable, told: str) -> None:
    victim, _ = watched(answer)
    with pytest.raises(ModelFailure, match=told):
        drive(victim, meter(3), Query(bright(0, 0, 0), owners(0, 1, 2)))


def test_rejecting_and_rounding_are_not_nonsense() -> None:
    victim, _ = watched(lambda images: torch.tensor([[0.1, 0.2], [0.0, 0.0], [0.5, 0.5000001]]))
    assert torch.equal(checked_answers(victim, bright(0, 0, 0), seeded(), Asking(4))[1], torch.zeros(2))


def test_a_stop_is_heeded_between_two_queries() -> None:
    victim, seen = watched(brightness)
    orders: Iterator[bool] = iter([False, True])
    with pytest.raises(Stopped):
        drive(victim, meter(1), *[Query(bright(0), owners(0))] * 3, stop=lambda: next(orders))
    assert len(seen) == 1


def test_progress_is_told_of_every_batch() -> None:
    victim, _ = watched(brightness)
    told = []
    counted = meter(2, hit=lambda p, o: (p[:, 1] > 0.5).unsqueeze(1))
    counted.tick = lambda asked, fooled: told.append((asked, fooled))
    drive(victim, counted, Query(bright(0, 0.9, 0), owners(0, 1, 1)), Query(bright(0.9), owners(0)))
    assert told == [(3, 1), (1, 2)]


# White box


@dataclass(frozen=True)
class Climb:
    """Two gradients and a query for each image; returns the gradients."""

    def ascend(self, task: Fool, oracle: Oracle, rng: torch.Generator) -> Tensor:
        images = torch.rand(5, 1, 8, 8, generator=rng)
        mine = torch.tensor([4, 0, 3, 1, 2])
        scale = torch.arange(1.0, 6.0)
        oracle.probabilities(images, mine)
        first = oracle.gradient(images, mine, lambda logits, rows: scale[rows] * logits[:, 0])
        second = oracle.gradient(images[:2], mine[:2], lambda logits, rows: logits[:, 1])
        assert torch.equal(second.gradients, -first.gradients[:2] / scale[:2, None, None, None])
        assert first.values.shape == (5,)
        assert not first.logits.requires_grad
        return first.gradients


def oracle(victim: Classifier, counted: Meter, draws: int = 1) -> DrivenOracle:
    return DrivenOracle(victim, counted, seeded(1), Asking(2), draws, lambda: False)


def test_gradients_are_counted_like_queries_and_keep_their_rows_when_cut_up() -> None:
    net = left_or_right()
    counted = meter(5, budget=3)
    finals = drive_white_box(
        Climb(), None, oracle(classifier(net, (1, 8, 8), 2), counted), attack_rng=seeded()
    )  # in batches of two
    weight = net.weight[0].view(1, 8, 8)
    assert torch.allclose(finals, torch.arange(1.0, 6.0).view(5, 1, 1, 1) * weight)
    assert counted.spent.tolist() == [3, 2, 2, 2, 3]
    assert (counted.queries, counted.gradients, counted.setup) == (5, 7, 0)
    with pytest.raises(OverBudget, match="at most 2"):
        drive_white_box(Climb(), None, oracle(classifier(net, (1, 8, 8), 2), meter(5, budget=2)), attack_rng=seeded())


def test_the_oracle_rounds_what_it_asks_and_what_it_differentiates() -> None:
    net, seen = left_or_right(), []
    victim = classifier(net, (1, 8, 8), 2)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        seen.append(images.detach().clone())
        return net(images)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return logits(images, rng).softmax(1)

    asked = oracle(replace(victim, probabilities=probabilities, logits=logits), meter(1))
    images = torch.full((1, 1, 8, 8), 0.3001)
    asked.probabilities(images, owners(0))
    asked.gradient(images, owners(0), lambda logits, rows: logits[:, 0])
    assert torch.equal(seen[0], rounded(images))
    assert torch.equal(seen[1], rounded(images))


def test_gradients_of_a_randomised_victim_are_averaged() -> None:
    """Its logits are those of a linear network times a random factor of mean 1 and variance 1."""
    net = left_or_right()

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return net(images) * (1 + torch.randn(len(images), 1, generator=rng))

    victim = replace(classifier(net, (1, 8, 8), 2), logits=logits)
    images, some = torch.rand(200, 1, 8, 8, generator=seeded()), torch.arange(200)

    def factors(draws: int) -> Tensor:
        counted = meter(200)
        found = oracle(victim, counted, draws).gradient(images, some, lambda logits, rows: logits[:, 0])
        assert counted.gradients == 200
        return found.gradients[:, 0, 0, 0] / net.weight[0, 0]

    one, many = factors(1), factors(16)
    assert float(one.var()) == pytest.approx(1, rel=0.3)
    assert float(many.var()) == pytest.approx(1 / 16, rel=0.3)
    assert float(many.mean()) == pytest.approx(1, abs=0.06)


def test_logits_that_are_nan_are_a_model_failure_and_gradients_that_are_nan_vanish() -> None:
    victim = classifier(left_or_right(), (1, 8, 8), 2)
    images = torch.zeros(1, 1, 8, 8)
    bad = replace(victim, logits=lambda images, rng: images.flatten(1)[:, :2] * torch.nan)
    with pytest.raises(ModelFailure, match="FB300"):
        oracle(bad, meter(1)).gradient(images, owners(0), lambda logits, rows: logits[:, 0])
    kinked = replace(victim, logits=lambda images, rng: images.flatten(1)[:, :2].sqrt())  # of 0: slope 0 × inf
    found = oracle(kinked, meter(1)).gradient(images, owners(0), lambda logits, rows: 0 * logits[:, 0])
    assert torch.equal(found.gradients, torch.zeros_like(images))


def test_a_network_whose_gradient_is_an_expanded_view() -> None:
    """Sums over columns have one: autograd hands out a tensor that cannot be written to."""
    columns = replace(
        classifier(left_or_right(), (1, 8, 8), 2), logits=lambda images, rng: images.sum((2, 3)) * torch.ones(2)
    )
    found = oracle(columns, meter(1)).gradient(torch.zeros(1, 1, 8, 8), owners(0), lambda logits, rows: logits[:, 0])
    assert torch.equal(found.gradients, torch.ones(1, 1, 8, 8))


def test_a_white_box_hears_what_a_black_box_hears() -> None:
    """Behind logits that stand in for votes, and never abstain as those do."""
    victim = replace(classifier(left_or_right(), (1, 8, 8), 2), probabilities=lambda x, rng: torch.zeros(len(x), 2))
    counted = meter(3, budget=1)
    heard = oracle(victim, counted).probabilities(torch.rand(3, 1, 8, 8, generator=seeded()), torch.arange(3))
    assert torch.equal(heard, torch.zeros(3, 2))
    assert (counted.queries, counted.gradients, counted.fooled) == (3, 0, 0)
