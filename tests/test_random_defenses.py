"""What the random defenses are known to answer: noise, resizing and padding, smoothing."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import scipy.ndimage
import scipy.stats
import torch
from defense_victims import Defense, ask_logits, camera, gradient, pixels, seeded, small_net
from foolbench.defenses.ensemble import ensemble
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.images.random_resize_pad import random_resize_pad
from foolbench.defenses.randomized_smoothing import fewest_votes, randomized_smoothing
from foolbench.models.base import Classifier
from torch import Tensor
from torch.nn import functional as F

RANDOM: dict[str, Defense] = {
    "gaussian_noise": lambda inner: gaussian_noise(inner, sigma=0.05),
    "random_resize_pad": lambda inner: random_resize_pad(inner, grow=3),
}


def through_random(defense: Defense, images: Tensor, seed: int = 0) -> Tensor:
    inner, seen = camera((images.shape[1], images.shape[2], images.shape[3]))
    defense(inner).probabilities(images, seeded(seed))
    return seen[-1]


# random ones


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 9)])
def test_random_defenses_draw_for_each_image_from_the_generator_alone(name: str, shape: tuple[int, int, int]):
    images = pixels(shape, n=1).expand(40, *shape)
    seen = through_random(RANDOM[name], images)
    assert torch.equal(seen, through_random(RANDOM[name], images))
    assert not torch.equal(seen, through_random(RANDOM[name], images, seed=1))
    assert len(seen.flatten(1).unique(dim=0)) > 10
    inner = replace(small_net(shape), surrogates=("earlier",))
    victim = RANDOM[name](inner)
    assert (victim.randomised, victim.rejects, victim.surrogates) == (True, False, ("earlier",))
    assert torch.equal(victim.probabilities(images, seeded()), ask_logits(victim, images).softmax(1))
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
