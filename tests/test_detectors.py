"""What every defense that rejects has in common, and what each is known to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
import torch
from defense_victims import CPU, ask_logits, gradient, small_net
from foolbench.attacks.base import Perturb
from foolbench.attacks.fgsm import Fgsm
from foolbench.bench.assemble import panel_classifier
from foolbench.bench.battery import read_battery
from foolbench.bench.drive import Meter
from foolbench.bench.fitting import training_images
from foolbench.bench.judge import hits_perturb, read
from foolbench.bench.oracle import DrivenOracle, drive_white_box
from foolbench.defenses import (
    bit_depth,
    density,
    energy,
    feature_squeezing,
    gaussian_noise,
    mahalanobis,
    max_softmax,
    onnx_detector,
)
from foolbench.defenses.pca import principal
from foolbench.defenses.reject import SLOPE, Score, reject_when
from foolbench.defenses.threshold import Clean, Threshold
from foolbench.models.base import Classifier
from scipy.ndimage import median_filter
from sklearn.mixture import GaussianMixture
from torch import Tensor

At = Threshold | Clean
Detector = Callable[[Classifier, At], Classifier]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def digits() -> tuple[Classifier, Tensor, Tensor, Tensor]:
    """LeNet-5 on the digits; evaluation images, training images and their labels."""
    battery = read_battery("digits-v1")
    data = battery.load()
    return panel_classifier(battery, "lenet-a", data, CPU), data.pixels(CPU), *training_images(battery, 900)


def noise(n: int = 100, seed: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), generator=seeded(seed)).float() / 255


def clean(reject: float = 0.05) -> Clean:
    return Clean(digits()[2], seeded(), reject)


def fitted(detector: Callable[..., Classifier], **parameters: object) -> Detector:
    return lambda inner, at: detector(inner, at, *digits()[2:], seeded(), **parameters)


def brightness(images: Tensor) -> Tensor:
    return images.flatten(1).mean(1)


DETECTORS: dict[str, Detector] = {
    "max_softmax": max_softmax,
    "max_softmax_hot": lambda inner, at: max_softmax(inner, at, temperature=10),
    "energy": energy,
    "squeezing_bits": lambda inner, at: feature_squeezing(inner, at, bits=1),
    "squeezing_median": lambda inner, at: feature_squeezing(inner, at, size=2),
    "squeezing": lambda inner, at: feature_squeezing(inner, at, bits=2, size=3),
    "density": fitted(density),
    "density_own": fitted(density, covariance="own", shrinkage=0.2, dimensions=12),
    "density_logits": fitted(density, features="logits"),
    "mixture": fitted(density, components=5),
    "mixture_own": fitted(density, components=5, covariance="own", dimensions=12),
    "mahalanobis": fitted(mahalanobis),
    "mahalanobis_pixels": fitted(mahalanobis, features="pixels"),
    "onnx_exact": lambda inner, at: onnx_detector(inner, brightness, at, brightness),
    "onnx": lambda inner, at: onnx_detector(inner, brightness, at),
}
SURROGATES = {"squeezing_bits": ("feature_squeezing",), "squeezing": ("feature_squeezing",), "onnx": ("onnx",)}


@pytest.fixture(params=DETECTORS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def score_of(detector: Detector, inner: Classifier, images: Tensor) -> Tensor:
    """The scores, read back from the logits of a rejection."""
    answer = ask_logits(detector(inner, Threshold(0.0, 1.0)), images).double()
    odds = answer[:, -1] - answer[:, :-1].amax(1)
    return torch.where(odds > 0, (odds - 0.01).expm1(), odds + 0.01) / SLOPE


# the rejection itself


@pytest.mark.parametrize("rejects", [False, True])
def test_an_image_is_accepted_exactly_when_it_scores_below_the_threshold(rejects: bool):
    net, images, *_ = digits()
    inner = max_softmax(net, Threshold(0.01, 0.1)) if rejects else net
    images = torch.cat([images, noise()])
    scores = brightness(images)
    before = read(inner.probabilities(images, seeded())).label
    score: Score = lambda images, answer, rng: brightness(images)  # noqa: E731
    for value in scores.sort().values[::15].tolist():  # each is the score of an image: ties
        victim = reject_when(inner, "bright", score, Threshold(value, 1e-3))
        expected = torch.where(scores < value, before, -1)
        assert torch.equal(read(victim.probabilities(images, seeded())).label, expected)
        answer = ask_logits(victim, images)
        assert torch.equal(torch.where(answer[:, :-1].amax(1) > answer[:, -1], answer[:, :-1].argmax(1), -1), expected)
        assert victim.rejects


def test_a_share_of_clean_images_is_rejected_and_never_more(name: str):
    inner, _, train, _ = digits()
    for share in (0.02, 0.1):
        label = read(DETECTORS[name](inner, clean(share)).probabilities(train, seeded())).label
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
    threshold = Clean(noise(4), seeded(), reject).threshold(torch.tensor(scores))
    assert threshold.value == (float(np.nextafter(np.float32(4), np.float32(5))) if expected is None else expected)
    assert threshold.spread == pytest.approx(np.std(scores, ddof=1))
    given = Clean(noise(4), seeded(), reject, value=7.0).threshold(torch.tensor(scores))
    assert given == Threshold(7.0, threshold.spread)


@pytest.mark.parametrize(("reject", "expected"), [(0.29, 70.5), (0.28999, 71.5), (0.07, 92.5)])
def test_the_share_is_the_one_that_is_written(reject: float, expected: float):
    """0.29 of 100 are 29, although 0.29 * 100 is a little less in binary; 0.07 * 100 is a little more than 7."""
    assert Clean(noise(2), seeded(), reject).threshold(torch.arange(100.0)).value == expected


def test_neighbouring_floats_are_told_apart():
    low = torch.tensor(1.0)
    high = low.nextafter(torch.tensor(2.0))
    threshold = Clean(noise(2), seeded(), 0.5).threshold(torch.stack([low, high]))
    assert (torch.stack([low, high]) >= threshold.value).tolist() == [False, True]


def test_images_that_are_rejected_anyway_do_not_choose_the_threshold():
    net, _, train, _ = digits()
    inner = max_softmax(net, clean(0.5))
    kept = read(inner.probabilities(train, seeded())).label >= 0
    label = read(energy(inner, clean(0.1)).probabilities(train, seeded())).label
    assert int((label[kept] < 0).sum()) == int(0.1 * int(kept.sum()))


# the contract


def test_logits_and_probabilities_agree(name: str):
    inner, images, *_ = digits()
    images = torch.cat([images, noise()])
    for under in (inner, mahalanobis(inner, clean(0.2), *digits()[2:], seeded())):
        victim = DETECTORS[name](under, clean(0.2))
        probabilities = victim.probabilities(images.clone().requires_grad_(), seeded())
        assert not probabilities.requires_grad
        assert probabilities.dtype == torch.float32
        answer = ask_logits(victim, images)
        assert answer.shape == (len(images), 11)
        torch.testing.assert_close(answer.softmax(1)[:, :10], probabilities, rtol=2e-3, atol=2e-5)
        assert 0.02 < float((1 - probabilities.sum(1) > 0.5).float().mean()) < 1
        assert victim.surrogates == SURROGATES.get(name, ())
        assert (victim.shape, victim.classes, victim.device) == (inner.shape, inner.classes, inner.device)


def test_far_from_the_threshold_the_answer_is_the_models_own(name: str):
    inner, images, *_ = digits()
    victim = DETECTORS[name](inner, Threshold(1e4, 1.0))
    assert torch.equal(victim.probabilities(images, seeded()), inner.probabilities(images, seeded()))


def test_a_detector_that_rejects_everything(name: str):
    inner, images, *_ = digits()
    victim = DETECTORS[name](inner, Threshold(-1e4, 1.0))
    probabilities = victim.probabilities(images, seeded())
    assert bool((read(probabilities).label == -1).all())
    assert bool((probabilities.sum(1) < 1e-3).all())
    own = inner.probabilities(images, seeded()).argmax(1)
    assert torch.equal(probabilities.argmax(1), own)  # what a search still has to go by


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
        assert bool((read(probabilities).label[::2] == -1).all())
        own = read(inner.probabilities(images, seeded())).label
        assert torch.equal(read(probabilities).label[1::2], own[1::2])
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


def test_the_gradient_is_that_of_the_answer_or_declared(name: str):
    net = small_net(k=10)
    images = torch.cat([digits()[2][:3], noise(3)]) * 0.8 + 0.1
    images = images + 0.02 * torch.rand(images.shape, generator=seeded(5))  # no ties for the median
    weights = seeded(1)
    first, second = torch.randn(64, 16, generator=weights) / 8, torch.randn(16, 10, generator=weights)

    def any_precision(images: Tensor, rng: torch.Generator) -> Tensor:
        return torch.tanh(images.flatten(1) @ first.to(images.dtype)) @ second.to(images.dtype)

    net = replace(net, logits=any_precision, probabilities=lambda x, rng: any_precision(x, rng).softmax(1).detach())
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
    bare = replace(net, logits=lambda x, rng: any_precision(x, rng)[:, :9].logsumexp(1, keepdim=True))
    if name in SURROGATES:
        assert bool((slope != 0).any())
        assert not torch.allclose(quotient, expected, rtol=1e-3)
    else:
        torch.testing.assert_close(quotient, expected, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(slope.float(), gradient(bare, images), rtol=0.1)  # the detector is part of it


def test_a_score_without_gradient_is_a_constant_to_an_attacker():
    inner, images, *_ = digits()
    victim = onnx_detector(inner, brightness, Threshold(0.3, 0.05), name="mine.onnx")
    leaf = images.clone().requires_grad_()
    answer = ask_logits(victim, leaf)
    (slope,) = torch.autograd.grad((answer[:, -1] - answer[:, :-1].amax(1)).sum(), leaf)
    assert float(slope.abs().max()) < 1e-4
    assert victim.surrogates == ("mine.onnx",)


# composition


@pytest.mark.parametrize("other", ["energy", "squeezing_median", "density", "onnx"])
def test_two_detectors_reject_what_either_does_in_any_order(name: str, other: str):
    inner, images, *_ = digits()
    images = torch.cat([images, noise()])
    levels = {}
    for key in (name, other):
        scores = score_of(DETECTORS[key], inner, images).float()
        levels[key] = Threshold(float(scores.quantile(0.8)) + 1e-7, float(scores.std()))
    one, two = (DETECTORS[key](inner, levels[key]) for key in (name, other))
    expected = (read(one.probabilities(images, seeded())).label < 0) | (
        read(two.probabilities(images, seeded())).label < 0
    )
    both = DETECTORS[name](two, levels[name])
    swapped = DETECTORS[other](one, levels[other])
    for victim in (both, swapped):
        assert torch.equal(read(victim.probabilities(images, seeded())).label < 0, expected)
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
        assert torch.equal(read(victim.probabilities(images, seeded())).label, expected)
        assert victim.surrogates == ("bit_depth",)
    assert float(gradient(before, images).abs().max()) > 0


def test_score_and_answer_are_of_one_draw():
    inner, images, *_ = digits()
    noisy = gaussian_noise(inner, sigma=0.2)
    for name in ("energy", "max_softmax", "mahalanobis", "squeezing_median"):
        victim = DETECTORS[name](noisy, clean(0.3))
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
    for name in ("max_softmax", "squeezing", "density", "onnx"):
        victim = DETECTORS[name](inner, clean(0.1))
        assert victim.logits is None
        assert victim.no_gradient == "a forest has none"
        expected = DETECTORS[name](net, clean(0.1)).probabilities(images, seeded())
        torch.testing.assert_close(victim.probabilities(images, seeded()), expected, rtol=1e-3, atol=1e-5)
    for name in ("energy", "density_logits", "mahalanobis"):
        with pytest.raises(ValueError, match=r"^expected a model with logits for .*\(a forest has none\): use "):
            DETECTORS[name](inner, clean(0.1))


# known answers


def test_softmax_and_energy_scores():
    inner, images, *_ = digits()
    z = ask_logits(inner, images).double().numpy()
    for t in (1.0, 10.0):
        expected = 1 - scipy.special.softmax(z / t, axis=1).max(1)
        got = score_of(lambda inner, at, t=t: max_softmax(inner, at, t), inner, images)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        got = score_of(lambda inner, at, t=t: energy(inner, at, t), inner, images)
        expected = -t * np.log(np.exp(z / t).sum(1))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_the_squeezing_score_is_the_larger_l1_distance():
    inner, images, *_ = digits()
    pixels = images.numpy()
    smoothed = torch.from_numpy(median_filter(pixels, size=(1, 1, 2, 2), mode="reflect"))
    own, coarse, smooth = (ask_logits(inner, x).softmax(1) for x in (images, (images * 3).round() / 3, smoothed))
    expected = torch.maximum((own - coarse).abs().sum(1), (own - smooth).abs().sum(1))
    got = score_of(lambda inner, at: feature_squeezing(inner, at, bits=2, size=2), inner, images)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert float(got.max()) > 0.1


@pytest.mark.parametrize("covariance", ["tied", "own"])
def test_the_density_of_classes_is_scipys(covariance: str):
    inner, images, train, labels = digits()
    mean, directions = principal(train, 6)
    x, new = ((part.flatten(1) - mean) @ directions.T for part in (train, images))
    x, new, y = x.double().numpy(), new.double().numpy(), labels.numpy()
    covariances = [np.cov(x[y == k].T, bias=True) for k in range(10)]
    if covariance == "tied":
        covariances = [np.average(covariances, axis=0, weights=np.bincount(y))] * 10
    shrunk = [0.7 * c + 0.3 * np.trace(c) / 6 * np.eye(6) for c in covariances]
    means = [x[y == k].mean(0) for k in range(10)]
    logs = np.stack(
        [np.log((y == k).mean()) + scipy.stats.multivariate_normal(means[k], shrunk[k]).logpdf(new) for k in range(10)]
    )
    detect = fitted(density, dimensions=6, covariance=covariance, shrinkage=0.3)
    np.testing.assert_allclose(score_of(detect, inner, images), -logs.max(0), rtol=1e-3, atol=1e-3)
    if covariance == "tied":
        inverse = np.linalg.inv(shrunk[0])
        distances = [
            min(scipy.spatial.distance.mahalanobis(point, mean, inverse) ** 2 for mean in means) for point in new[:50]
        ]
        detect = fitted(mahalanobis, features="pixels", dimensions=6, shrinkage=0.3)
        np.testing.assert_allclose(score_of(detect, inner, images[:50]), distances, rtol=1e-3)


@pytest.mark.parametrize(("covariance", "kind"), [("tied", "tied"), ("own", "full")])
def test_the_density_of_a_mixture_is_scikit_learns(covariance: str, kind: str):
    inner, images, train, _ = digits()
    x, new = (ask_logits(inner, part).double().numpy() for part in (train, images))
    seed = int(torch.randint(2**31 - 1, (), generator=seeded()))
    model = GaussianMixture(
        3, covariance_type=kind, reg_covar=0.05 * x.var(0).mean(), max_iter=200, random_state=seed
    ).fit(x)
    detect = fitted(density, features="logits", components=3, covariance=covariance, shrinkage=0.05)
    np.testing.assert_allclose(score_of(detect, inner, images), -model.score_samples(new), rtol=1e-3, atol=1e-3)


def test_fgsm_goes_round_the_detector():
    """Pixel 0 says the class and pixel 1 a little; the detector watches pixel 1 alone."""
    weights = torch.tensor([[-20.0, 20.0], [-1.0, 1.0]])

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return (images.flatten(1) - 0.5) @ weights

    bare = Classifier((1, 1, 2), 2, CPU, lambda x, rng: logits(x, rng).softmax(1), logits)
    score: Score = lambda images, answer, rng: images[:, 0, 0, 1]  # noqa: E731
    victim = reject_when(bare, "pixel", score, Threshold(0.52, 0.1))
    image = torch.tensor([0.45, 0.5]).view(1, 1, 1, 2)
    label = read(victim.probabilities(image, seeded())).label
    assert label.tolist() == [0]
    task = Perturb(image, label, image, image[0])

    def attacked(net: Classifier) -> Tensor:
        meter = Meter(1, 1, 9, 0, lambda p, owners: hits_perturb(p, label, None)[:, None], lambda *_: None, CPU)
        oracle = DrivenOracle(net, meter, seeded(), 8, 1, lambda: False)
        return drive_white_box(Fgsm(0.1), task, oracle, attack_rng=seeded())

    blind, seeing = attacked(bare), attacked(victim)
    assert read(bare.probabilities(blind, seeded())).label.tolist() == [1]
    assert read(victim.probabilities(blind, seeded())).label.tolist() == [-1]
    assert read(victim.probabilities(seeing, seeded())).label.tolist() == [1]


# what they refuse


def test_what_detectors_refuse():
    inner, _, train, labels = digits()
    shy = replace(inner, logits=lambda x, rng: ask_logits(inner, x).log_softmax(1))
    with pytest.raises(ValueError, match=r"^expected logits whose energy differs .* as of what gives probabilities"):
        energy(shy, clean(), temperature=2)
    with pytest.raises(ValueError, match=r"^expected scores that differ between clean images, got 0\.5 for all 900"):
        onnx_detector(inner, lambda x: torch.full((len(x),), 0.5), clean())
    with pytest.raises(ValueError, match=r"^expected finite scores of at least 2 .*, got 0 of 0"):
        max_softmax(max_softmax(inner, Threshold(-1, 1)), clean())
    with pytest.raises(ValueError, match=r"^expected bits or size for feature_squeezing, got neither"):
        feature_squeezing(inner, clean())
    with pytest.raises(ValueError, match=r"^expected at least 2 training images of every class .* got 0 of class 4"):
        density(inner, clean(), train[labels != 4], labels[labels != 4], seeded())
    with pytest.raises(ValueError, match=r"^expected features whose covariance can be inverted for density"):
        density(inner, clean(), train, labels, seeded(), shrinkage=0, covariance="own", dimensions=64)
    with pytest.raises(ValueError, match=r"^expected at least as many training images as components .* 900 for 901"):
        density(inner, clean(), train, labels, seeded(), components=901)
    with pytest.raises(ValueError, match=r"^expected dimensions of density to be a whole number from 1 to 64"):
        density(inner, clean(), train, labels, seeded(), dimensions=65)
    with pytest.raises(ValueError, match=r"^expected no dimensions for mahalanobis of logits, got 3"):
        mahalanobis(inner, clean(), train, labels, seeded(), dimensions=3)
    with pytest.raises(ValueError, match=r"^expected shrinkage of mahalanobis to be a number above 0 and at most 1"):
        mahalanobis(inner, clean(), train, labels, seeded(), shrinkage=1.5)
    with pytest.raises(ValueError, match=r"^expected a finite threshold and a spread above 0, got 1 and 0"):
        Threshold(1, 0)
    with pytest.raises(ValueError, match=r"^expected reject of a detector to be a number above 0 and at most 0\.5"):
        clean(0.6)
    for graph, message in (
        (lambda x: x, r"^expected the detector mine to return 200 scores, got \(200, 1, 8, 8\)"),
        (lambda x: brightness(x) / 0, r"^expected the detector mine to return finite scores"),
    ):
        victim = onnx_detector(inner, graph, Threshold(0, 1), name="mine")
        with pytest.raises(RuntimeError, match=message):
            victim.probabilities(digits()[1], seeded())


@pytest.mark.gpu
def test_on_a_gpu_the_same_images_are_rejected(name: str):
    images = torch.cat([digits()[1], noise()])
    weights = seeded(1)
    first, second = torch.randn(64, 16, generator=weights) / 8, torch.randn(16, 10, generator=weights)

    def victim(device: torch.device) -> Classifier:
        def logits(images: Tensor, rng: torch.Generator) -> Tensor:
            return torch.tanh(images.flatten(1) @ first.to(device)) @ second.to(device)

        net = Classifier((1, 8, 8), 10, device, lambda x, rng: logits(x, rng).softmax(1).detach(), logits)
        _, _, train, labels = digits()
        rng = torch.Generator(device).manual_seed(0)
        at = Clean(train.to(device), rng, 0.2)
        kinds: dict[str, Callable[[], Classifier]] = {
            "mixture": lambda: density(net, at, train, labels, rng, components=1),
            "density": lambda: density(net, at, train, labels, rng),
            "density_logits": lambda: density(net, at, train, labels, rng, features="logits"),
            "mahalanobis": lambda: mahalanobis(net, at, train, labels, rng),
        }
        return kinds[name]() if name in kinds else DETECTORS[name](net, at)

    if name in ("density_own", "mixture_own", "mahalanobis_pixels"):
        pytest.skip("fitted to what lies on the CPU, like the others of its kind")
    cuda = torch.device("cuda")
    got = victim(cuda).probabilities(images.to(cuda), torch.Generator(cuda)).cpu()
    expected = victim(CPU).probabilities(images, seeded())
    assert float((read(got).label == read(expected).label).float().mean()) > 0.99
    torch.testing.assert_close(got, expected, rtol=5e-2, atol=1e-3)
    assert bool(gradient(victim(cuda), images.to(cuda)).isfinite().all())
