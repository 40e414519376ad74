"""What the blurring, denoising, random, projecting and voting defenses are known to answer."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from defense_victims import CPU, Defense, ask_logits, camera, gradient, pixels, small_net, through
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.data.data import Data
from foolbench.bench.machine.memory import Memory
from foolbench.bench.submission.defenses import Defense as Spec
from foolbench.bench.victim.assemble import panel_classifier
from foolbench.bench.victim.defended import Made, defended
from foolbench.bench.victim.fitting import training_images
from foolbench.defenses.ensemble import ensemble
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_blur import gaussian_blur
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.images.pca import pca
from foolbench.defenses.images.random_resize_pad import random_resize_pad
from foolbench.defenses.images.total_variation import total_variation
from foolbench.defenses.packaged import packaged
from foolbench.defenses.randomized_smoothing import fewest_votes, randomized_smoothing
from foolbench.models.base import Classifier
from pydantic import TypeAdapter
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional as F

RANDOM: dict[str, Defense] = {
    "gaussian_noise": lambda inner: gaussian_noise(inner, sigma=0.05),
    "random_resize_pad": lambda inner: random_resize_pad(inner, grow=3),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def through_random(defense: Defense, images: Tensor, seed: int = 0) -> Tensor:
    inner, seen = camera((images.shape[1], images.shape[2], images.shape[3]))
    defense(inner).probabilities(images, seeded(seed))
    return seen[-1]


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


# random ones


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 9)])
def test_random_defenses_draw_for_each_image_from_the_generator_alone(name: str, shape: tuple[int, int, int]):
    images = pixels(shape, n=1).expand(40, *shape)
    before = images.clone()
    seen = through_random(RANDOM[name], images)
    assert torch.equal(images, before)
    assert (seen.shape, seen.dtype) == (images.shape, torch.float32)
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert torch.equal(seen, through_random(RANDOM[name], images))
    assert not torch.equal(seen, through_random(RANDOM[name], images, seed=1))
    assert len(seen.flatten(1).unique(dim=0)) > 10
    inner = replace(small_net(shape), surrogates=("earlier",))
    victim = RANDOM[name](inner)
    assert (victim.randomised, victim.rejects, victim.surrogates) == (True, False, ("earlier",))
    probabilities = victim.probabilities(images, seeded())
    assert not probabilities.requires_grad
    assert torch.equal(probabilities, ask_logits(victim, images).softmax(1))
    assert RANDOM[name](replace(inner, logits=None)).logits is None


@pytest.mark.gpu
@pytest.mark.parametrize(
    "defense",
    [*RANDOM.values(), lambda inner: randomized_smoothing(inner, 0.1, 20), lambda inner: ensemble(inner, [inner])],
    ids=[*RANDOM, "randomized_smoothing", "ensemble"],
)
def test_on_a_gpu_the_same_seed_gives_the_same_bits(defense: Defense):
    device = torch.device("cuda")
    weights = torch.rand((192, 4), generator=seeded(1)).to(device)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return images.flatten(1) @ weights

    inner = replace(
        small_net((3, 8, 8)),
        device=device,
        logits=logits,
        probabilities=lambda images, rng: logits(images, rng).softmax(1),
    )
    victim, images = defense(inner), pixels((3, 8, 8)).to(device)
    twice = [victim.probabilities(images, torch.Generator(device).manual_seed(5)) for _ in range(2)]
    assert twice[0].device.type == "cuda"
    assert torch.equal(*twice)
    slopes = []
    for _ in range(2):
        leaf = images.clone().requires_grad_()
        assert victim.logits is not None
        value = victim.logits(leaf, torch.Generator(device).manual_seed(5))[:, 0].sum()
        slopes += torch.autograd.grad(value, leaf)
    assert torch.equal(*slopes)


@pytest.mark.parametrize("name", RANDOM)
def test_the_gradient_is_that_of_the_draw(name: str):
    weights = torch.randn(64, 1, generator=seeded(4), dtype=torch.float64)
    smooth = replace(small_net(), logits=lambda x, rng: torch.tanh(x.flatten(1) @ weights / 8))
    victim, images = RANDOM[name](smooth), torch.rand((3, 1, 8, 8), generator=seeded(2)) * 0.4 + 0.3
    images = images.double()
    direction = torch.randn(images.shape, generator=seeded(3), dtype=torch.float64)
    up, down = (ask_logits(victim, images + sign * 1e-6 * direction)[:, 0] for sign in (1, -1))
    slope = (gradient(victim, images) * direction).sum((1, 2, 3))
    assert float(slope.abs().max()) > 0.01
    torch.testing.assert_close((up - down) / 2e-6, slope, rtol=1e-5, atol=1e-7)


def test_gaussian_noise_has_its_sigma_and_is_clipped():
    seen = through_random(lambda inner: gaussian_noise(inner, 0.1), torch.full((400, 1, 8, 8), 0.5))
    assert float(seen.mean()) == pytest.approx(0.5, abs=0.003)
    assert float(seen.std()) == pytest.approx(0.1, rel=0.02)
    black = through_random(lambda inner: gaussian_noise(inner, 0.1), torch.zeros(400, 1, 8, 8))
    assert float((black == 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_random_resize_pad_is_torchs_resizing_at_every_size_and_place_as_likely_as_it_should_be():
    image = pixels((1, 6, 9), n=1)
    grown = {}
    for d in range(3):
        larger = F.interpolate(image, (6 + d, 9 + d), mode="bilinear")
        for y, x in itertools.product(range(3 - d), repeat=2):
            padded = F.pad(larger, (x, 2 - d - x, y, 2 - d - y))
            grown[d, y, x] = F.interpolate(padded, (6, 9), mode="bilinear", antialias=True)
    seen = through_random(lambda inner: random_resize_pad(inner, 2), image.expand(9000, 1, 6, 9))
    distance = torch.stack([(seen - one).abs().amax((1, 2, 3)) for one in grown.values()])
    assert float(distance.min(0).values.max()) < 1e-6
    counts = Counter(distance.argmin(0).tolist())
    for i, (d, _, _) in enumerate(grown):
        expected = 9000 / 3 / (3 - d) ** 2
        assert abs(counts[i] - expected) < 5 * math.sqrt(expected)


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


# smoothing


def voting(votes: list[int], k: int = 3) -> Classifier:
    """Labels its noisy copies, in order, as it is told to; k means "none of these"."""
    told = iter(votes)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return F.one_hot(torch.tensor([next(told) for _ in images]), k + 1)[:, :k].float()

    return replace(small_net(k=k), probabilities=probabilities, rejects=True)


@pytest.mark.parametrize(
    ("votes", "alpha", "expected"),
    [
        # two-sided p-value of 9 in 10: 2 (10 + 1) / 1024 = 0.0215; of 10 in 10: 2 / 1024 = 0.00195
        ([1] * 9 + [0], 0.0214, [0.0, 0.0, 0.0]),
        ([1] * 9 + [0], 0.0216, [0.1, 0.9, 0.0]),
        ([2] * 10, 0.0019, [0.0, 0.0, 0.0]),
        ([2] * 10, 0.0020, [0.0, 0.0, 1.0]),
        # only the first two count: 7 against 2 is 2 (36 + 9 + 1) / 512 = 0.1797
        ([0] * 7 + [1, 1, 2], 0.18, [0.7, 0.2, 0.1]),
        ([0] * 7 + [1, 1, 2], 0.179, [0.0, 0.0, 0.0]),
        # a copy that is rejected is a vote too, and may win
        ([0] + [3] * 9, 0.0216, [0.1, 0.0, 0.0]),
        ([0] * 5 + [1] * 5, 0.5, [0.0, 0.0, 0.0]),
    ],
)
def test_smoothing_answers_where_the_binomial_test_lets_it(votes: list[int], alpha: float, expected: list[float]):
    victim = randomized_smoothing(voting(votes), 0.1, len(votes), alpha)
    answer = victim.probabilities(torch.full((1, 1, 8, 8), 0.5), seeded())
    torch.testing.assert_close(answer, torch.tensor([expected]))
    assert victim.rejects
    assert victim.randomised


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_the_fewest_votes_are_scipys_binomial_test(alpha: float):
    fewest = fewest_votes(40, alpha).tolist()
    for both in range(1, 41):
        enough = [a for a in range(both + 1) if 2 * a >= both and scipy.stats.binomtest(a, both).pvalue <= alpha]
        assert fewest[both] == min(enough, default=fewest[both])
        assert enough or fewest[both] > both


def test_smoothing_abstains_on_a_coin_flip_and_votes_as_a_half_space_does():
    """Of a half space the smoothed class probability is known: Φ of the distance in units of σ."""

    def side(images: Tensor, rng: torch.Generator) -> Tensor:
        return F.one_hot((images[:, 0, 0, 0] > 0.5).long(), 2).float()

    victim = randomized_smoothing(replace(small_net(k=2), probabilities=side), 0.1, 1000)
    images = torch.full((6, 1, 8, 8), 0.5)
    images[3:, 0, 0, 0] += torch.tensor([0.05, 0.1, -0.2])
    answer = victim.probabilities(images, seeded())
    assert torch.equal(answer[:3], torch.zeros(3, 2))
    expected = torch.tensor(scipy.stats.norm.cdf([0.5, 1.0, -2.0])).float()
    torch.testing.assert_close(answer[3:, 1], expected, rtol=0, atol=0.04)
    assert torch.equal(answer, victim.probabilities(images, seeded()))


def test_smoothing_bounds_its_memory():
    sizes: list[int] = []
    inner = small_net((1, 256, 256))

    def counted(images: Tensor, rng: torch.Generator) -> Tensor:
        sizes.append(len(images))
        return inner.probabilities(images, rng)

    victim = randomized_smoothing(replace(inner, probabilities=counted), 0.2, 5)
    victim.probabilities(pixels((1, 256, 256), n=4), seeded())
    assert sizes == [8, 8, 4]  # 2¹⁹ values at a time


def test_the_logits_of_smoothing_are_the_declared_mean():
    inner, images = small_net(), pixels((1, 8, 8))
    victim = randomized_smoothing(inner, 0.2, 25, gradient_samples=4)
    noise = torch.randn((20, 1, 8, 8), generator=seeded(3))
    copies = (images.repeat(4, 1, 1, 1) + 0.2 * noise).clamp(0, 1)
    mean = ask_logits(inner, copies).softmax(1).view(4, 5, 4).mean(0)
    got = ask_logits(victim, images, seed=3).softmax(1)
    torch.testing.assert_close(got, F.pad(mean, (0, 1)))
    assert victim.surrogates == ("randomized_smoothing",)
    assert gradient(victim, images).abs().amax((1, 2, 3)).min() > 0


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
    with pytest.raises(TypeError, match="bots"):
        packaged(inner, "squeeze", bit_depth, {"bots": 3})
    with pytest.raises(ValueError, match=r"^expected the defense x to return a Classifier, got NoneType: return"):
        packaged(inner, "x", lambda inner: None, {})
    with pytest.raises(ValueError, match=r"^expected the defense x to keep classes 4, got 5: return"):
        packaged(inner, "x", lambda inner: replace(inner, classes=5), {})
    with pytest.raises(ValueError, match=r"^expected the defense x to be built, and it raised KeyError: 'no'; look"):
        packaged(inner, "x", lambda inner: {}["no"], {})


# on a real network, from what a submission says


@cache
def digits() -> tuple[Battery, Data, Classifier]:
    battery = read_battery("digits-v1")
    data = battery.load()
    assert battery.spec.panel is not None
    return battery, data, panel_classifier(battery, battery.spec.panel.models[0].name, data, CPU, Memory())


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
    battery, data, victim = digits()
    for kind in reversed(kinds):
        spec = TypeAdapter(Spec).validate_python({"kind": kind, **CHAIN[kind]})
        victim = defended(victim, spec, Path(), battery, data, partial(training_images, battery), Made(), Memory())
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
    _, data, bare = digits()
    victim, images = built(kinds), data.pixels(CPU)[:100]
    declared = [kind for kind in reversed(kinds) if kind in ("bit_depth", "randomized_smoothing")]
    assert victim.surrogates == (*bare.surrogates, *declared)
    assert victim.rejects == ("randomized_smoothing" in kinds)
    assert victim.randomised == bool({"gaussian_noise", "random_resize_pad", "randomized_smoothing"} & set(kinds))
    answer = victim.probabilities(images, seeded())
    assert torch.equal(answer, victim.probabilities(images, seeded()))
    assert bool((answer >= 0).all())
    assert bool((answer.sum(1) <= 1 + 1e-5).all())
    right = (answer.argmax(1) == torch.tensor(data.labels[:100])) & (answer.sum(1) > 0.5)
    assert float(right.float().mean()) > 0.8
    logits = ask_logits(victim, images)
    assert logits.shape == (100, 10 + victim.rejects)
    agree = logits[:, :10].argmax(1) == answer.argmax(1)
    assert float(agree[answer.sum(1) > 0.5].float().mean()) > 0.9
    assert float((gradient(victim, images).abs().amax((1, 2, 3)) > 0).float().mean()) > 0.95


def test_training_images_are_spread_evenly_and_are_no_evaluation_images():
    battery, data, _ = digits()
    images, labels = training_images(battery, 200)
    assert (images.shape, images.dtype, labels.shape) == ((200, 1, 8, 8), torch.float32, (200,))
    assert float(images.max()) == 1
    everything, truth = training_images(battery, 10**6)
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
    kept = {image.numpy().tobytes() for image in data.pixels(CPU)}
    assert not kept & {image.numpy().tobytes() for image in everything}
