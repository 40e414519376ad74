"""Finite differences find the gradient of victims that show probabilities alone, and keep their budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foolbench.attacks.entry import FiniteDifferences
from foolbench.bench.asking.expectation import expected
from foolbench.bench.battery.ground import Asking, Execution
from foolbench.bench.errors import InvalidInput
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.running.finite_difference import FiniteDifferenceOracle
from foolbench.models.levels import rounded
from planted import (
    CPU,
    Linear,
    battery,
    classifier,
    flag_codes,
    halves,
    left_or_right,
    linear_onnx,
    meter,
    seeded,
    small,
    subject,
)
from torch import Tensor

SHAPE = (1, 4, 4)
FINITE = {"queries": 200, "step": "16/255"}


def wrong(labels: Tensor):
    """FGSM's objective: log of the wrong classes' summed probability; the last column is a rejection."""

    def objective(logits: Tensor, rows: Tensor) -> Tensor:
        own = torch.nn.functional.one_hot(labels[rows], 3).bool()
        return logits.log_softmax(1)[:, :3].masked_fill(own, -torch.inf).logsumexp(1)

    return objective


@pytest.mark.parametrize(("queries", "spent", "right"), [(33, 33, 1.0), (32, 31, 0.6), (20_001, 33, 1.0)])
def test_the_sign_of_the_gradient(queries: int, spent: int, right: float) -> None:
    """Of an image of 16 pixels: each by itself where 2·16 + 1 queries are granted, else along random directions."""
    weight = torch.randn(4, 16, generator=seeded(1))
    victim = classifier(Linear(weight), SHAPE, 3, rejects=True)
    images = rounded(torch.rand(5, *SHAPE, generator=seeded(2)))
    images[0, 0, 0], images[1, 0, 1] = 0.0, 1.0  # there the difference is one-sided
    labels = victim.probabilities(images, seeded()).argmax(1)
    counter, how = meter(9, budget=queries), FiniteDifferences(queries, 2 / 255)
    owners = torch.tensor([8, 1, 3, 4, 6])
    oracle = FiniteDifferenceOracle(
        replace(victim, logits=None), counter, owners, how, seeded(), seeded(), Asking(64), lambda: False
    )
    found = oracle.gradient(images, torch.arange(5), wrong(labels))
    leaf = images.clone().requires_grad_()
    assert victim.logits is not None
    true = wrong(labels)(victim.logits(leaf, seeded()), torch.arange(5))
    (slope,) = torch.autograd.grad(true.sum(), leaf)
    assert found.values == pytest.approx(true.detach(), abs=1e-4)
    assert (found.gradients.sign() == slope.sign()).float().mean() >= right
    if right == 1:
        assert found.gradients == pytest.approx(slope, rel=0.05, abs=0.02)
    assert counter.spent[owners].tolist() == [spent] * 5
    assert counter.spent.sum() == counter.queries == 5 * spent
    assert (counter.first == -1).all()


def test_random_directions_average_to_the_gradient() -> None:
    victim = classifier(Linear(torch.randn(4, 16, generator=seeded(1))), SHAPE, 3, rejects=True)
    images = rounded(torch.rand(2, *SHAPE, generator=seeded(2)))
    labels = torch.tensor([0, 1])

    class Forced(FiniteDifferenceOracle):
        def _by_coordinate(self, images: Tensor) -> bool:
            return False

    how = FiniteDifferences(20_001, 2 / 255)
    oracle = Forced(
        victim, meter(2, budget=20_001), torch.arange(2), how, seeded(), seeded(), Asking(256), lambda: False
    )
    found = oracle.gradient(images, torch.arange(2), wrong(labels)).gradients
    leaf = images.clone().requires_grad_()
    assert victim.logits is not None
    (slope,) = torch.autograd.grad(wrong(labels)(victim.logits(leaf, seeded()), torch.arange(2)).sum(), leaf)
    assert (found - slope).abs().max() < 0.1 * slope.abs().max()


def test_fgsm_runs_along_finite_differences_as_along_a_gradient(tmp_path: Path) -> None:
    """A linear victim without logits: each FGSM image is the very one that the gradient gives. No panel is needed."""
    plain = classifier(Linear(torch.randn(2, 64, generator=seeded(3)) * 0.3), (1, 8, 8), 2)
    blind = replace(plain, logits=None, no_gradient="planted")
    images, labels = halves(8)
    attacks = small(fgsm={"finite": FINITE}, gradient_ascent={})
    planted = battery(tmp_path, images, labels, attacks=attacks)
    seeing = evaluate_subject(subject(plain), planted, Execution("cpu"), out=tmp_path / "seeing").record.attacks
    made = evaluate_subject(subject(blind), planted, Execution("cpu"), out=tmp_path / "blind")
    found = made.record.attacks
    assert (seeing["fgsm"].mode, found["fgsm"].mode) == ("gradient", "surrogate")
    assert found["gradient_ascent"].fooling_ratio.value is None  # too many steps to pay for: the panel alone
    for name, variant in seeing["fgsm"].variants.items():
        assert found["fgsm"].variants[name].fooling_ratio == variant.fooling_ratio, name
    assert [row.label for row in found["fgsm"].tasks] == [row.label for row in seeing["fgsm"].tasks]
    assert {row.spent for row in found["fgsm"].tasks} == {2 * 64 + 1 + 1}
    assert found["fgsm"].budget == 201
    assert found["fgsm"].gradients == 0
    assert found["fgsm"].mode_reason == (
        "planted; the attack along finite differences (at most 200 queries an image) stands in"
    )
    assert "surrogate" in flag_codes(made.record)


def test_the_better_of_panel_and_finite_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One panel model is useless, so that all images are stepped; the victim's twin leaves nothing to do."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blind = replace(classifier(left_or_right(), (1, 8, 8), 2), logits=None, no_gradient="planted")
    turned = Linear(left_or_right().weight.view(2, 8, 8).transpose(1, 2).flatten(1))
    images, labels = halves(8)
    for name, net, spent in (("turned", turned, {1 + 129 + 1}), ("twin", left_or_right(), {1})):
        folder = tmp_path / name
        folder.mkdir()
        planted = battery(
            folder,
            images,
            labels,
            attacks=small(fgsm={"finite": FINITE, "curve": []}),
            panel={"models": [linear_onnx(folder, name, net)]},
        )
        fgsm = evaluate_subject(subject(blind), planted, Execution("cpu"), out=folder / "run").record.attacks["fgsm"]
        assert fgsm.fooling_ratio.value == 1
        assert {row.spent for row in fgsm.tasks} == spent
        assert fgsm.budget == 1 + 200 + 1
        smallest = fgsm.variants["fgsm_smallest"]
        assert smallest.fooling_ratio.value == 1
        assert smallest.median_size is not None
        assert smallest.median_size < 0.2


@pytest.mark.parametrize("step", ["0.5/255", 0.01, 0, "8.5/255"])
def test_a_step_that_is_no_gray_level_is_refused(tmp_path: Path, step: float | str) -> None:
    with pytest.raises(InvalidInput, match=r"attacks\.fgsm\.finite.*whole gray levels"):
        battery(tmp_path, *halves(4), attacks=small(fgsm={"finite": {"queries": 100, "step": step}}))


def test_a_randomised_victim_is_searched_in_the_mean() -> None:
    noisy = classifier(left_or_right(), (1, 8, 8), 2, noise=2.0)
    images = torch.from_numpy(halves(6)[0]) / 255
    mean = expected(noisy, 400)
    probabilities = mean.probabilities(images, seeded())
    many = torch.stack([noisy.probabilities(images, rng) for rng in [seeded(1)] for _ in range(400)]).mean(0)
    assert (probabilities - many).abs().max() < 0.1
    assert mean.logits is not None
    with torch.no_grad():
        assert (mean.logits(images, seeded()).softmax(1) - many).abs().max() < 0.1
    assert noisy.logits is not None
    leaf = images.clone().requires_grad_()
    assert torch.equal(mean.logits(leaf, seeded()), noisy.logits(leaf, seeded()))  # one draw: the driver averages
    assert mean.device == CPU
