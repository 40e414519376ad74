"""The contract of defenses/checks.py: each planted offender is found by its check, an honest look-alike by none."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from defense_victims import Defense
from foolbench.defenses.checks import EACH, Example, checks_of
from foolbench.defenses.detectors.reject import reject_when
from foolbench.defenses.detectors.threshold import Threshold
from foolbench.models.base import Classifier
from pages import ROOT, example
from torch import Tensor

Change = Callable[[Tensor, torch.Generator], Tensor]


def broken(defense: Defense, images: Tensor | None = None) -> dict[str, Exception]:
    """The checks that a defense breaks, and what they raise."""
    found: dict[str, Exception] = {}
    for check in checks_of(Example("planted", defense, images=images)):
        try:
            check()
        except Exception as error:
            found.setdefault(check.name.split("-")[1], error)
    return found


def in_front(change: Change, *, declares: str = "", randomised: bool = False) -> Defense:
    """A change of the image as a defense."""

    def defense(inner: Classifier) -> Classifier:
        ask = inner.logits
        surrogates = (*inner.surrogates, declares) if declares else inner.surrogates

        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            with torch.no_grad():
                return inner.probabilities(change(images, rng), rng)

        return inner.defended(
            probabilities=probabilities,
            logits=None if ask is None else lambda images, rng: ask(change(images, rng), rng),
            surrogates=surrogates,
            randomised=inner.randomised or randomised,
        )

    return defense


def behind(change: Callable[[Tensor], Tensor], logits: Callable[[Tensor], Tensor], rejects: bool = False) -> Defense:
    """A change of the probabilities, and one of the logits, as a defense."""

    def defense(inner: Classifier) -> Classifier:
        ask = inner.logits
        return inner.defended(
            probabilities=lambda images, rng: change(inner.probabilities(images, rng)),
            logits=None if ask is None else lambda images, rng: logits(ask(images, rng)),
            rejects=inner.rejects or rejects,
        )

    return defense


def half(images: Tensor, rng: torch.Generator) -> Tensor:
    return images / 2


def levels(images: Tensor, rng: torch.Generator) -> Tensor:
    """Four gray levels, with the gradient straight through."""
    return images + ((images * 3).round() / 3 - images).detach()


def noise(drawn: Callable[[Tensor, torch.Generator], Tensor]) -> Change:
    return lambda images, rng: (images + 0.3 * drawn(images, rng) - 0.15).clamp(0, 1)


own_noise = noise(lambda images, rng: torch.rand(images.shape, generator=rng))
"""Of the generator of the call, each image its own."""


def built_with(mask: Callable[[Classifier], Tensor]) -> Defense:
    def defense(inner: Classifier) -> Classifier:
        darkening = mask(inner)
        return in_front(lambda images, rng: images * darkening)(inner)

    return defense


def counting(period: int) -> Defense:
    """Every so many calls, a darker image."""

    def defense(inner: Classifier) -> Classifier:
        calls = itertools.count(1)
        return in_front(lambda images, rng: images / (2 + (next(calls) % period == 0)))(inner)

    return defense


def rejecting(p: Tensor) -> Tensor:
    return p * 0.9


def with_none_rejected(z: Tensor) -> Tensor:
    return torch.cat([z[:, :4], torch.full_like(z[:, :1], -torch.inf)], 1)


def with_a_tenth(z: Tensor) -> Tensor:
    """One more class beside K, or a larger last column, for a tenth of the probability."""
    whole = z.softmax(1)
    kept = 0.9 * whole[:, :4]
    return torch.cat([kept, 1 - kept.sum(1, keepdim=True)], 1).log()


def transposing(inner: Classifier) -> Classifier:
    return in_front(lambda images, rng: images.mT)(inner)


def forgetful(inner: Classifier) -> Classifier:
    """Made from nothing: what it does not name is at its default."""
    made = in_front(half)(inner)
    return Classifier(
        made.shape, made.classes, made.device, made.probabilities, made.logits, made.rejects, no_gradient="none"
    )


def blind(reason: str | None) -> Defense:
    return lambda inner: replace(in_front(half)(inner), logits=None, no_gradient=reason)


def bypassing(inner: Classifier) -> Classifier:
    made, model = in_front(half)(inner), inner.innermost()
    return replace(made, probabilities=lambda images, rng: model.probabilities(images / 2, rng))


def unlocking(inner: Classifier) -> Classifier:
    made = in_front(half)(inner)
    object.__setattr__(inner, "surrogates", ("half",))
    return made


def settling(switch: Callable[[], object]) -> Defense:
    def defense(inner: Classifier) -> Classifier:
        switch()
        return in_front(half)(inner)

    return defense


def careless(inner: Classifier) -> Classifier:
    made, ask = in_front(half)(inner), inner.logits
    return replace(made, logits=lambda images, rng: ask(images / 2, rng))  # type: ignore[misc]


def own_generator(inner: Classifier) -> Classifier:
    made = in_front(half)(inner)
    return replace(made, probabilities=lambda images, rng: made.probabilities(images, torch.Generator().manual_seed(1)))


def differentiable_answers(inner: Classifier) -> Classifier:
    made, k = in_front(half)(inner), inner.classes
    ask = made.logits
    return made if ask is None else replace(made, probabilities=lambda images, rng: ask(images, rng).softmax(1)[:, :k])


def on_weights(inner: Classifier) -> Classifier:
    """Logits that torch differentiates with respect to something else."""
    made, ask, weight = in_front(half)(inner), inner.logits, torch.ones((), requires_grad=True)
    return made if ask is None else replace(made, logits=lambda images, rng: weight * ask(images.detach() / 2, rng))


def without_generator(inner: Classifier) -> Classifier:
    made = in_front(half)(inner)
    return replace(made, probabilities=lambda images, rng: inner.probabilities(images / 2, None))  # type: ignore[arg-type]


def two_faced(answers: Change, logits: Change) -> Defense:
    return lambda inner: replace(in_front(answers)(inner), logits=in_front(logits)(inner).logits)


def detached(inner: Classifier) -> Classifier:
    made = in_front(half)(inner)
    ask = made.logits
    return made if ask is None else replace(made, logits=lambda images, rng: ask(images, rng).detach())


def refusing(inner: Classifier) -> Classifier:
    if inner.logits is None:
        raise ValueError(f"expected a model with logits, got one without ({inner.no_gradient}): use another")
    return careless(inner)


def other_logits(declares: str) -> Defense:
    """Its answers are of darker images, its logits of the images as they are."""
    return lambda inner: replace(in_front(half, declares=declares)(inner), logits=inner.logits)


def rejecting_bright_ones(*, exact: bool) -> Defense:
    """Logits that do not see the detector move."""

    def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
        return images.flatten(1).mean(1)

    return lambda inner: reject_when(
        inner, "bright", score, Threshold(0.5, 0.2), differentiable=torch.no_grad()(score), exact=exact
    )


HALF = in_front(half)


class Fault(NamedTuple):
    """A planted fault, the check that finds it, and what looks like it and is honest."""

    check: str
    planted: Defense
    honest: Defense = HALF


FAULTS: dict[str, Fault] = {
    "nothing returned": Fault("statements", lambda inner: None),  # type: ignore[arg-type, return-value]
    "another number of classes": Fault("statements", lambda inner: replace(inner, classes=5)),
    "surrogates of the model forgotten": Fault("statements", forgetful),
    "no gradient and no reason": Fault("statements", blind(None), blind("it rounds")),
    "inner written to": Fault("inner_is_left", unlocking),
    "gradients switched off": Fault(
        "inner_is_left", settling(lambda: torch.set_grad_enabled(False)), settling(torch.is_grad_enabled)
    ),
    "another default type": Fault("inner_is_left", settling(lambda: torch.set_default_dtype(torch.float64))),
    "nothing done": Fault("effect", in_front(lambda images, rng: images)),
    "no thought of models without gradient": Fault("without_gradient", careless, refusing),
    "the reason of a model without gradient forgotten": Fault(
        "without_gradient", lambda inner: replace(in_front(half)(inner), no_gradient=None)
    ),
    "the model asked past another defense": Fault("composition", bypassing),
    "images written to": Fault(
        "answers",
        in_front(lambda images, rng: images.mul_(0.5)),
        in_front(lambda images, rng: images.clone().mul_(0.5)),
    ),
    "images written to by the answers alone": Fault("answers", two_faced(lambda images, rng: images.mul_(0.5), half)),
    "images above 1": Fault(
        "answers", in_front(lambda images, rng: images * 1.2), in_front(lambda images, rng: (images * 1.2).clamp(0, 1))
    ),
    "images in float64": Fault(
        "answers", in_front(lambda images, rng: images.double() / 2), in_front(lambda x, rng: (x.double() / 2).float())
    ),
    "images that lie down": Fault("answers", transposing),
    "probabilities above 1": Fault("answers", behind(lambda p: p * 1.1, lambda z: z)),
    "probabilities below 0": Fault("answers", behind(lambda p: p * 1.5 - 0.125, lambda z: z)),
    "probabilities that are not finite": Fault("answers", behind(lambda p: (p - 1).log(), lambda z: z)),
    "logits that are not finite": Fault("answers", behind(lambda p: p, with_none_rejected, rejects=True)),
    "probabilities in float64": Fault("answers", behind(lambda p: p.double(), lambda z: z)),
    "a rejection that is not declared": Fault(
        "answers", behind(rejecting, with_a_tenth), behind(rejecting, with_a_tenth, rejects=True)
    ),
    "a rejection that nothing says": Fault("answers", behind(rejecting, lambda z: z)),
    "a rejection without its column": Fault("answers", behind(lambda p: p * 0.9, lambda z: z, rejects=True)),
    "answers that take part in autograd": Fault("answers", differentiable_answers),
    "logits that torch cannot differentiate": Fault("answers", detached),
    "logits of weights": Fault("answers", on_weights),
    "no generator for the model": Fault("answers", without_generator),
    "logits of something else": Fault("agreement", other_logits(""), other_logits("another image")),
    "company": Fault(
        "each_image_by_itself",
        in_front(lambda images, rng: (images + images.mean((0, 2, 3), keepdim=True)) / 2),
        in_front(lambda images, rng: (images + images.mean((1, 2, 3), keepdim=True)) / 2),
    ),
    "company of a random one": Fault(
        "each_image_by_itself",
        in_front(lambda x, rng: (own_noise(x, rng) + x[:1]) / 2, randomised=True),
        in_front(lambda x, rng: (own_noise(x, rng) + x) / 2, randomised=True),
    ),
    "images taken for contiguous": Fault(
        "memory_layout",
        in_front(lambda images, rng: images.view(len(images), -1).view(images.shape) / 2),
        in_front(lambda images, rng: images.reshape(len(images), -1).reshape(images.shape) / 2),
    ),
    "images read as if they were contiguous": Fault(
        "memory_layout",
        in_front(lambda x, rng: x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride()) / 2),
    ),
    "torch's own stream": Fault(
        "seeds",
        in_front(noise(lambda images, rng: torch.rand(images.shape)), randomised=True),
        in_front(own_noise, randomised=True),
    ),
    "NumPy's own stream": Fault(
        "seeds", in_front(noise(lambda x, rng: torch.tensor(np.random.random_sample(x.shape)).float()), randomised=True)
    ),
    "Python's own stream": Fault("seeds", in_front(lambda x, rng: x * (0.5 + random.random() / 2), randomised=True)),
    "chance when it is built": Fault(
        "seeds",
        built_with(lambda inner: torch.rand(inner.shape)),
        built_with(lambda inner: torch.rand(inner.shape, generator=torch.Generator().manual_seed(0))),
    ),
    "what was asked before": Fault("seeds", counting(2), counting(10**9)),
    "chance that is not declared": Fault("chance", in_front(own_noise), in_front(own_noise, randomised=True)),
    "a random model, taken for a fixed one": Fault("chance", forgetful),
    "one draw for all": Fault(
        "chance", in_front(noise(lambda x, rng: torch.rand(x.shape[1:], generator=rng)), randomised=True)
    ),
    "chance declared and not there": Fault("chance", in_front(half, randomised=True)),
    "chance in the answers alone": Fault("chance", two_faced(own_noise, half)),
    "chance in the logits alone": Fault("chance", two_faced(half, own_noise)),
    "a generator of its own": Fault("chance", own_generator),
    "infinite slope at black": Fault(
        "gradient",
        in_front(lambda images, rng: images**0.5),
        in_front(lambda images, rng: (images + 0.1) ** 0.5 / 1.1),
    ),
    "no slope, which the declared stand-in does not give": Fault(
        "gradient",
        in_front(lambda images, rng: (images * 3).round() / 3 + 0 * images, declares="levels"),
        in_front(levels, declares="levels"),
    ),
    "slope turned round": Fault("exactness", in_front(lambda images, rng: images.detach() - images / 2)),
    "half of the slope": Fault("exactness", in_front(lambda images, rng: images / 4 + images.detach() / 4)),
    "a rejection whose slope is hidden": Fault(
        "exactness", rejecting_bright_ones(exact=True), rejecting_bright_ones(exact=False)
    ),
    "a stand-in that is not declared": Fault("exactness", in_front(levels), in_front(levels, declares="levels")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    found = broken(FAULTS[name].planted)
    assert FAULTS[name].check in found, found
    for error in found.values():
        assert not isinstance(error, AssertionError) or str(error).startswith("expected "), error


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.honest is not HALF])
def test_an_honest_look_alike_keeps_the_contract(name: str) -> None:
    assert broken(FAULTS[name].honest) == {}


def test_the_honest_half_keeps_the_contract() -> None:
    assert broken(HALF) == {}


def test_every_check_finds_something() -> None:
    assert {fault.check for fault in FAULTS.values()} == {check.__name__ for check in EACH}


def test_images_of_its_own_are_of_one_of_the_shapes() -> None:
    images = torch.rand(3, 1, 5, 5)
    with pytest.raises(ValueError, match=r"expected images of one of the shapes .*, got \(3, 1, 5, 5\): set `shapes`"):
        Example("half", HALF, images=images)
    ways = [check.name for check in checks_of(Example("half", HALF, shapes=((1, 5, 5),), images=images))]
    assert ways == [f"half-{check.__name__}-1x5x5" for check in EACH]


def test_what_is_false_of_its_own_images_alone_is_found() -> None:
    own = torch.full((3, 1, 8, 8), 0.4) + 0.1 * torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(1))

    def near_own(images: Tensor, rng: torch.Generator) -> Tensor:
        known = ((images - 0.45).abs().flatten(1).amax(1) < 0.1).view(-1, 1, 1, 1)
        return torch.where(known, images.detach() - images / 2, images / 2)

    assert broken(in_front(near_own)) == {}
    assert set(broken(in_front(near_own), own)) == {"exactness"}


def test_the_tests_that_the_page_shows_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_defenses", SimpleNamespace(gamma=example("docs/defenses.md", "gamma")))
    shown = example("docs/defenses.md", "test_contract")
    (mark,) = shown.pytestmark
    _, cases = mark.args
    assert len(cases) == 2 * 2 * len(EACH)
    for case in cases:
        shown(*case.values)


def test_the_page_says_what_each_check_is() -> None:
    page = (ROOT / "docs/defenses.md").read_text(encoding="utf-8")
    assert [check.__name__ for check in EACH if f"`{check.__name__}`" not in page] == []
