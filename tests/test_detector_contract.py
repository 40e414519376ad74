"""All defenses that reject keep the contract of defenses/checks.py, and what else they have in common."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from defense_victims import CPU, ask_logits, gradient
from detector_zoo import DETECTORS, SURROGATES, Detector, brightness, clean, digits, fitted, noise, score_of
from foolbench.bench.asking.reading import reading_of
from foolbench.defenses.checks import Example, checks_of
from foolbench.defenses.detectors.density import density
from foolbench.defenses.detectors.energy import energy
from foolbench.defenses.detectors.mahalanobis import mahalanobis
from foolbench.defenses.detectors.threshold import CleanImages, Threshold
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.models.base import Classifier
from planted import seeded
from torch import Tensor


@pytest.fixture(params=DETECTORS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def smooth(device: torch.device = CPU) -> Classifier:
    """Ten classes, without any rounding of its own, in any precision."""
    weights = seeded(1)
    first, second = torch.randn(64, 16, generator=weights) / 8, torch.randn(16, 10, generator=weights)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return torch.tanh(images.flatten(1) @ first.to(images)) @ second.to(images)

    return Classifier((1, 8, 8), 10, device, lambda x, rng: logits(x, rng).softmax(1).detach(), logits)


# alone


def test_contract(name: str):
    example = Example(
        name, lambda inner: DETECTORS[name](inner, clean(0.2)), shapes=((1, 8, 8),), classes=10, images=digits()[1][:8]
    )
    for check in checks_of(example):
        check()


def test_logits_and_probabilities_of_a_real_network_agree(name: str):
    inner, images, *_ = digits()
    images = torch.cat([images, noise()])
    for under in (inner, mahalanobis(inner, clean(0.2), *digits()[2:], seeded())):
        victim = DETECTORS[name](under, clean(0.2))
        probabilities = victim.probabilities(images, seeded())
        answer = ask_logits(victim, images)
        torch.testing.assert_close(answer.softmax(1)[:, :10], probabilities, rtol=2e-3, atol=2e-5)
        assert 0.02 < float((1 - probabilities.sum(1) > 0.5).float().mean()) < 1
        assert victim.surrogates == SURROGATES.get(name, ())


def test_far_from_the_threshold_the_answer_is_the_models_own(name: str):
    inner, images, *_ = digits()
    victim = DETECTORS[name](inner, Threshold(1e4, 1.0))
    assert torch.equal(victim.probabilities(images, seeded()), inner.probabilities(images, seeded()))


def test_a_detector_that_rejects_everything(name: str):
    inner, images, *_ = digits()
    victim = DETECTORS[name](inner, Threshold(-1e4, 1.0))
    probabilities = victim.probabilities(images, seeded())
    assert bool((reading_of(probabilities).label == -1).all())
    assert bool((probabilities.sum(1) < 1e-3).all())
    own = inner.probabilities(images, seeded()).argmax(1)
    assert torch.equal(probabilities.argmax(1), own)  # what a search still has to go by


def test_the_gradient_is_that_of_the_answer_or_declared(name: str):
    net = smooth()
    images = torch.cat([digits()[2][:3], noise(3)]) * 0.8 + 0.1
    images = images + 0.02 * torch.rand(images.shape, generator=seeded(5))  # no ties for the median
    scores = score_of(DETECTORS[name], net, images)
    # A wide spread, so that images on both sides feel the detector.
    at = Threshold(float(scores.sort().values[2:4].mean()), 3 * float(scores.std()))
    victim = DETECTORS[name](net, at)

    def wrong(images: Tensor) -> Tensor:
        return ask_logits(victim, images).log_softmax(1)[:, :9].logsumexp(1)

    leaf = images.double().requires_grad_()
    slope = torch.autograd.grad(wrong(leaf).sum(), leaf)[0]
    direction = torch.randn(images.shape, generator=seeded(4), dtype=torch.float64)
    step = 1e-6 * direction
    quotient = (wrong(images.double() + step) - wrong(images.double() - step)) / 2e-6
    expected = (slope * direction).sum((1, 2, 3))
    bare = replace(net, logits=lambda x, rng: ask_logits(net, x)[:, :9].logsumexp(1, keepdim=True))
    if name in SURROGATES:
        assert bool((slope != 0).any())
        assert not torch.allclose(quotient, expected, rtol=1e-3)
    else:
        torch.testing.assert_close(quotient, expected, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(slope.float(), gradient(bare, images), rtol=0.1)  # the detector is part of it


@pytest.mark.gpu
def test_on_a_gpu_the_same_images_are_rejected(name: str):
    images = torch.cat([digits()[1], noise()])
    # A mixture's start is drawn on the device, and so differs; that of one Gaussian does not matter.
    one = {
        "mixture": fitted(density, components=1),
        "mixture_own": fitted(density, components=1, covariance="own", dimensions=12),
    }

    def victim(device: torch.device) -> Classifier:
        at = CleanImages(digits()[2].to(device), torch.Generator(device).manual_seed(0), 0.2)
        return (DETECTORS | one)[name](smooth(device), at)

    cuda = torch.device("cuda")
    got = victim(cuda).probabilities(images.to(cuda), torch.Generator(cuda)).cpu()
    expected = victim(CPU).probabilities(images, seeded())
    assert float((reading_of(got).label == reading_of(expected).label).float().mean()) > 0.99
    torch.testing.assert_close(got, expected, rtol=5e-2, atol=1e-3)
    assert bool(gradient(victim(cuda), images.to(cuda)).isfinite().all())


# composed


@pytest.mark.parametrize("other", ["energy", "squeezing_median", "density", "onnx"])
def test_two_detectors_reject_what_either_does_in_any_order(name: str, other: str):
    inner, images, *_ = digits()
    images = torch.cat([images, noise()])
    levels = {}
    for key in (name, other):
        scores = score_of(DETECTORS[key], inner, images).float()
        levels[key] = Threshold(float(scores.quantile(0.8)) + 1e-7, float(scores.std()))
    one, two = (DETECTORS[key](inner, levels[key]) for key in (name, other))
    expected = (reading_of(one.probabilities(images, seeded())).label < 0) | (
        reading_of(two.probabilities(images, seeded())).label < 0
    )
    both = DETECTORS[name](two, levels[name])
    swapped = DETECTORS[other](one, levels[other])
    for victim in (both, swapped):
        assert torch.equal(reading_of(victim.probabilities(images, seeded())).label < 0, expected)
    torch.testing.assert_close(
        both.probabilities(images, seeded()), swapped.probabilities(images, seeded()), rtol=1e-2, atol=1e-4
    )
    assert set(both.surrogates) == set(swapped.surrogates)


def test_what_stands_before_a_detector_is_seen_by_it_and_what_stands_behind_is_not():
    inner, images, *_ = digits()
    squeezed = (images * 3).round() / 3
    at = Threshold(float(brightness(images).median()), 0.05)
    detect: Detector = DETECTORS["onnx_exact"]
    before, behind = bit_depth(detect(inner, at), bits=2), detect(bit_depth(inner, bits=2), at)
    labels = inner.probabilities(squeezed, seeded()).argmax(1)
    for victim, seen in ((before, squeezed), (behind, images)):
        expected = torch.where(brightness(seen) < at.value, labels, -1)
        assert torch.equal(reading_of(victim.probabilities(images, seeded())).label, expected)
        assert victim.surrogates == ("bit_depth",)
    assert float(gradient(before, images).abs().max()) > 0


def test_score_and_answer_are_of_one_draw():
    inner, images, *_ = digits()
    noisy = gaussian_noise(inner, sigma=0.2)
    for kind in ("energy", "max_softmax", "mahalanobis", "squeezing_median"):
        victim = DETECTORS[kind](noisy, clean(0.3))
        assert victim.randomised
        probabilities = victim.probabilities(images, seeded(7))
        answer = ask_logits(victim, images, seed=7).softmax(1)
        torch.testing.assert_close(answer[:, :10], probabilities, rtol=2e-3, atol=2e-5)
        assert not torch.equal(probabilities, victim.probabilities(images, seeded(8)))
    one, again = (energy(noisy, clean(0.3)).probabilities(images, seeded(1)) for _ in range(2))
    assert torch.equal(one, again)


def test_a_model_without_logits_is_rejected_by_its_probabilities_or_its_images():
    net, images, *_ = digits()
    inner = replace(net, logits=None, no_gradient="a forest has none")
    for kind in ("max_softmax", "squeezing", "density", "onnx"):
        victim = DETECTORS[kind](inner, clean(0.1))
        assert victim.logits is None
        assert victim.no_gradient == "a forest has none"
        expected = DETECTORS[kind](net, clean(0.1)).probabilities(images, seeded())
        torch.testing.assert_close(victim.probabilities(images, seeded()), expected, rtol=1e-3, atol=1e-5)
    for kind in ("energy", "density_logits", "mahalanobis"):
        with pytest.raises(ValueError, match=r"^expected a model with logits for .*\(a forest has none\): use "):
            DETECTORS[kind](inner, clean(0.1))
