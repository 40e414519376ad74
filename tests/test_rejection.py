"""The rejection that every detector shares: which images it turns away, and by which threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from defense_victims import CPU, ask_logits, small_net
from detector_zoo import DETECTORS, brightness, clean, digits, noise
from foolbench.attacks.base import Perturb
from foolbench.attacks.fgsm import Fgsm
from foolbench.bench.asking.reading import hits_perturb, reading_of
from foolbench.bench.battery.ground import Asking
from foolbench.bench.running.drive import Meter
from foolbench.bench.running.oracle import DrivenOracle, drive_white_box
from foolbench.defenses.detectors.energy import energy
from foolbench.defenses.detectors.max_softmax import max_softmax
from foolbench.defenses.detectors.reject import Score, reject_when
from foolbench.defenses.detectors.threshold import CleanImages, Threshold
from foolbench.models.base import Classifier
from planted import seeded
from torch import Tensor


@pytest.mark.parametrize("rejects", [False, True])
def test_an_image_is_accepted_exactly_when_it_scores_below_the_threshold(rejects: bool):
    net, images, *_ = digits()
    inner = max_softmax(net, Threshold(0.01, 0.1)) if rejects else net
    images = torch.cat([images, noise()])
    scores = brightness(images)
    before = reading_of(inner.probabilities(images, seeded())).label
    score: Score = lambda images, answer, rng: brightness(images)  # noqa: E731
    for value in scores.sort().values[::15].tolist():  # each is the score of an image: ties
        victim = reject_when(inner, "bright", score, Threshold(value, 1e-3))
        expected = torch.where(scores < value, before, -1)
        assert torch.equal(reading_of(victim.probabilities(images, seeded())).label, expected)
        answer = ask_logits(victim, images)
        assert torch.equal(torch.where(answer[:, :-1].amax(1) > answer[:, -1], answer[:, :-1].argmax(1), -1), expected)
        assert victim.rejects


@pytest.mark.parametrize("distance", [1e3, 1e10, 1e25, 3e38, float("inf")])
@pytest.mark.parametrize("rejects", [False, True])
def test_scores_without_measure_make_no_nonsense(distance: float, rejects: bool):
    inner = small_net(rejects=rejects)
    images = noise(20)
    sign = torch.tensor([1.0, -1.0]).repeat(10)
    for spread in (1.0, 1e-30):
        victim = reject_when(
            inner, "far", lambda x, answer, rng: sign * distance * x.flatten(1)[:, 0].exp(), Threshold(0.0, spread)
        )
        probabilities = victim.probabilities(images, seeded())
        assert bool(probabilities.isfinite().all())
        assert bool((probabilities >= 0).all())
        assert bool((probabilities.sum(1) <= 1 + 1e-6).all())
        assert bool((reading_of(probabilities).label[::2] == -1).all())
        own = reading_of(inner.probabilities(images, seeded())).label
        assert torch.equal(reading_of(probabilities).label[1::2], own[1::2])
        leaf = images.clone().requires_grad_()
        answer = ask_logits(victim, leaf)
        (slope,) = torch.autograd.grad(answer.log_softmax(1)[:, 0].sum(), leaf)
        assert bool(answer.isfinite().all())
        assert bool(slope.isfinite().all()) or distance == float("inf")  # whose own derivative is NaN


def test_the_way_back_from_a_rejection_is_never_flat():
    images = torch.linspace(0, 20, 400).exp().view(-1, 1, 1, 1).expand(-1, 1, 8, 8)  # up to 5e8 spreads away
    inner = replace(small_net(), probabilities=lambda x, rng: torch.full((len(x), 4), 0.25))
    victim = reject_when(inner, "far", lambda x, answer, rng: x[:, 0, 0, 0], Threshold(0.0, 1.0))
    probabilities = victim.probabilities(images, seeded())
    assert bool((probabilities > 0).all())
    assert bool((probabilities.diff(dim=0) < 0).all())


def test_fgsm_goes_round_the_detector():
    """Pixel 0 says the class and pixel 1 a little; the detector watches pixel 1 alone."""
    weights = torch.tensor([[-20.0, 20.0], [-1.0, 1.0]])

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return (images.flatten(1) - 0.5) @ weights

    bare = Classifier((1, 1, 2), 2, CPU, lambda x, rng: logits(x, rng).softmax(1), logits)
    score: Score = lambda images, answer, rng: images[:, 0, 0, 1]  # noqa: E731
    victim = reject_when(bare, "pixel", score, Threshold(0.52, 0.1))
    image = torch.tensor([0.45, 0.5]).view(1, 1, 1, 2)
    label = reading_of(victim.probabilities(image, seeded())).label
    assert label.tolist() == [0]
    task = Perturb(image, label, image, image[0])

    def attacked(net: Classifier) -> Tensor:
        meter = Meter(1, 1, 9, 0, lambda p, owners: hits_perturb(p, label, None)[:, None], lambda *_: None, CPU)
        oracle = DrivenOracle(net, meter, seeded(), Asking(8), 1, lambda: False)
        return drive_white_box(Fgsm(0.1), task, oracle, attack_rng=seeded())

    blind, seeing = attacked(bare), attacked(victim)
    assert reading_of(bare.probabilities(blind, seeded())).label.tolist() == [1]
    assert reading_of(victim.probabilities(blind, seeded())).label.tolist() == [-1]
    assert reading_of(victim.probabilities(seeing, seeded())).label.tolist() == [1]


# the threshold


@pytest.mark.parametrize("name", DETECTORS)
def test_a_share_of_clean_images_is_rejected_and_never_more(name: str):
    inner, _, train, _ = digits()
    for share in (0.02, 0.1):
        label = reading_of(DETECTORS[name](inner, clean(share)).probabilities(train, seeded())).label
        assert int((label < 0).sum()) == int(share * len(train))


@pytest.mark.parametrize(
    ("scores", "reject", "expected"),
    [
        ([1.0, 2, 3, 4], 0.25, 3.5),
        ([1.0, 2, 3, 4], 0.24, None),
        ([1.0, 4, 4, 4], 0.5, None),
        ([1.0, 1, 1, 4], 0.5, 2.5),
    ],
)
def test_ties_reject_fewer(scores: list[float], reject: float, expected: float | None):
    threshold = CleanImages(noise(4), seeded(), reject).threshold(torch.tensor(scores))
    assert threshold.value == (float(np.nextafter(np.float32(4), np.float32(5))) if expected is None else expected)
    assert threshold.spread == pytest.approx(np.std(scores, ddof=1))
    given = CleanImages(noise(4), seeded(), reject, value=7.0).threshold(torch.tensor(scores))
    assert given == Threshold(7.0, threshold.spread)


@pytest.mark.parametrize(("reject", "expected"), [(0.29, 70.5), (0.28999, 71.5), (0.07, 92.5)])
def test_the_share_is_the_one_that_is_written(reject: float, expected: float):
    """0.29 of 100 are 29, although 0.29 * 100 is a little less in binary; 0.07 * 100 is a little more than 7."""
    assert CleanImages(noise(2), seeded(), reject).threshold(torch.arange(100.0)).value == expected


def test_neighbouring_floats_are_told_apart():
    low = torch.tensor(1.0)
    high = low.nextafter(torch.tensor(2.0))
    threshold = CleanImages(noise(2), seeded(), 0.5).threshold(torch.stack([low, high]))
    assert (torch.stack([low, high]) >= threshold.value).tolist() == [False, True]


def test_images_that_are_rejected_anyway_do_not_choose_the_threshold():
    net, _, train, _ = digits()
    inner = max_softmax(net, clean(0.5))
    kept = reading_of(inner.probabilities(train, seeded())).label >= 0
    label = reading_of(energy(inner, clean(0.1)).probabilities(train, seeded())).label
    assert int((label[kept] < 0).sum()) == int(0.1 * int(kept.sum()))
