"""What a declared surrogate does not excuse: logits that are not the answers, a gradient that leads nowhere, a
rejection that nobody can follow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ...leaderboard.record.record import Statement
from ...models.base import Classifier
from ...models.levels import from_bytes
from ...models.slopes import Slopes, compared, directions, gradient_of, other_classes, vanishes
from ..asking.clean import NOWHERE, CleanAnswers
from ..asking.out_of_distribution import out_of_distribution
from .fixed_chance import DRAWS, FLOOR, Calls, mean_of, softmax_of

IMAGES = 16
"""How many evaluation images: the first whose gradient does not vanish."""
LOGIT_TOLERANCE = 0.05
"""By how much logits may differ from the answers, as a share of the spread of these."""
LEAST_COSINE = 0.12
"""Of a stand-in, at its best step: a gradient drawn at random has 0.06 by chance, one turned round less than 0."""
REACHES = (1 / 16, 1 / 8, 1 / 4)
"""How far pixel values move under a stand-in, in units of [0, 1]: further than elsewhere, since a stand-in sees over
treads that are up to half of the range wide."""
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
    found = _slopes(victim, calls, images)
    best = found.best()
    if best is not None and best < LEAST_COSINE:
        yield Statement(
            "gradient",
            "the gradient that stands in does not say how the answers change: along random directions the two have a "
            f"cosine of at most {best:.2f} on the median image (at least {LEAST_COSINE:g} is asked)",
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
    steps = tuple(max(1, round(reach * calls.top)) / calls.top for reach in REACHES)
    ways = directions(images, calls.drawn("directions"), steps)
    answers = calls.logits if victim.randomised else calls.seen
    side = partial(other_classes, rejects=victim.rejects)
    return compared(answers, calls.logits, images, ways, steps, side, calls.rounded, saturates=not victim.randomised)
