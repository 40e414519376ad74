"""What a defended victim states of itself (what is random, what rejects, exact gradients, logits that are its answers),
checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...leaderboard.record.record import Statement
from ...models.base import Classifier
from ...models.certificate import AtLevels, Certificate, certify
from ...models.levels import from_bytes
from ..asking.clean import CleanAnswers, examine_images
from ..battery.ground import Ground
from ..machine.memory import sparing
from .fixed_chance import FLOOR, Calls, apart_on_average, softmax_of
from .stand_ins import IMAGES, rejection, stood_in

TOLERANCE = 0.3
"""Largest median relative error of autograd in float32. Where many kinks lie close together (sorting, clipping) honest
defenses show up to 0.14; the gradient of something else shows about 1."""
STEP = 1e-4
"""Of the finite differences. Shorter than where a model is certified by itself, since sorting has kinks everywhere."""
KEPT = 1.001e-3
"""A mass larger than this that is kept from the classes is a rejection; of probabilities as a model gives them, a
thousandth may be missing (models/head.py)."""


def false_statements(
    victim: Classifier, clean: CleanAnswers, ground: Ground, *, certified: bool, model: Classifier | None = None
) -> tuple[Statement, ...]:
    """The victim's statements that are not true. Costs about 400 looks at the victim; and, where one defense could hide
    what is wrong with another, about 1,000 at each part of the chain.

    Gradients are checked where they do not vanish (a gradient of 0 has a flag of its own): as exact ones where no
    surrogate is declared, at infinitesimal steps and at whole gray levels, else as stand-ins (see stand_ins.py); of a
    randomised victim with its generator set back before each call. Not again where the
    model by itself is the victim, and was `certified` when it was loaded, in double precision. `model` is that model,
    behind the victim's defenses.
    """
    found = list(_of_the_whole(victim, clean, ground, certified))
    if victim.surrogates or victim.randomised or victim.rejects or victim.logits is None:
        found += _of_the_parts(victim, clean, ground, model)
    return tuple(found)


def _of_the_whole(victim: Classifier, clean: CleanAnswers, ground: Ground, certified: bool) -> Iterator[Statement]:
    if clean.randomised and not victim.randomised:
        finding = f"it declares nothing random, and two answers to one image differed by {clean.difference:.3g}"
        yield Statement("deterministic", finding)
    if clean.most_rejected > KEPT and not victim.rejects:
        yield Statement(
            "rejection", f"it declares no rejection, and kept {clean.most_rejected:.3g} of an answer from the classes"
        )
    if victim.logits is None or certified:
        return
    calls = Calls(victim, ground)
    columns, expected = calls.logits(from_bytes(clean.images[:1])).shape[1], calls.columns
    if columns != expected:
        yield Statement("logits", f"its logits have {columns} columns, and what it declares asks for {expected}")
    elif clean.randomised != victim.randomised:
        return
    elif victim.surrogates:
        yield from stood_in(victim, clean, calls)
    else:
        yield from _gradient(victim, clean, calls)
    if victim.rejects and not victim.randomised:
        yield from rejection(victim, clean, calls)


def _of_the_parts(
    victim: Classifier, clean: CleanAnswers, ground: Ground, model: Classifier | None
) -> Iterator[Statement]:
    """The innermost part that states something false: what stands behind some of the defenses, or one defense in front
    of the model alone. There, a surrogate or chance that another defense declares hides nothing."""
    images, truth = clean.images[: 2 * IMAGES], clean.truth[: 2 * IMAGES]
    for what, where, part in _parts(victim, model):
        spared = sparing(part, ground.memory)
        seen = examine_images(spared, ground, images, truth)
        wrong = list(_of_the_whole(spared, seen, ground, False))
        if wrong:
            yield from (Statement(f"{s.what} {what}", f"{where}, {s.finding}") for s in wrong)
            return


def _parts(victim: Classifier, model: Classifier | None) -> Iterator[tuple[str, str, Classifier]]:
    """What can be looked at by itself, from the model outwards, each with where it is, short and in words."""
    chain = [victim]
    while (inner := chain[-1].behind) is not None and inner is not model:
        chain.append(inner)
    for i in reversed(range(len(chain))):
        if i > 0:
            yield f"behind defense {i}", f"without the first {i} of its defenses", chain[i]
        if (alone := chain[i].alone) is not None:
            yield f"of defense {i + 1}", f"with its defense {i + 1} alone", alone


def _gradient(victim: Classifier, clean: CleanAnswers, calls: Calls) -> Iterator[Statement]:
    assert clean.vanishes is not None
    images = from_bytes(clean.images[~clean.vanishes][:IMAGES])
    if len(images) == 0:
        return
    if not victim.randomised:
        found = _certified(calls.logarithms, calls, images)
        if not found.mismatch and found.slope_cosine is None:  # saturated: its logits say more than its answers
            found = _certified(lambda x: calls.logits(x).detach(), calls, images, own=True)
        if found.mismatch:
            yield Statement("gradient", f"it declares no surrogate, and {found.reason}")
        return
    with torch.no_grad():
        moved = max(
            float((ask(images) - ask(images)).abs().max()) for ask in (calls.answered, softmax_of(calls.logits))
        )
    if moved > FLOOR:
        finding = f"with its generator set back, two answers to one image differed by {moved:.3g}"
        yield Statement("chance", f"{finding}: what is random must come from the generator that is handed in")
    elif _certified(calls.logarithms, calls, images).mismatch:
        # It may draw in another order for its answers than for its logits. Then these are held to their own
        # differences, and to the answers on average.
        own = _certified(lambda x: calls.logits(x).detach(), calls, images, own=True)
        if own.mismatch:
            yield Statement("gradient", f"it declares no surrogate, and with its chance fixed, {own.reason}")
        elif (apart := apart_on_average(calls, images)) is not None:
            yield Statement("logits", apart)


def _certified(
    reference: Callable[[Tensor], Tensor], calls: Calls, images: Tensor, *, own: bool = False
) -> Certificate:
    """The gradient held to a reference; at whole gray levels to the answers, or to the logits themselves (`own`)."""
    # In equal parts, each with its generator set back: the same chance moves an image otherwise beside fewer others.
    return certify(  # in float32 it takes 1000 times the step
        reference,
        calls.logits,
        images,
        calls.drawn("jitter"),
        room=calls.memory,
        rejects=calls.victim.rejects,
        floor=torch.tensor(FLOOR).log().item(),
        logit_tolerance=0.05,
        gradient_tolerance=TOLERANCE,
        zero_limit=2.0,
        step=STEP / 1000,
        levels=AtLevels(calls.steps, reference if own else calls.seen, calls.rounded, saturates=not own),
    )
