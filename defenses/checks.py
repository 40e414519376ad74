"""The contract of every defense, as checks that its author can run on it; foolbench runs them on its own.

In a package's tests:

    from foolbench.defenses.checks import Example, parametrize_with_checks
    from my_defenses import gamma

    @parametrize_with_checks([Example("gamma", gamma, {"exponent": 1.5})])
    def test_contract(check):
        check()

Each check puts the defense in front of a small model (toy.py), asks about a few images, and raises AssertionError with
a sentence where the defense breaks the contract of `models/base.py`. What the defense itself raises comes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models.base import Classifier
from .asking import calls, global_streams, same, settings, settings_kept, shares, slope_error, slopes, sound
from .toy import Case, Example, contrast, hold

if TYPE_CHECKING:
    import pytest

COPIES = 16
"""Of each image, to see whether a random defense draws for each by itself."""
SLOPE_ERROR = 0.2
"""How wrong half of an image's directional derivatives may be, as a share of the usual one."""


# what it says of itself, and what it leaves alone


def statements(case: Case) -> None:
    """It returns a Classifier of the same shape, classes and device; what stands behind it stays declared."""
    victim = case.defended(replace(case.model(), surrogates=("earlier",)))
    kept = victim.logits is None or "earlier" in victim.surrogates
    hold(kept, f"the model's surrogates to stay declared, got {victim.surrogates}: return inner.defended(...)")
    hold(victim.logits is not None or bool(victim.no_gradient), "a sentence in no_gradient where there are no logits")


def inner_is_left(case: Case) -> None:
    """The inner Classifier and torch's settings are afterwards what they were."""
    inner = case.model()
    before, set_to = {f.name: getattr(inner, f.name) for f in fields(inner)}, settings()
    for ask in calls(case.defended(inner)):
        ask(case.images(), case.rng())
    changed = [name for name, value in before.items() if getattr(inner, name) is not value]
    hold(not changed, f"the inner Classifier to be left as it is, got another {', '.join(changed)}")
    hold(settings() == set_to, f"torch's settings (gradients, type, threads) to be left at {set_to}, got {settings()}")


def effect(case: Case) -> None:
    """It does something: its answers, logits or gradients are not those of the model by itself."""

    def seen(classifier: Classifier) -> list[Tensor]:
        answers = [ask(case.images(), case.rng()) for ask in calls(classifier)]
        return answers if classifier.logits is None else [*answers, slopes(classifier, case.images(), case.rng())]

    bare, own = seen(case.model()), seen(case.defended(case.model()))
    unchanged = len(bare) == len(own) and all(map(torch.equal, bare, own))
    hold(not unchanged, "a defense that changes the model's answers or gradients")


def without_gradient(case: Case) -> None:
    """In front of a model without logits it has none and keeps the reason, or declares a stand-in, or refuses by a
    ValueError."""
    inner = replace(case.model(), logits=None, no_gradient="a forest has none")
    try:
        victim = case.example.factory(inner, **case.example.args)
    except ValueError:
        return
    sound(victim, case.images())
    declared = victim.no_gradient if victim.logits is None else victim.surrogates
    hold(bool(declared), "no_gradient to be kept, or a surrogate, in front of a model without logits")


def composition(case: Case) -> None:
    """It works in front of another defense and of itself, and asks what stands behind it, not the model."""
    other = contrast(case.model(within=(0.25, 0.75)))
    for inner in (other, contrast(other), case.defended(case.model()), case.defended(case.model(noisy=True))):
        sound(case.defended(inner), case.images())


# answers


def answers(case: Case) -> None:
    """Probabilities and logits have their shape, type and device and are finite; images are left as they were;
    probabilities take no part in autograd, and sum to 1, or to at most 1 where it rejects."""
    for inner in (case.model(), case.model(rejects=True)):
        victim = case.defended(inner)
        for images in (case.images(), case.images()[:1]):
            sound(victim, images)


def agreement(case: Case) -> None:
    """Where it declares no surrogate, the softmax of its logits is its answer; on average, where it is randomised."""
    for inner in (case.model(), case.model(rejects=True), case.model(noisy=True)):
        victim, images = case.defended(inner), case.images()
        if victim.logits is None or victim.surrogates:
            continue
        answered, said = shares(victim)
        hold(
            same(victim, lambda rng, ask=said, x=images: ask(x, rng), lambda rng, ask=answered, x=images: ask(x, rng)),
            "logits whose softmax is the probabilities and, last, the rejected mass: mend them, or declare a surrogate",
        )


def each_image_by_itself(case: Case) -> None:
    """An image has the same answer alone, in a batch, in another order and in other company; on average, where it is
    randomised."""
    victim, images = case.defended(case.model()), case.images()
    more = torch.cat([images, torch.rand(images.shape, generator=case.rng(5), device=case.device)])
    for ask in shares(victim):
        ways: dict[str, Callable[[torch.Generator], Tensor]] = {
            "alone": lambda rng, ask=ask: torch.cat([ask(image[None], rng) for image in images]),
            "in another order": lambda rng, ask=ask: ask(images.flip(0), rng).flip(0),
            "in other company": lambda rng, ask=ask: ask(more, rng)[: len(images)],
        }
        for where, way in ways.items():
            by_itself = same(victim, way, lambda rng, ask=ask: ask(images, rng))
            hold(by_itself, f"each image of a batch to be treated by itself, got another answer {where}")


def memory_layout(case: Case) -> None:
    """It answers the same however the images lie in memory; on average, where it is randomised."""
    victim, images = case.defended(case.model()), case.images()
    for ask in shares(victim):
        alike = same(
            victim,
            lambda rng, ask=ask: ask(images.mT.contiguous().mT, rng),
            lambda rng, ask=ask: ask(images, rng),
        )
        hold(alike, "the same answer for images that are not contiguous: use reshape, not view")


# chance


def seeds(case: Case) -> None:
    """The generator of the call is its only chance: the same seed gives the same bits, wherever the streams of Python,
    NumPy and torch are, whatever was asked before, and when it is built again."""
    for inner in (case.model(), case.model(noisy=True)):
        built = []
        for seed in (1, 2):
            with global_streams(seed, case.device):
                built.append(case.defended(inner))
        for ask, rebuilt in zip(*map(calls, built), strict=True):
            found = []
            for turn, call in enumerate((ask, ask, ask, rebuilt)):
                with global_streams(turn, case.device):
                    found.append(call(case.images(), case.rng()))
            first, second, third, again = found
            hold(torch.equal(first, second) and torch.equal(second, third), "the same answer from the same seed")
            hold(torch.equal(first, again), "the same answer from the same seed when it is built again")


def chance(case: Case) -> None:
    """Another seed gives the same answer, unless it is `randomised`. If it is, it gives another one, and each copy of
    an image has a draw of its own."""
    for inner in (case.model(), case.model(noisy=True)):
        victim, images = case.defended(inner), case.usual().repeat_interleave(COPIES, 0)
        one, other = (victim.probabilities(images, case.rng(seed)) for seed in (0, 1))
        if victim.randomised:
            hold(not torch.equal(one, other), "another answer from another seed, or randomised=False")
            copies = one.unflatten(0, (-1, COPIES))
            hold(bool((copies != copies[:, :1]).any()), "a draw of its own for each image of a batch")
            continue
        hold(torch.equal(one, other), "randomised=True where another seed gives another answer")
        if victim.logits is not None:
            one, other = (calls(victim)[1](images, case.rng(seed)) for seed in (0, 1))
            hold(torch.equal(one, other), "randomised=True where another seed gives other logits")


# gradients


def gradient(case: Case) -> None:
    """Gradients are finite at every image in [0, 1], black and white included, and are not 0 at most of them."""
    for inner in (case.model(), case.model(rejects=True)):
        victim, images = case.defended(inner), case.images()
        if victim.logits is None:
            continue
        found = slopes(victim, images, case.rng())
        wrong = images[~found.isfinite()].tolist()
        hold(not wrong, f"finite gradients, got {len(wrong)} others, the first at a pixel of {wrong[:1]}")
        usual = case.usual()
        steep = int(slopes(victim, usual, case.rng()).flatten(1).any(1).sum())
        hold(
            2 * steep > len(usual),
            f"gradients that are not 0, got them at {steep} of {len(usual)} images: give a part without a gradient a "
            f"stand-in, and declare it in surrogates",
        )


def exactness(case: Case) -> None:
    """Where it declares no surrogate, finite differences confirm its gradients, its chance held fixed."""
    for inner in (case.model(), case.model(rejects=True)):
        victim = case.defended(inner)
        if victim.logits is None or victim.surrogates:
            continue
        # Away from ties and from 0 and 1, where sorting and clipping have no derivative.
        images = 0.1 + 0.8 * case.usual()
        images = images + 0.02 * torch.rand(images.shape, generator=case.rng(4), device=case.device)
        error = slope_error(victim, images)
        false = int((~(error <= SLOPE_ERROR)).sum())
        hold(
            false == 0,
            f"gradients that finite differences confirm, got others at {false} of {len(images)} images (relative error "
            f"up to {float(error.max()):.2g}): mend them, or declare a surrogate",
        )


EACH: tuple[Callable[[Case], None], ...] = (
    statements,
    inner_is_left,
    effect,
    without_gradient,
    composition,
    answers,
    agreement,
    each_image_by_itself,
    memory_layout,
    seeds,
    chance,
    gradient,
    exactness,
)


@dataclass(frozen=True)
class Check:
    """One check, bound to what it runs on. Call it: it raises AssertionError where the contract is broken."""

    name: str
    hold: Callable[[], None]

    def __call__(self) -> None:
        """Run it."""
        with settings_kept():
            self.hold()


def checks_of(example: Example, device: str = "cpu") -> Iterator[Check]:
    """Every check of an example, on images of each of its shapes, with model and images on `device`."""
    for shape in example.shapes:
        case = Case(example, shape, torch.device(device))
        for check in EACH:
            name = f"{example.name}-{check.__name__}-{'x'.join(map(str, shape))}"
            yield Check(name, lambda check=check, case=case: check(case))


def parametrize_with_checks(examples: Iterable[Example], device: str = "cpu") -> pytest.MarkDecorator:
    """A pytest decorator: the test below it is run once a check, as its argument `check`. Needs pytest."""
    import pytest

    found = [check for example in examples for check in checks_of(example, device)]
    return pytest.mark.parametrize("check", [pytest.param(check, id=check.name) for check in found])


__all__ = ["Check", "Example", "checks_of", "parametrize_with_checks"]
