"""What the blurring, denoising and projecting defenses, ensembles and packages are known to answer."""

import itertools
import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from defense_victims import CPU, Defense, ask_logits, gradient, pixels, seeded, small_net, through
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Ground
from foolbench.bench.errors import Failed
from foolbench.bench.submission.defenses import Defense as Spec
from foolbench.bench.victim.assemble import panel_classifier
from foolbench.bench.victim.defended import Cached, defended
from foolbench.bench.victim.fitting import training_images
from foolbench.defenses.ensemble import ensemble
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_blur import gaussian_blur
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.images.pca import pca
from foolbench.defenses.images.random_resize_pad import random_resize_pad
from foolbench.defenses.images.total_variation import total_variation
from foolbench.defenses.packaged import packaged
from foolbench.defenses.randomized_smoothing import randomized_smoothing
from foolbench.models.base import Classifier
from planted import ground
from pydantic import TypeAdapter
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional as F

# blur


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.0, 7.5])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14)])
def test_gaussian_blur_is_scipys(shape: tuple[int, int, int], sigma: float):
    images = pixels(shape)
    expected = scipy.ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=4)
    blurred = through(lambda inner: gaussian_blur(inner, sigma), images)
    np.testing.assert_allclose(blurred.numpy(), expected, rtol=0, atol=1e-6)


def test_a_white_image_stays_white_and_keeps_its_whole_gradient():
    for defense in (lambda inner: gaussian_blur(inner, 1.3), lambda inner: total_variation(inner, 0.2)):
        white = torch.ones(1, 1, 8, 8)
        assert torch.equal(through(defense, white), white)
        total = replace(small_net(), logits=lambda x, rng: x.sum((1, 2, 3))[:, None])
        # all weights of a weighted mean, wherever they go; and a denoised image has the mean of the given one
        assert float(gradient(defense(total), white).sum()) == pytest.approx(64, rel=1e-5)


# total variation


def chambolle(image: np.ndarray, weight: float, updates: int) -> np.ndarray:
    """The iteration as scikit-image's documentation and its source have it, for one channel in double precision."""
    p, g, out = np.zeros((2, *image.shape)), np.zeros((2, *image.shape)), image
    for _ in range(updates):
        g[0, :-1], g[1, :, :-1] = np.diff(out, axis=0), np.diff(out, axis=1)
        p = (p - g / 4) / (1 + np.sqrt((g**2).sum(0)) / (4 * weight))
        d = -p.sum(0)
        d[1:] += p[0, :-1]
        d[:, 1:] += p[1, :, :-1]
        out = image + d
    return out


def energy(z: Tensor, x: Tensor, weight: float) -> Tensor:
    dy, dx = F.pad(z.diff(dim=-2), (0, 0, 0, 1)), F.pad(z.diff(dim=-1), (0, 1))
    return ((z - x) ** 2).sum((1, 2, 3)) / 2 + weight * torch.sqrt(dy**2 + dx**2).sum((1, 2, 3))


@pytest.mark.parametrize("weight", [0.02, 0.1, 1.0])
def test_total_variation_is_chambolles_projection_of_each_channel(weight: float):
    images = pixels((3, 9, 14))
    expected = [[chambolle(channel, weight, 30) for channel in image] for image in images.double().numpy()]
    denoised = through(lambda inner: total_variation(inner, weight, 30), images)
    np.testing.assert_allclose(denoised.numpy(), np.clip(expected, 0, 1), rtol=0, atol=1e-5)


def test_total_variation_ends_at_the_minimum():
    images = pixels((1, 8, 8)).double()
    denoised = through(lambda inner: total_variation(inner, 0.15, 500), images)
    least = energy(denoised, images, 0.15)
    assert bool((least < 0.8 * energy(images, images, 0.15)).all())
    for seed in range(20):
        step = 0.01 * torch.randn(images.shape, generator=seeded(seed), dtype=torch.float64)
        assert bool((energy(denoised + step, images, 0.15) > least).all())
    torch.testing.assert_close(denoised.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=1e-9)


# principal components


@pytest.mark.parametrize(("images", "components"), [(200, 12), (30, 12), (200, 64)])
def test_pca_is_scikit_learns_reconstruction(images: int, components: int):
    fitted, asked = pixels((1, 8, 8), n=images, seed=5), pixels((1, 8, 8), n=20)
    model = PCA(components, svd_solver="full").fit(fitted.flatten(1).double().numpy())
    expected = model.inverse_transform(model.transform(asked.flatten(1).double().numpy())).clip(0, 1)
    projected = through(lambda inner: pca(inner, fitted, components), asked)
    np.testing.assert_allclose(projected.flatten(1).numpy(), expected, rtol=0, atol=1e-5)
    if components == 64:
        torch.testing.assert_close(projected, asked, rtol=0, atol=1e-5)


def test_what_pca_projects_stays_where_nothing_is_clipped():
    fitted = pixels((1, 8, 8), n=100, seed=5) * 0.2 + 0.4
    defense = lambda inner: pca(inner, fitted, 10)  # noqa: E731
    once = through(defense, pixels((1, 8, 8), n=20) * 0.2 + 0.4)
    assert once.min() > 0
    assert once.max() < 1
    torch.testing.assert_close(through(defense, once), once, rtol=0, atol=1e-6)


def test_pca_refuses():
    with pytest.raises(ValueError, match=r"^expected components of pca to be a whole number from 1 to 40, got 41: "):
        pca(small_net(), pixels((1, 8, 8), n=40), 41)
    with pytest.raises(ValueError, match=r"^expected at least 2 images of shape \(1, 8, 8\) to fit pca to, got "):
        pca(small_net(), pixels((1, 8, 9), n=40), 3)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda inner: gaussian_blur(inner, 0.1), "sigma of gaussian_blur to be a number above 0.125 and at most 16"),
        (lambda inner: total_variation(inner, 0), "weight of total_variation to be a number above 0 and at most 10"),
        (lambda inner: total_variation(inner, 1, 0), "iterations of total_variation to be a whole number from 1 to"),
        (lambda inner: random_resize_pad(inner, 9), "grow of random_resize_pad to be a whole number from 1 to 8"),
        (lambda inner: gaussian_noise(inner, math.nan), "sigma of gaussian_noise to be a number above 0 and at most 1"),
        (lambda inner: randomized_smoothing(inner, True, 9), "sigma of randomized_smoothing to be a number above 0"),
        (lambda inner: randomized_smoothing(inner, 1, 0), "samples of randomized_smoothing to be a whole number from"),
        (lambda inner: randomized_smoothing(inner, 1, 9, 0.6), "alpha of randomized_smoothing to be a number above 0"),
        (lambda inner: ensemble(inner, []), "at least 1 further model for ensemble"),
    ],
)
def test_parameters_out_of_range_are_refused(build: Defense, said: str):
    with pytest.raises(ValueError, match=rf"^expected {said}.*, got .*: "):
        build(small_net())


# ensembles and packages


def test_an_ensemble_is_the_mean_of_its_members_rejection_included():
    plain, rejecting = small_net(), small_net(rejects=True)
    images = pixels((1, 8, 8))
    both = ensemble(replace(plain, surrogates=("a", "b")), [replace(rejecting, surrogates=("b", "c"), randomised=True)])
    expected = (plain.probabilities(images, seeded()) + rejecting.probabilities(images, seeded())) / 2
    torch.testing.assert_close(both.probabilities(images, seeded()), expected)
    torch.testing.assert_close(ask_logits(both, images).softmax(1)[:, :4], expected)
    assert (both.rejects, both.randomised, both.surrogates) == (True, True, ("a", "b", "c"))
    assert float((both.probabilities(images, seeded()).sum(1) - 1).min()) < -0.01
    same = ensemble(plain, [plain, plain])
    torch.testing.assert_close(gradient(same, images), gradient(softened(plain), images))
    blind = ensemble(plain, [replace(plain, logits=None, no_gradient="a forest has none")])
    assert (blind.logits, blind.no_gradient) == (None, "a forest has none")
    with pytest.raises(ValueError, match=r"^expected every model of an ensemble to have the same shape, classes and"):
        ensemble(plain, [small_net(k=5)])


def softened(inner: Classifier) -> Classifier:
    """The same network, with the logarithms of its probabilities as logits."""
    return replace(inner, logits=lambda x, rng: torch.log_softmax(ask_logits(inner, x), 1))


def test_what_a_package_returns_is_checked():
    inner = small_net()
    assert packaged(inner, "squeeze", bit_depth, {"bits": 3}).surrogates == ("bit_depth",)
    with pytest.raises(Failed, match=r"^expected the defense squeeze to be built, got TypeError: .*'bots': look at"):
        packaged(inner, "squeeze", bit_depth, {"bots": 3})
    with pytest.raises(ValueError, match=r"^expected the defense x to return a Classifier, got NoneType: return"):
        packaged(inner, "x", lambda inner: None, {})
    with pytest.raises(ValueError, match=r"^expected the defense x to keep classes 4, got 5: return"):
        packaged(inner, "x", lambda inner: replace(inner, classes=5), {})
    with pytest.raises(Failed, match=r"^expected the defense x to be built, got KeyError: 'no': look at"):
        packaged(inner, "x", lambda inner: {}["no"], {})


# on a real network, from what a submission says


@cache
def digits() -> tuple[Ground, Classifier]:
    given = ground(read_battery("digits-v1"))
    assert given.spec.panel is not None
    return given, panel_classifier(given, given.spec.panel.models[0].name)


CHAIN = {
    "gaussian_blur": {"sigma": 0.4},
    "total_variation": {"weight": 0.02, "iterations": 10},
    "bit_depth": {"bits": 4},
    "gaussian_noise": {"sigma": 0.05},
    "random_resize_pad": {"grow": 1},
    "pca": {"components": 40, "images": 1000},
    "randomized_smoothing": {"sigma": 0.1, "samples": 40},
}


def built(kinds: tuple[str, ...]) -> Classifier:
    given, victim = digits()
    for kind in reversed(kinds):
        spec = TypeAdapter(Spec).validate_python({"kind": kind, **CHAIN[kind]})
        victim = defended(victim, spec, Path(), given, partial(training_images, given.battery), Cached())
    return victim


@pytest.mark.parametrize(
    "kinds",
    [
        *[(kind,) for kind in CHAIN],
        *itertools.permutations(("gaussian_noise", "bit_depth", "randomized_smoothing")),
        ("pca", "random_resize_pad", "total_variation", "gaussian_blur"),
        ("gaussian_blur", "total_variation", "random_resize_pad", "pca"),
    ],
    ids="-".join,
)
def test_defenses_compose_in_any_order_on_a_real_network(kinds: tuple[str, ...]):
    given, bare = digits()
    victim, images = built(kinds), given.data.pixels(CPU)[:100]
    declared = [kind for kind in reversed(kinds) if kind in ("bit_depth", "randomized_smoothing")]
    assert victim.surrogates == (*bare.surrogates, *declared)
    assert victim.rejects == ("randomized_smoothing" in kinds)
    assert victim.randomised == bool({"gaussian_noise", "random_resize_pad", "randomized_smoothing"} & set(kinds))
    answer = victim.probabilities(images, seeded())
    assert torch.equal(answer, victim.probabilities(images, seeded()))
    assert bool((answer >= 0).all())
    assert bool((answer.sum(1) <= 1 + 1e-5).all())
    right = (answer.argmax(1) == torch.tensor(given.data.labels[:100])) & (answer.sum(1) > 0.5)
    assert float(right.float().mean()) > 0.8
    logits = ask_logits(victim, images)
    assert logits.shape == (100, 10 + victim.rejects)
    agree = logits[:, :10].argmax(1) == answer.argmax(1)
    assert float(agree[answer.sum(1) > 0.5].float().mean()) > 0.9
    assert float((gradient(victim, images).abs().amax((1, 2, 3)) > 0).float().mean()) > 0.95


def test_training_images_are_spread_evenly_and_are_no_evaluation_images():
    given, _ = digits()
    images, labels = training_images(given.battery, 200)
    assert (images.shape, images.dtype, labels.shape) == ((200, 1, 8, 8), torch.float32, (200,))
    assert float(images.max()) == 1
    everything, truth = training_images(given.battery, 10**6)
    assert len(everything) == 1597
    # One in eight of each class, evenly: each eighth part of a class holds one.
    places = {image.numpy().tobytes(): i for i, image in enumerate(everything)}
    taken = torch.tensor([places[image.numpy().tobytes()] for image in images])
    assert torch.equal(truth[taken], labels)
    for label in range(10):
        own = (truth == label).nonzero().flatten()
        ranks = torch.searchsorted(own, taken[labels == label])
        assert torch.equal(ranks * len(ranks) // len(own), torch.arange(len(ranks)))
        assert abs(len(ranks) - 200 * len(own) / 1597) <= 1
    kept = {image.numpy().tobytes() for image in given.data.pixels(CPU)}
    assert not kept & {image.numpy().tobytes() for image in everything}
