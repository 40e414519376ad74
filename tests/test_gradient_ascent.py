from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from foolbench.attacks.ascending.steps import GainControlled
from foolbench.attacks.base import Ascent, Fool, Objective
from foolbench.attacks.gradient_ascent import AdamAscent, GradientAscent
from torch import Tensor

OBJECTIVES: tuple[Literal["softmax", "logit"], ...] = ("softmax", "logit")
FAINT = (1 / 255,)


class RecordingOracle:
    """An Oracle over a differentiable function, in batches of 7, that keeps what it was asked and what it said."""

    def __init__(self, net: Callable[[Tensor], Tensor], rejects: bool = False):
        self.net, self.rejects = net, rejects
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        raise AssertionError("gradient ascent asks for gradients only")

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        raise AssertionError("gradient ascent asks for gradients only")

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        parts = []
        for rows in torch.arange(len(images)).split(7):
            x = images[rows].clone().requires_grad_()
            logits = self.net(x)
            values = objective(logits, rows)
            parts.append((logits.detach(), values.detach(), torch.autograd.grad(values.sum(), x)[0]))
        ascent = Ascent(*map(torch.cat, zip(*parts, strict=True)))
        self.asked.append((owners.clone(), images.clone(), ascent.logits))
        return ascent

    def spent(self, count: int) -> Tensor:
        return torch.bincount(torch.cat([owners for owners, _, _ in self.asked]), minlength=count)

    def certainties(self, owner: int, target: int) -> Tensor:
        """Of one image's target, step by step."""
        rows = [logits[owners == owner].softmax(1)[0, target] for owners, _, logits in self.asked if owner in owners]
        return torch.stack(rows)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(classes: int, pixels: int, scale: float, seed: int = 0) -> Callable[[Tensor], Tensor]:
    weights = scale * torch.randn((classes, pixels), generator=rng(seed))
    return lambda images: F.linear(images.flatten(1) - 0.5, weights)


def fool(classes: list[int], runs: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Fool:
    return Fool(shape, torch.tensor(classes), runs, torch.full(shape, 0.5))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("decay", "reach"), [(0.0, 0.9999), (0.01, 0.999)])
def test_linear_softmax_is_fooled_for_every_class(
    objective: Literal["softmax", "logit"], decay: float, reach: float
) -> None:
    """With decay, log-odds settle where a step's gain, -log(1 - late), makes up for what the step loses."""
    net, task = linear(10, 64, 2.0), fool(list(range(10)), 2)
    attack, oracle = GradientAscent(objective, FAINT, decay), RecordingOracle(net)
    finals = attack.ascend(task, oracle, rng())
    assert finals.shape == (2, 10, 1, 8, 8)
    assert torch.equal(finals, (finals * 255).round() / 255)
    reached = net(finals.flatten(0, 1)).softmax(1).view(2, 10, 10).diagonal(dim1=1, dim2=2)
    assert float(reached.min()) >= reach
    assert int(oracle.spent(20).max()) <= 500
    assert torch.equal(task.mean, torch.full((1, 8, 8), 0.5))
    assert torch.equal(attack.ascend(task, RecordingOracle(net), rng()), finals)
    assert not torch.equal(attack.ascend(task, RecordingOracle(net), rng(1)), finals)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gain_is_controlled(objective: Literal["softmax", "logit"]) -> None:
    """p rises by `early` a step, whatever the objective and the network's scale, then its rest shrinks by `late`."""
    for scale in (0.03, 0.1):
        oracle = RecordingOracle(linear(10, 3072, scale))
        GradientAscent(objective, FAINT, steps=120).ascend(fool([4], 1, (3, 32, 32)), oracle, rng())
        p = oracle.certainties(0, 4).double()
        assert p[:10].diff().tolist() == pytest.approx([0.03] * 9, rel=0.2)
        rest = 1 - p[(p > 0.9) & (p < 0.999)]
        assert (rest[1:] / rest[:-1]).log().mean().exp().item() == pytest.approx(0.9, abs=0.01)


def _step(objective: Literal["softmax", "logit"]) -> GainControlled:
    return GainControlled(objective, early=0.03, late=0.1, decay=0, max_rate=1)


def test_the_gain_that_is_asked_for() -> None:
    p = torch.tensor([1e-30, 0.1, 0.7, 0.99], dtype=torch.float64)
    softmax, logit = (_step(o).gain(p.log(), (-p).log1p()) for o in OBJECTIVES)
    assert softmax.tolist() == pytest.approx([0.03, 0.03, 0.03, 0.001])
    wanted = p + softmax
    assert logit.tolist() == pytest.approx(((wanted / (1 - wanted)).log() - (p / (1 - p)).log()).tolist())
    certain = torch.tensor([0.0], dtype=torch.float64), torch.tensor([-80.0], dtype=torch.float64)
    assert float(_step("logit").gain(*certain)) == pytest.approx(-torch.tensor(0.9).log().item())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_best_iterate_is_returned(objective: Literal["softmax", "logit"]) -> None:
    """On a wavy network with steps far too long, the last iterate is seldom the best."""
    first, second = torch.randn((2, 20, 64), generator=rng(3))
    net = lambda images: 3 * torch.sin(20 * F.linear(images.flatten(1), first)) @ second[:, :5]  # noqa: E731
    oracle, task = RecordingOracle(net), fool([3, 0], 2)
    finals = GradientAscent(objective, FAINT, early=0.5, steps=40).ascend(task, oracle, rng())
    late = 0
    for owner, target in enumerate([3, 0, 3, 0]):
        seen = oracle.certainties(owner, target)
        final = net(finals.flatten(0, 1)[owner : owner + 1]).softmax(1)[0, target]
        assert float(final) == pytest.approx(float(seen.max()), rel=1e-4)
        late += int(seen.argmax() < len(seen) - 1)
    assert late > 0


def test_an_image_without_gradient_is_left_as_it_is() -> None:
    oracle, task = RecordingOracle(lambda images: 0 * images.flatten(1)[:, :3]), fool([0, 2], 3)
    finals = GradientAscent("softmax", (0.1,)).ascend(task, oracle, rng())
    assert oracle.spent(6).tolist() == [1] * 6
    assert torch.equal(finals.flatten(0, 1), oracle.asked[0][1])
    assert 0.08 < float((finals - 0.5).std()) < 0.12


def dead_where_dark(images: Tensor) -> Tensor:
    """A slope only where an image is brighter than 0.6 on average, as most is dead at a mean image of 0.5."""
    bright = (images.flatten(1) - 0.6).relu()
    return 50 * torch.stack([bright[:, :32].mean(1), bright[:, 32:].mean(1)], 1)


@pytest.mark.parametrize("attack", [GradientAscent("logit", (1e-3, 0.02, 0.3), steps=60), AdamAscent((0.3,), 60, 0.05)])
def test_a_dead_start_moves_on_to_the_next_within_the_same_budget(attack: GradientAscent | AdamAscent) -> None:
    oracle, task = RecordingOracle(dead_where_dark), fool([0, 1], 2)
    finals = attack.ascend(task, oracle, rng())
    assert float(dead_where_dark(finals.flatten(0, 1)).softmax(1).gather(1, torch.tensor([[0], [1]] * 2)).min()) > 0.7
    assert int(oracle.spent(4).max()) <= 60
    spread = [images.flatten(1).std(1).mean() for _, images, _ in oracle.asked[:3]]
    if isinstance(attack, GradientAscent):
        assert spread[0] < 0.003 < spread[1] < 0.03 < 0.1 < spread[2]
        nothing = GradientAscent("logit", (1e-3, 0.02), steps=60)
        dead = RecordingOracle(dead_where_dark)
        assert torch.equal(
            nothing.ascend(task, dead, rng()), nothing.ascend(task, RecordingOracle(dead_where_dark), rng())
        )
        assert dead.spent(4).tolist() == [2] * 4  # a look at each start, and no more


def test_one_that_dies_on_its_way_starts_again_to_the_end_of_its_budget() -> None:
    """A narrow ledge: a step leads off it, to where nothing has a slope."""

    def ledge(images: Tensor) -> Tensor:
        means = images.flatten(1).mean(1)
        return torch.stack([means.clamp(0.45, 0.55), 0 * means], 1)

    oracle = RecordingOracle(ledge)
    GradientAscent("logit", (0.05,), early=0.5, late=0.9, steps=20).ascend(fool([0], 1), oracle, rng())
    assert oracle.spent(1).tolist() == [20]
    moves = torch.cat([images for _, images, _ in oracle.asked]).flatten(1).mean(1)
    assert int(((moves > 0.45) & (moves < 0.55)).sum()) == 10  # every other look is a start


def test_adam_climbs_where_the_probability_is_0() -> None:
    """Logits of thousands: p is 0 to the last bit of a double, and so is its slope. That of the log-odds is not."""
    net, task = linear(10, 64, 3000.0), fool(list(range(10)), 1)
    oracle = RecordingOracle(net)
    finals = AdamAscent((0.1,), 50, 0.05).ascend(task, oracle, rng(5))
    assert torch.equal(net(finals[0]).argmax(1), torch.arange(10))
    assert int((oracle.asked[0][2].double().softmax(1).diagonal() == 0).sum()) >= 7


def test_it_starts_from_the_likeliest_of_what_it_borrows() -> None:
    """Three images for each class and run, one of which is bright on the class's side; noise is dead everywhere."""
    task = fool([0, 1], 2)
    lent = torch.full((3, 2, 2, 1, 8, 8), 0.2)
    for run, target, place in ((0, 0, 2), (0, 1, 0), (1, 0, 1), (1, 1, 1)):
        lent[place, run, target].view(64)[32 * target : 32 * target + 32] = 0.61
    attack = AdamAscent((0.01,), steps=40, rate=0.05, asked=3, climbed=1)

    class Answering(RecordingOracle):
        def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
            self.queries += torch.bincount(owners, minlength=4)
            return self.net(images).softmax(1)

        queries = torch.zeros(4, dtype=torch.int64)

    oracle = Answering(dead_where_dark)
    finals = attack.ascend(replace(task, borrowed=lent), oracle, rng())
    assert float(dead_where_dark(finals.flatten(0, 1)).softmax(1).gather(1, torch.tensor([[0], [1]] * 2)).min()) > 0.99
    assert torch.equal(oracle.queries, torch.full((4,), 3))
    first = oracle.asked[0][1].view(2, 2, 64)
    assert torch.allclose(first[1, 1], task.levels.rounded(lent[1, 1, 1]).view(64))
    for borrowed in (None, lent[:0], lent[:, :, :].mul(0)):  # nothing, or nothing that lives: from noise, which is dead
        left = Answering(dead_where_dark)
        attack.ascend(replace(task, borrowed=borrowed), left, rng())
        assert left.spent(4).tolist() == [1 + (borrowed is not None and len(borrowed) > 0)] * 4


def test_certain_images_leave_and_zero_means_never() -> None:
    net, task = linear(10, 64, 20.0), fool([1, 2], 1)
    oracle = RecordingOracle(net)
    GradientAscent("logit", FAINT).ascend(task, oracle, rng())
    assert int(oracle.spent(2).max()) < 400
    oracle = RecordingOracle(net)
    GradientAscent("logit", FAINT, steps=300, certain=0).ascend(task, oracle, rng())
    assert oracle.spent(2).tolist() == [300, 300]


def test_decay_returns_what_the_network_does_not_see_to_the_mean() -> None:
    """After n steps the offset of an unseen pixel is `(1 - decay)^n` of the start's."""
    net = lambda images: F.pad(images[:, 0, 0, :2], (0, 0))  # noqa: E731
    oracle = RecordingOracle(net)
    GradientAscent("logit", (0.1,), decay=0.1, steps=8).ascend(fool([0], 1), oracle, rng())
    start, end = (oracle.asked[k][1][0, 0, 1:] - 0.5 for k in (0, 7))
    assert float((end - start * 0.9**7).abs().max()) < 1 / 255


def test_it_works_against_the_rejection_too() -> None:
    net, oracle = linear(4, 64, 2.0), RecordingOracle(linear(4, 64, 2.0), rejects=True)
    finals = GradientAscent("softmax", FAINT).ascend(fool([0, 1, 2], 1), oracle, rng())
    assert float(net(finals[0]).softmax(1)[:, :3].diagonal().min()) > 0.9999


def test_settings_are_checked() -> None:
    with pytest.raises(
        ValueError, match=r"expected steps >= 1, decay in \[0, 1\), early and late in \(0, 1\), got 500, 1"
    ):
        GradientAscent("logit", FAINT, decay=1)
