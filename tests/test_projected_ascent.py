"""Projected gradient ascent: what it must find is known in closed form, or planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foolbench.attacks.ascending.losses import Aim, objective_of
from foolbench.attacks.ascending.schedule import checkpoints
from foolbench.attacks.fgsm import Fgsm
from foolbench.attacks.projected_ascent import ProjectedAscent
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Ground
from foolbench.bench.battery.panel import wanted
from foolbench.bench.errors import Unexpected
from foolbench.bench.evaluation.attack_panel import panel_member
from foolbench.bench.machine.memory import Memory
from foolbench.bench.running.prepared import Prepared, prepare
from foolbench.bench.running.progress import Silent
from foolbench.bench.running.run import run_entries
from foolbench.bench.running.shards import ShardResult
from foolbench.bench.scores.attack_results import Mode, attack_results
from planted import battery, classifier, ground, halves, left_or_right
from small_linf import SMALL_LINF
from test_fgsm import TorchOracle, linear, perturb, rng
from torch import Tensor

Net = Callable[[Tensor], Tensor]


class StandIn(TorchOracle):
    """Gradients and logits of one net, answers of another."""

    def __init__(self, net: Net, truth: Net, tasks: int, rejects: bool = False):
        super().__init__(net, tasks, rejects)
        self.truth = TorchOracle(truth, tasks, rejects)

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        self.queries += torch.bincount(owners, minlength=len(self.queries))
        return self.truth.probabilities(images, owners)


def balanced(classes: int) -> Tensor:
    """Weights `(classes, 16)` to which plain gray of any level says nothing."""
    weights = torch.randn((classes, 16), generator=rng())
    return weights - weights.mean(1, keepdim=True)


def images_and_margins(weights: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images that no ε below 100 levels takes to the border of [0, 1], their labels, and the smallest change of all
    pixels, in gray levels, at which each is about to become another class: the least of margin over L1 norm."""
    images = torch.randint(100, 156, (count, 1, 4, 4), generator=rng()) / 255
    scores = images.flatten(1).double() @ weights.double().T
    labels = scores.argmax(1)
    gaps = scores.gather(1, labels[:, None]) - scores
    lengths = (weights[labels][:, None] - weights).double().abs().sum(2)
    radii = (gaps / lengths).scatter(1, labels[:, None], torch.inf).amin(1) * 255
    return images, labels, radii


def fooled(net: Net, finals: Tensor, labels: Tensor) -> Tensor:
    return net(finals).argmax(1) != labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_on_a_linear_victim_it_finds_exactly_what_there_is(classes: int, levels: int) -> None:
    weights = balanced(classes)
    images, labels, radii = images_and_margins(weights, 30)
    inside = radii < levels
    assert 3 < inside.sum() < 27
    net, oracle = linear(weights), TorchOracle(linear(weights), 30)
    attack = ProjectedAscent(levels / 255, steps=12, aims=classes - 1)
    finals = attack.ascend(perturb(images, labels), oracle, rng())
    assert torch.equal(fooled(net, finals, labels), inside)
    assert torch.equal(finals, (finals * 255).round() / 255)
    assert int(((finals - images).abs() * 255).round().max()) <= levels
    runs = 2 + classes - 1
    assert (oracle.gradients[~inside] == 12 * runs).all()
    assert int((oracle.gradients + oracle.queries).max()) <= attack.most_spent == runs * 25


def test_the_schedule_is_the_paper_s() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_losses_by_hand() -> None:
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0]])
    row, label = torch.tensor([0]), torch.tensor([0])

    def value(loss: str, aim: Aim, factor: float = 1.0) -> float:
        return float(objective_of(loss, aim)(logits * factor, row))  # type: ignore[arg-type]

    away = Aim(label, None, False, rejects=False)
    assert value("dlr", away) == pytest.approx((3 - 5) / (5 - 1))
    assert value("dlr", away, 1000.0) == pytest.approx(-0.5)
    assert value("probability", away) == pytest.approx(float(logits.log_softmax(1)[:, 1:].logsumexp(1)))
    assert value("dlr", away._replace(classes=torch.tensor([2]))) == pytest.approx((1 - 5) / (5 - 1))
    # With the last column the rejection, it is no class to be taken for, and one more to win over.
    rejecting = Aim(torch.tensor([1]), None, False, rejects=True)
    assert value("dlr", rejecting) == pytest.approx((5 - 3) / (5 - 1))
    turned = Aim(label, torch.tensor([1]), False, rejects=True)
    logits = torch.tensor([[2.0, 3.0, 1.0, 4.0]])
    assert value("dlr", turned) == pytest.approx((3 - 4) / (4 - 2))
    assert value("probability", turned) == pytest.approx(float(logits.log_softmax(1)[0, 1]))


def test_rejection_is_no_success() -> None:
    """Pixel 0 leads to rejection, steeply; pixel 1 to the other class, which is out of reach behind a smaller ε."""
    net = linear(torch.tensor([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0]]), torch.tensor([3.0, -3.0, -1.0]))
    images, labels = torch.full((1, 1, 1, 2), 76 / 255), torch.tensor([0])
    rejected = images + torch.tensor([0.5, 0.0])
    assert net(rejected).argmax() == 2
    for epsilon, label in ((0.5, 1), (0.2, 0)):
        finals = ProjectedAscent(epsilon, steps=10).ascend(
            perturb(images, labels), TorchOracle(net, 1, rejects=True), rng()
        )
        assert net(finals).argmax() == label


def flipped(net: Net) -> Net:
    """The same values with the gradient turned round."""
    return lambda images: net(2 * images.detach() - images)


def dead(net: Net) -> Net:
    return lambda images: net(images.detach()) + 0 * images.flatten(1).sum(1, keepdim=True)


def not_a_number(net: Net) -> Net:
    """The same values; the gradient is that of a root at 0, times 0."""
    return lambda images: net(images.detach()) + (images - images.detach()).abs().sqrt().flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("blind", [dead, not_a_number])
def test_without_a_gradient_it_still_moves(blind: Callable[[Net], Net]) -> None:
    """One pixel decides, and half of all corners of the ball are on its good side."""
    weights = torch.zeros((2, 16))
    weights[1, 5] = 10.0
    images, labels = torch.full((20, 1, 4, 4), 100 / 255), torch.zeros(20, dtype=torch.int64)
    net = linear(weights, torch.tensor([10 * 105 / 255, 0.0]))
    assert not fooled(net, images, labels).any()
    task = perturb(images, labels)
    finals = ProjectedAscent(8 / 255, steps=12).ascend(task, TorchOracle(blind(net), 20), rng())
    assert fooled(net, finals, labels).all()
    assert torch.isfinite(finals).all()
    assert not fooled(net, Fgsm(8 / 255).ascend(task, TorchOracle(dead(net), 20), rng()), labels).any()


def test_only_the_victim_s_own_answers_count() -> None:
    """A stand-in that gives way too early, and one that never does: both point the right way."""
    weights = balanced(2)
    images, labels, radii = images_and_margins(weights, 30)
    inside = radii < 4
    truth = linear(weights)
    for shift in (0.3, -1e3):
        towards = torch.zeros((30, 2)).scatter_(1, 1 - labels[:, None], shift)
        task = perturb(images, labels)
        for i in range(30):  # one by one, since the stand-in leans another way for each
            one = replace(task, images=images[i : i + 1], labels=labels[i : i + 1])

            def leaning(x: Tensor, by: Tensor = towards[i]) -> Tensor:
                return truth(x) + by

            finals = ProjectedAscent(4 / 255, steps=6).ascend(one, StandIn(leaning, truth, 1), rng())
            assert bool(fooled(truth, finals, one.labels)) is bool(inside[i])


def test_starts_at_random_come_from_the_seed_alone() -> None:
    """On a victim whose gradient is flipped, where a run ends depends on where it starts."""
    weights = balanced(3)
    images, labels, _ = images_and_margins(weights, 10)

    def ran(seed: int) -> Tensor:
        oracle = TorchOracle(flipped(linear(weights)), 10)
        attack = ProjectedAscent(3 / 255, steps=8, restarts=2)
        return attack.ascend(perturb(images, labels), oracle, torch.Generator().manual_seed(seed))

    assert torch.equal(ran(0), ran(0))
    assert not torch.equal(ran(0), ran(1))


def test_settings_are_checked() -> None:
    with pytest.raises(Unexpected, match=r"expected epsilon in \(0, 1\], got 8"):
        ProjectedAscent(8)
    with pytest.raises(Unexpected, match="steps of at least 2"):
        ProjectedAscent(0.1, steps=1)
    task = perturb(torch.zeros(1, 1, 1, 1), torch.tensor([0]))
    with pytest.raises(Unexpected, match="a task with targets"):
        ProjectedAscent(0.1, targeted=True).ascend(task, TorchOracle(linear(torch.eye(2)[:, :1]), 1), rng())


# In a battery


def worked(prepared: Prepared, group: str) -> dict[str, ShardResult]:
    plan = [entry for entry in entries(prepared.ground.battery) if entry.group in ("fgsm", group)]
    found = run_entries(prepared, plan, folder=None, determined_by={}, workers=1, progress=Silent())
    return {name: result for name, result in found.items() if isinstance(result, ShardResult)}


def test_on_a_digits_network_it_fools_all_that_one_step_does_and_more() -> None:
    read = read_battery("digits-v1", tier="smoke")
    given = Ground(read, read.load(), torch.device("cpu"), Memory())
    assert read.spec.panel is not None
    prepared = prepare(panel_member(given, read.spec.panel.models[0]).classifier, given)
    found = worked(prepared, "projected_ascent")
    more = []
    for suffix in ("_1_16", "_2_16", "", "_4_16", "_5_16"):
        step, ascent = found[f"fgsm{suffix}"].fooled, found[f"projected_ascent{suffix}"].fooled
        assert (ascent | ~step).all()
        more.append(int(ascent.sum() - step.sum()))
    assert more[0] > 0
    assert more[1] > 5


def test_everybody_to_one_class(tmp_path: Path) -> None:
    """Images of that class, or taken for it beforehand, are neither attacked nor counted."""
    made = battery(tmp_path, *halves(8), attacks={"projected_ascent": SMALL_LINF["projected_ascent"]})
    given = ground(made)
    victim = classifier(left_or_right(), (1, 8, 8), 2)
    prepared = Prepared(given, victim, examine(victim, given), None)
    found = worked(prepared, "projected_ascent")
    everywhere = found["projected_ascent_everywhere"]
    assert np.array_equal(everywhere.attacked, np.arange(8) % 2 == 0)
    results = attack_results(entries(made), found, prepared.clean, Mode(True, None, 0))
    ratio = results["projected_ascent"].variants["projected_ascent_everywhere"].fooling_ratio
    assert (ratio.k, ratio.n) == (4, 4)  # ε = 0.2 is more than half of the halves' difference
    assert (everywhere.label[everywhere.attacked] == 1).all()


def test_a_class_that_there_is_not_is_refused(tmp_path: Path) -> None:
    changed = SMALL_LINF["projected_ascent"] | {"everywhere": {"target": 2}}
    with pytest.raises(Exception, match="a class from 0 to 1"):
        battery(tmp_path, *halves(8), attacks={"projected_ascent": changed})


def test_the_panel_is_asked_for_ascents_at_every_level_and_for_none_of_what_looks_at_others() -> None:
    names = {entry.name for entry in wanted(entries(read_battery("digits-v1")))}
    assert {f"projected_ascent{at}" for at in ("", "_1_16", "_2_16", "_4_16", "_5_16")} <= names
    assert not [name for name in names if name.startswith(("transfer", "square"))]
