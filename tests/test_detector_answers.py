"""What each detector is known to answer, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
import torch
from defense_victims import ask_logits
from detector_zoo import brightness, clean, digits, fitted, score_of
from foolbench.defenses.detectors.density import density
from foolbench.defenses.detectors.energy import energy
from foolbench.defenses.detectors.feature_squeezing import feature_squeezing
from foolbench.defenses.detectors.mahalanobis import mahalanobis
from foolbench.defenses.detectors.max_softmax import max_softmax
from foolbench.defenses.detectors.onnx_detector import onnx_detector
from foolbench.defenses.detectors.threshold import Threshold
from foolbench.defenses.images.pca import principal
from foolbench.models.base import Classifier
from planted import seeded
from scipy.ndimage import median_filter
from sklearn.mixture import GaussianMixture
from torch import Tensor


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


def test_a_score_without_gradient_is_a_constant_to_an_attacker():
    inner, images, *_ = digits()
    victim = onnx_detector(inner, brightness, Threshold(0.3, 0.05), name="mine.onnx")
    leaf = images.clone().requires_grad_()
    answer = ask_logits(victim, leaf)
    (slope,) = torch.autograd.grad((answer[:, -1] - answer[:, :-1].amax(1)).sum(), leaf)
    assert float(slope.abs().max()) < 1e-4
    assert victim.surrogates == ("mine.onnx",)


# what they refuse

Refused = tuple[Callable[[], object], str]


def on_digits(detector: Callable[..., Classifier], **parameters: object) -> Callable[[], Classifier]:
    return lambda: fitted(detector, **parameters)(digits()[0], clean())


def unheard_of_four() -> Classifier:
    inner, _, train, labels = digits()
    return density(inner, clean(), train[labels != 4], labels[labels != 4], seeded())


def energy_of_log_probabilities() -> Classifier:
    shy = replace(digits()[0], logits=lambda x, rng: ask_logits(digits()[0], x).log_softmax(1))
    return energy(shy, clean(), temperature=2)


WHEN_BUILT: dict[str, Refused] = {
    "no energy": (
        energy_of_log_probabilities,
        r"expected logits whose energy differs .* as of what gives probabilities",
    ),
    "one score": (
        lambda: onnx_detector(digits()[0], lambda x: torch.full((len(x),), 0.5), clean()),
        r"expected scores that differ between clean images, got 0\.5 for all 900",
    ),
    "no clean image": (
        lambda: max_softmax(max_softmax(digits()[0], Threshold(-1, 1)), clean()),
        r"expected finite scores of at least 2 .*, got 0 of 0",
    ),
    "squeezing by nothing": (
        lambda: feature_squeezing(digits()[0], clean()),
        r"expected bits or size for feature_squeezing, got neither",
    ),
    "class without images": (
        unheard_of_four,
        r"expected at least 2 training images of every class .* got 0 of class 4",
    ),
    "singular covariance": (
        on_digits(density, shrinkage=0, covariance="own", dimensions=64),
        r"expected features whose covariance can be inverted for density",
    ),
    "more components than images": (
        on_digits(density, components=901),
        r"expected at least as many training images as components .* 900 for 901",
    ),
    "more dimensions than pixels": (
        on_digits(density, dimensions=65),
        r"expected dimensions of density to be a whole number from 1 to 64",
    ),
    "dimensions of logits": (
        on_digits(mahalanobis, dimensions=3),
        r"expected no dimensions for mahalanobis of logits, got 3",
    ),
    "shrinkage above 1": (
        on_digits(mahalanobis, shrinkage=1.5),
        r"expected shrinkage of mahalanobis to be a number above 0 and at most 1",
    ),
    "no spread": (lambda: Threshold(1, 0), r"expected a finite threshold and a spread above 0, got 1 and 0"),
    "more than half": (lambda: clean(0.6), r"expected reject of a detector to be a number above 0 and at most 0\.5"),
}


@pytest.mark.parametrize("case", WHEN_BUILT)
def test_what_detectors_refuse(case: str):
    build, told = WHEN_BUILT[case]
    with pytest.raises(ValueError, match=f"^{told}"):
        build()


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (lambda x: x, r"expected the detector mine to return 200 scores, got \(200, 1, 8, 8\)"),
        (lambda x: brightness(x) / 0, r"expected the detector mine to return finite scores"),
    ],
    ids=["images", "not finite"],
)
def test_a_graph_that_gives_no_scores_is_refused_when_asked(graph: Callable[[Tensor], Tensor], told: str):
    victim = onnx_detector(digits()[0], graph, Threshold(0, 1), name="mine")
    with pytest.raises(RuntimeError, match=f"^{told}"):
        victim.probabilities(digits()[1], seeded())
