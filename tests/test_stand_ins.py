"""No declared surrogate excuses planted stand-ins that lead nowhere; and honest ones of coarse roundings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from foolbench.bench.asking.clean import NOWHERE, examine
from foolbench.bench.honesty.stand_ins import of_another_class
from foolbench.defenses.detectors.max_softmax import max_softmax
from foolbench.defenses.detectors.threshold import Threshold
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.jpeg import jpeg
from foolbench.defenses.images.median import median
from foolbench.models.base import Classifier
from test_statements import digits
from torch import Tensor


def with_gradient(inner: Classifier, of: Callable[[Tensor, Tensor], Tensor]) -> Classifier:
    """The right answers behind a declared surrogate, with the gradient of `of(images, logits)`, `(n, K)`."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        assert inner.logits is not None
        given = inner.logits(images, rng)
        stand_in = of(images, given)
        return given.detach() + stand_in - stand_in.detach()

    return replace(inner, logits=logits, surrogates=("planted",))


def noise(images: Tensor, logits: Tensor) -> Tensor:
    """One random gradient for each image and class, others for each batch."""
    rng = torch.Generator().manual_seed(int(images.detach().double().sum() * 1e6) % 2**31)
    ways = torch.randn((len(images), logits.shape[1], images[0].numel()), generator=rng)
    return (ways @ images.flatten(1).unsqueeze(2)).squeeze(2)


def one_for_all(images: Tensor, logits: Tensor) -> Tensor:
    """The same random linear gradient for every image."""
    ways = torch.randn((images[0].numel(), logits.shape[1]), generator=torch.Generator().manual_seed(0))
    return images.flatten(1) @ ways


def light(images: Tensor, logits: Tensor) -> Tensor:
    return images.sum((1, 2, 3)).unsqueeze(1) * torch.arange(logits.shape[1])


PLANTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "turned round": lambda images, logits: -logits,
    "noise": noise,
    "one for all": one_for_all,
    "brightness": light,
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_stand_in_that_leads_nowhere_is_found(what: str) -> None:
    assert digits().statements(with_gradient(digits().bare, PLANTED[what])) == ["gradient"]


def test_a_stand_in_that_leads_where_the_answers_go_is_left_alone() -> None:
    assert digits().statements(with_gradient(digits().bare, lambda images, logits: 5 * logits)) == []


@pytest.mark.parametrize(
    "defense",
    [
        *(pytest.param(lambda bare, bits=bits: bit_depth(bare, bits), id=f"{bits} bits") for bits in range(1, 6)),
        *(pytest.param(lambda bare, q=q: jpeg(bare, q), id=f"jpeg {q}") for q in (75, 30, 10)),
        pytest.param(lambda bare: bit_depth(jpeg(bare, 75), 1), id="one bit, then jpeg"),
        pytest.param(lambda bare: median(jpeg(bare, 30), 3), id="median, then jpeg"),
    ],
)
def test_honest_roundings_are_left_alone(defense: Callable[[Classifier], Classifier]) -> None:
    assert digits().statements(defense(digits().bare)) == []


# rejection


@pytest.mark.parametrize("followed", [True, False])
def test_a_rejection_must_have_a_gradient_where_it_differs(followed: bool) -> None:
    """A detector by confidence, whose threshold sits in the midst of the images that are asked about."""
    seen = max_softmax(digits().bare, Threshold(0.3, 0.01))

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        assert seen.logits is not None
        given = seen.logits(images, rng)
        real, rejecting = given[:, :-1], given[:, -1:] - given[:, :-1].logsumexp(1, keepdim=True)
        return torch.cat([real, rejecting.detach() + real.logsumexp(1, keepdim=True)], 1)

    victim = seen if followed else replace(seen, logits=logits)
    assert ("rejection" in digits().statements(victim)) is not followed


# confidence


def capped(inner: Classifier, passed: float, *surrogates: str) -> Classifier:
    """A tenth goes to all classes alike, and two digits are kept, the rest going to the largest. Its logits are the
    logarithms of that; `passed` of the slope goes straight through the rounding."""

    def cut(given: Tensor) -> Tensor:
        flat = 0.1 / given.shape[1] + 0.9 * given
        kept = (100 * flat).floor() / 100
        kept = kept.scatter_add(1, kept.argmax(1, keepdim=True), 1 - kept.sum(1, keepdim=True)).detach()
        return kept + passed * (flat - flat.detach())

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        assert inner.logits is not None
        return cut(inner.logits(images, rng).softmax(1)).log()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return cut(inner.probabilities(images, rng))

    return replace(inner, probabilities=probabilities, logits=logits, surrogates=surrogates)


def test_a_confidence_cap_has_no_gradient_or_a_false_one_unless_it_says_what_stands_in() -> None:
    given = digits()
    dead = examine(capped(given.bare, 1e-9), given.ground).vanishes
    assert dead is not None
    assert float(dead.double().mean()) > NOWHERE  # what is left is rounding noise: zero_gradient is flagged
    assert given.statements(capped(given.bare, 1.0)) == ["gradient"]
    assert given.statements(capped(given.bare, 1.0, "cap")) == []
    assert given.statements(capped(given.bare, -1.0, "cap")) == ["gradient"]


def test_each_image_is_held_to_the_nextof_another_class() -> None:
    classes = torch.tensor([0, 0, 1, 2, 2])
    side = torch.ones(5, 3, dtype=torch.bool).scatter_(1, classes.unsqueeze(1), False)
    other = of_another_class(side)
    assert other is not None
    assert other.tolist() == [2, 2, 3, 0, 0]
    assert of_another_class(side[:2]) is None
