"""What a declared surrogate does not excuse: logits that are not the answers, a gradient that leads nowhere, a
rejection that nobody can follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ...leaderboard.record.record import Statement
from ...models.base import Classifier
from ...models.levels import from_bytes
from ...models.slopes import Scorer, Slopes, compared, directions, gradient_of, log_odds, other_classes, vanishes
from ..asking.clean import NOWHERE, CleanAnswers
from ..asking.out_of_distribution import out_of_distribution
from .fixed_chance import DRAWS, FLOOR, Calls, mean_of, softmax_of

IMAGES = 16
"""How many evaluation images: the first whose gradient does not vanish."""
LOGIT_TOLERANCE = 0.05
"""By how much logits may differ from the answers, as a share of the spread of these."""
LEAST_COSINE = 0.25
"""Of a stand-in, at its best step: a gradient drawn at random has 0.06 by chance, now and then 0.2; one turned round
less than 0. Honest stand-ins of a coarse rounding can have as little (JPEG in front of a ResNet-20 on CIFAR-10: 0.07 to
0.24), so that those below are looked at a second time, where they are strongest: see LEAST_LEAD."""
REACHES = (1 / 16, 1 / 8, 1 / 4)
"""How far pixel values move under a stand-in, in units of [0, 1]: further than elsewhere, since a stand-in sees over
treads that are up to half of the range wide."""
LEAD_REACHES = (1 / 32, *REACHES)
"""The same where all pixel values move, along the gradient's signs: deep networks bend sooner."""
LEAD_IMAGES = 64
LEAST_LEAD = 0.65
"""Share of images on which a step along an image's own gradient raises the odds of other classes more than one along
the gradient of an image of another class, at the best of the steps. Of gradients drawn at random for each image it is
half, more than 0.65 of 64 in one case of a hundred at one step; of a gradient that is the same whatever the image, 0.
Measured of honest stand-ins: 0.84 to 1.00, but 0.69 of two bits and JPEG 30 before a ResNet-20 on CIFAR-10."""
SURE = 0.9
"""Share of the draws on which a randomised victim gives one label, for that label to be expected of its logits."""
VARIES = 0.5
"""By how much the rejected mass differs between images where a victim does reject."""


def stood_in(victim: Classifier, clean: CleanAnswers, calls: Calls) -> Iterator[Statement]:
    """The false statements of a victim that declares a surrogate."""
    assert clean.vanishes is not None
    images = from_bytes(clean.images[~clean.vanishes][:IMAGES])
    if len(images) == 0:
        return
    if (apart := _labels(calls, images) if victim.randomised else _values(calls, images)) is not None:
        yield Statement("logits", apart)
        return
    best = _slopes(victim, calls, images).best()
    if best is None or best >= LEAST_COSINE:
        return
    lead = _lead(victim, calls, from_bytes(clean.images[~clean.vanishes][:LEAD_IMAGES]))
    if lead is not None and lead < LEAST_LEAD:
        yield Statement(
            "gradient",
            "the gradient that stands in does not say how the answers change: along random directions the two have a "
            f"cosine of at most {best:.2f} on the median image (at least {LEAST_COSINE:g} is asked), and an image's "
            f"own gradient leads further than that of another class's image on at most {lead:.0%} of images (at "
            f"least {LEAST_LEAD:.0%})",
        )


def rejection(victim: Classifier, clean: CleanAnswers, calls: Calls) -> Iterator[Statement]:
    """Whether what rejects has a gradient, on clean images and others together, where some are rejected."""
    some = clean.images[: 2 * IMAGES]
    images = torch.cat([from_bytes(some), calls.rounded(out_of_distribution(some, calls.drawn("rejection")))])
    with torch.no_grad():
        kept = calls.answered(images)[:, -1]
    if float(kept.max() - kept.min()) < VARIES:
        return
    dead = torch.cat(calls.memory.in_blocks(images, lambda x: vanishes(gradient_of(calls.logits, x, _rejecting)[1])))
    share = float(dead.double().mean())
    if share > NOWHERE:
        yield Statement(
            "rejection",
            f"the odds of its rejection have no gradient on {share:.0%} of {len(images)} images, and yet they differ",
        )


def _rejecting(scores: Tensor) -> Tensor:
    side = torch.zeros_like(scores, dtype=torch.bool)
    side[:, -1] = True
    return side


def _values(calls: Calls, images: Tensor) -> str | None:
    """What is wrong with logits that are not the answers."""
    with torch.no_grad():
        answers = calls.answered(images).clamp_min(FLOOR).log()
        said = calls.logits(images).softmax(1).clamp_min(FLOOR).log()
    apart, spread = float((answers - said).abs().max()), float(answers.max() - answers.min())
    if apart <= LOGIT_TOLERANCE * spread:
        return None
    return f"its logits are not its answers: they differ by {apart:.3g} in a logarithm, of a spread of {spread:.3g}"


def _labels(calls: Calls, images: Tensor) -> str | None:
    """Of a randomised victim, whose stand-in may be smoother than a vote: other labels where the vote is clear."""
    answers = mean_of(calls.answered, images, 0)[:, : calls.victim.classes]
    said = mean_of(softmax_of(calls.logits), images, DRAWS)[:, : calls.victim.classes]
    sure = answers.amax(1) > SURE
    other = int((answers.argmax(1) != said.argmax(1))[sure].sum())
    if 2 * other <= int(sure.sum()):
        return None
    return f"on average its logits are of another class than its answers on {other} of {int(sure.sum())} images"


def _slopes(victim: Classifier, calls: Calls, images: Tensor) -> Slopes:
    """What is random may vote, and a stand-in of a vote is held to itself."""
    steps = _whole(REACHES, calls.top)
    ways = directions(images, calls.drawn("directions"), steps)
    side = partial(other_classes, rejects=victim.rejects)
    return compared(
        _held_to(victim, calls), calls.logits, images, ways, steps, side, calls.rounded, saturates=not victim.randomised
    )


def _held_to(victim: Classifier, calls: Calls) -> Scorer:
    return calls.logits if victim.randomised else calls.seen


def _lead(victim: Classifier, calls: Calls, images: Tensor) -> float | None:
    """Where own gradients lead further than others': see LEAST_LEAD. None where all images are of one class."""
    side = partial(other_classes, rejects=victim.rejects)
    found = calls.memory.in_blocks(images, lambda block: gradient_of(calls.logits, block, side))
    chosen, signs = torch.cat([c for c, _ in found]), torch.cat([g.nan_to_num(0, 0, 0).sign() for _, g in found])
    other = of_another_class(chosen)
    if other is None:
        return None
    answers, shares = _held_to(victim, calls), []

    @torch.no_grad()
    def rise(images: Tensor, chosen: Tensor, moves: Tensor) -> Tensor:
        up, down = (calls.rounded((images + way * moves).clamp(0, 1)) for way in (1, -1))
        return log_odds(answers(up), chosen) - log_odds(answers(down), chosen)

    for step in _whole(LEAD_REACHES, calls.top):
        own, theirs = (torch.cat(calls.memory.in_blocks(images, rise, chosen, step * s)) for s in (signs, signs[other]))
        shares.append(float((own > theirs).double().mean()))
    return max(shares)


def _whole(reaches: Sequence[float], top: int) -> tuple[float, ...]:
    """The reaches in whole gray levels, one at least."""
    return tuple(max(1, round(reach * top)) / top for reach in reaches)


def of_another_class(chosen: Tensor) -> Tensor | None:
    """`(n, columns)` bool: the columns of every class but an image's own -> `(n,)` int64: for each image the next of
    another class, the first after the last; None where some image has none."""
    differ = (chosen[:, None] != chosen[None]).any(2)
    if not bool(differ.any(1).all()):
        return None
    place = torch.arange(len(chosen), device=chosen.device)
    ahead = (place[None] - place[:, None]) % len(chosen)
    return ahead.masked_fill(~differ, len(chosen)).argmin(1)
