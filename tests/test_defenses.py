"""All defenses keep the contract of defenses/checks.py; those that change the image, what is stricter than it."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from defense_victims import Defense, ask_logits, camera, gradient, pixels, small_net, through
from detector_zoo import DETECTORS
from foolbench.bench.submission.defenses import Defense as Spec
from foolbench.defenses.checks import Check, Example, parametrize_with_checks
from foolbench.defenses.detectors.max_softmax import max_softmax
from foolbench.defenses.detectors.threshold import Threshold
from foolbench.defenses.ensemble import ensemble
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_blur import gaussian_blur
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.images.jpeg import jpeg
from foolbench.defenses.images.median import median
from foolbench.defenses.images.onnx_preprocess import onnx_preprocess
from foolbench.defenses.images.pca import pca
from foolbench.defenses.images.random_resize_pad import random_resize_pad
from foolbench.defenses.images.total_variation import total_variation
from foolbench.defenses.randomized_smoothing import randomized_smoothing
from foolbench.models.base import Classifier
from pages import example
from torch import Tensor


def graph_like(images: Tensor) -> Tensor:
    """What a preprocessor graph might do: leave [0, 1] here and there."""
    return images * 1.5 - 0.2


DEFENSES: dict[str, Defense] = {
    "bit_depth": lambda inner: bit_depth(inner, bits=3),
    "jpeg": lambda inner: jpeg(inner, quality=60),
    "median_odd": lambda inner: median(inner, size=3),
    "median_even": lambda inner: median(inner, size=2),
    "gaussian_blur": lambda inner: gaussian_blur(inner, sigma=0.8),
    "total_variation": lambda inner: total_variation(inner, weight=0.1, iterations=20),
    "pca": lambda inner: pca(inner, pixels(inner.shape, n=40, seed=9), components=12),
    "onnx_exact": lambda inner: onnx_preprocess(inner, graph_like, graph_like),
    "onnx_surrogate": lambda inner: onnx_preprocess(inner, graph_like),
    "gamma_of_contributing": lambda inner: example("CONTRIBUTING.md", "gamma")(inner, exponent=1.5),
    "gamma_of_a_package": lambda inner: example("docs/defenses.md", "gamma")(inner, exponent=2.2),
}
OTHERS: dict[str, Defense] = {
    "gaussian_noise": lambda inner: gaussian_noise(inner, sigma=0.05),
    "random_resize_pad": lambda inner: random_resize_pad(inner, grow=3),
    "randomized_smoothing": lambda inner: randomized_smoothing(inner, sigma=0.1, samples=40),
    "ensemble": lambda inner: ensemble(inner, [gaussian_blur(inner, sigma=1.5)]),
    "ensemble_rejecting": lambda inner: ensemble(inner, [max_softmax(inner, Threshold(0.5, 0.1))]),
}
"""They draw, vote or average; see test_random_defenses.py and test_defense_zoo.py."""
SURROGATES = {"bit_depth": ("bit_depth",), "jpeg": ("jpeg",), "onnx_surrogate": ("onnx",)}
MATRIX_PRODUCTS = {"pca"}
"""Their last bits depend on how many images are multiplied at once."""
ROUNDED = MATRIX_PRODUCTS | {"gaussian_blur", "total_variation"}
"""Their last bits depend on the device."""


@pytest.fixture(params=DEFENSES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


# the contract, and what is stricter than it here


@parametrize_with_checks([Example(name, defense) for name, defense in (DEFENSES | OTHERS).items()])
def test_contract(check: Check):
    check()


@pytest.mark.gpu
@parametrize_with_checks([Example(name, defense) for name, defense in (DEFENSES | OTHERS).items()], device="cuda")
def test_contract_on_a_gpu(check: Check):
    check()


def test_every_kind_of_a_submission_keeps_the_contract():
    called = {"package": "gamma_of_a_package", "onnx": "onnx_exact", "feature_squeezing": "squeezing"}
    kinds: list[str] = [
        kind for spec in get_args(get_args(Spec)[0]) for kind in get_args(spec.model_fields["kind"].annotation)
    ]
    tested = [*DEFENSES, *OTHERS, *DETECTORS]
    assert len(kinds) > 10
    assert [kind for kind in kinds if not any(name.startswith(called.get(kind, kind)) for name in tested)] == []


def test_each_image_is_changed_alone(name: str):
    images = pixels((1, 12, 12), n=100)
    alone = torch.cat([through(DEFENSES[name], image[None]) for image in images])
    together = through(DEFENSES[name], images)
    assert float((together - alone).abs().max()) <= (1e-6 if name in MATRIX_PRODUCTS else 0)


@pytest.mark.parametrize("rejects", [False, True])
def test_answers_and_logits_are_to_the_bit_the_models_of_the_changed_images(name: str, rejects: bool):
    inner = small_net(rejects=rejects)
    victim = DEFENSES[name](inner)
    images = pixels(inner.shape).requires_grad_()
    rng = torch.Generator()
    probabilities = victim.probabilities(images, rng)
    logits = ask_logits(victim, images)
    assert torch.equal(logits.detach().softmax(1)[:, :4], probabilities)
    assert torch.equal(probabilities, inner.probabilities(through(DEFENSES[name], images.detach()), rng))
    with torch.no_grad():
        assert torch.equal(ask_logits(victim, images), logits)
    assert (victim.rejects, victim.randomised) == (inner.rejects, inner.randomised)


def test_the_gradient_is_true_or_declared(name: str):
    inner = small_net()
    victim = DEFENSES[name](replace(inner, surrogates=("earlier",)))
    assert victim.surrogates == ("earlier", *SURROGATES.get(name, ()))
    images = torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(2)) * 0.4 + 0.2
    got = gradient(victim, images)
    if name in SURROGATES:
        assert torch.equal(got, gradient(inner, through(DEFENSES[name], images)))
        return
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    double = replace(inner, logits=lambda x, rng: double_logits(inner, x))
    exact = DEFENSES[name](double)
    step = 1e-6 * direction
    up, down = ask_logits(exact, images.double() + step)[:, 0], ask_logits(exact, images.double() - step)[:, 0]
    slope = (got.double() * direction).sum((1, 2, 3))
    torch.testing.assert_close((up - down) / 2e-6, slope, rtol=1e-4, atol=1e-6)


def double_logits(inner: Classifier, images: Tensor) -> Tensor:
    """`small_net` again, in float64, so that finite differences can be small."""
    weights = torch.Generator().manual_seed(1)
    n = images[0].numel()
    first = torch.randn(n, 16, generator=weights) / n**0.5
    second = torch.randn(16, inner.classes, generator=weights)
    return torch.tanh(images.flatten(1) @ first.double()) @ second.double()


def test_a_model_without_gradient_stays_one(name: str):
    inner = replace(small_net(), logits=None, no_gradient="a forest has none")
    victim = DEFENSES[name](inner)
    assert victim.logits is None
    assert victim.no_gradient == "a forest has none"
    assert victim.surrogates == ()


@pytest.mark.parametrize("other", DEFENSES)
def test_defenses_compose_in_any_order(name: str, other: str):
    images = pixels((1, 8, 8))
    both = through(lambda inner: DEFENSES[name](DEFENSES[other](inner)), images)
    assert torch.equal(both, through(DEFENSES[other], through(DEFENSES[name], images)))
    victim = DEFENSES[name](DEFENSES[other](small_net()))
    assert victim.surrogates == (*SURROGATES.get(other, ()), *SURROGATES.get(name, ()))
    assert gradient(victim, images).abs().max() > 0


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/defenses.md"])
def test_the_examples_of_the_pages_have_finite_gradients_at_black_in_all_their_range(page: str):
    gamma, inner = example(page, "gamma"), small_net()
    images = torch.zeros(2, *inner.shape)
    for exponent in (1, 1.01, 10):
        assert gradient(gamma(inner, exponent=exponent), images).isfinite().all()
    with pytest.raises(ValueError, match=r"expected (an )?exponent .*, got 0.99: choose"):
        gamma(inner, exponent=0.99)


@pytest.mark.gpu
def test_on_a_gpu_the_same_images_come_out(name: str):
    images = pixels((3, 12, 9))
    inner, seen = camera((3, 12, 9))
    device = torch.device("cuda")
    DEFENSES[name](replace(inner, device=device)).probabilities(images.to(device), torch.Generator(device))
    assert seen[-1].device.type == "cuda"
    torch.testing.assert_close(
        seen[-1].cpu(), through(DEFENSES[name], images), rtol=0, atol=1e-5 if name in ROUNDED else 0
    )
