"""What all detectors share: a score and a threshold become a rejection that attacks can differentiate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.answers import accepts
from ...models.base import Answer, Classifier
from .threshold import CleanImages, Threshold

Score = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""`(images (n, c, h, w), answer (n, K), rng)` -> `(n,)` float32, higher is more suspicious. `answer` is what the inner
Classifier says of these images: logits of the real classes, or their log-probabilities up to one number an image.
What already rejects has no part in it, so two detectors judge by the same answer in either order."""

SLOPE = 20.0
"""How steeply a rejection sets in, in natural logarithms of the odds for each spread of clean scores."""
_GAP = 0.01
"""What the odds of a rejection leave out around 1, so that no rounding of probabilities turns a decision."""
_FAR = 1e30
"""The largest distance from a threshold, in spreads: infinite scores must not make NaN."""
_IMAGES_AT_ONCE = 250


def reject_when(
    inner: Classifier,
    name: str,
    score: Score,
    at: Threshold | CleanImages,
    *,
    differentiable: Score | None = None,
    exact: bool = True,
    needs_logits: bool = False,
    slope: float = SLOPE,
) -> Classifier:
    """Reject what scores at least the threshold, beside what `inner` rejects already.

    Model and detector become one network with a rejecting output, after Carlini and Wagner 2017 ("Adversarial examples
    are not easily detected", the attack with perfect knowledge), whose rejecting logit is the largest class logit times
    one more than the detector's. Departure: here it does not depend on where the logits' zero is. With x the distance
    to the threshold in spreads of clean scores, it is the largest class logit plus

        slope * x            where x < 0: accepted,
        log(1 + slope * x)   where x >= 0: rejected,

    and 0.01 further from 0. So an image is accepted exactly when its score is below the threshold and `inner` accepts
    it; accepted images keep the model's own probabilities but for a thin band (at half a spread below the threshold a
    part of 5e-5 is missing); and the probabilities of rejected ones fall slowly enough to guide a search
    however far away they are, where a steeper law would leave a flat 0 and hide the slope. Where `inner` rejects
    too, the larger of the two logits counts, and their sum (above the largest class's) where both reject.

    Exact up to logits of about 1e5, beyond which float32 does not hold the 0.01.

    Args:
        inner: the Classifier to defend.
        name: what stands in `surrogates` unless the gradient is exact.
        score: evaluated for `probabilities`, without autograd.
        at: the threshold, or clean images to choose it by, on `inner`'s device.
        differentiable: the score that `logits` use; `score` itself where None. A part of it without
            a gradient adds none: the attacker then does not see the detector move.
        exact: whether the derivative of `differentiable` is that of `score` wherever that has one.
        needs_logits: whether the score is of logits as they are, which probabilities do not hold. `probabilities` then
            ask `inner.logits` too, on the same draw where `inner` is randomised.
        slope: see above.

    Returns:
        The defended Classifier, which rejects. Where `inner` has no logits it has none.

    Raises:
        ValueError: the score needs logits and there are none; or see `CleanImages.threshold`.
    """
    seen = differentiable or score
    inner_logits = inner.logits
    if needs_logits and inner_logits is None:
        raise Unexpected(
            f"a model with logits for {name}",
            f"one without ({inner.no_gradient})",
            "use a detector that looks at images or at probabilities",
        )

    def scored(images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The inner probabilities `(n, K)` and the score `(n,)`."""
        with torch.no_grad():
            images = images.detach()
            if not needs_logits or inner_logits is None:
                own = inner.probabilities(images, rng)
                return own, score(images, own.clamp_min(torch.finfo(own.dtype).tiny).log(), rng)
            answer = inner_logits(images, _twin(rng) if inner.randomised else rng)
            own = inner.probabilities(images, rng)
            return own, score(images, answer[:, : inner.classes], rng)

    threshold = at if isinstance(at, Threshold) else at.threshold(_clean_scores(scored, at))

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        own, scores = scored(images, rng)
        return _shrunk(own, _odds(scores, threshold, slope), inner.rejects)

    if inner_logits is None:
        return inner.defended(probabilities=probabilities, rejects=True)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        answer = inner_logits(images, rng)
        real = answer[:, : inner.classes]
        odds = _odds(seen(images, real, rng), threshold, slope)
        top = real.amax(1)
        if inner.rejects:
            odds = _both(answer[:, -1] - top, odds)
        return torch.cat([real, (top + odds)[:, None]], 1)

    surrogates = inner.surrogates if exact else (*inner.surrogates, name)
    return inner.defended(probabilities=probabilities, logits=logits, rejects=True, surrogates=surrogates)


def _twin(rng: torch.Generator) -> torch.Generator:
    """A generator that draws what `rng` is about to draw."""
    twin = torch.Generator(rng.device)
    twin.set_state(rng.get_state())
    return twin


def _clean_scores(scored: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]], at: CleanImages) -> Tensor:
    """Scores of the clean images that the inner Classifier accepts."""
    kept = []
    for images in at.images.split(_IMAGES_AT_ONCE):
        own, scores = scored(images, at.rng)
        kept.append(scores[accepts(own)])
    return torch.cat(kept)


def _odds(scores: Tensor, threshold: Threshold, slope: float) -> Tensor:
    """The logarithm of the odds of a rejection against the largest class, `(n,)`: below 0 exactly where accepted."""
    x = ((scores - threshold.value) / threshold.spread).clamp(-_FAR, _FAR)
    below = slope * x.clamp_max(0) - _GAP
    above = (slope * x.clamp_min(0)).log1p() + _GAP
    return torch.where(scores < threshold.value, below, above)


def _both(first: Tensor, second: Tensor) -> Tensor:
    """Two rejections in one: below 0 exactly where both are, continuous, and moved by both where both reject."""
    return torch.where((first > 0) & (second > 0), first + second, torch.maximum(first, second))


def _shrunk(own: Tensor, odds: Tensor, rejects: bool) -> Tensor:
    """Make room for the rejection: probabilities `(n, K)` -> the same, in proportion, with less mass."""
    top = own.amax(1).clamp_min(torch.finfo(own.dtype).tiny)
    mass = own.sum(1)
    if rejects:
        before = (1 - mass).clamp_min(0).log() - top.log()
        odds = _both(before, odds)
        kept = odds <= before  # nothing to add; to the bit as it was
    else:
        mass = torch.ones_like(mass)
        kept = torch.zeros_like(mass, dtype=torch.bool)
    # Numerator and denominator times exp(-odds) where odds are high, so that nothing overflows.
    high, low = (-odds.clamp_min(0)).exp(), odds.clamp_max(0).exp()
    share = high / (mass * high + top * low)
    return torch.where(kept[:, None], own, own * share[:, None])


def ask(inner: Classifier, images: Tensor, rng: torch.Generator, differentiable: bool) -> Tensor:
    """Log-probabilities `(n, K)` of the real classes alone; of `inner.logits` where a gradient is wanted."""
    call: Answer | None = inner.logits if differentiable else None
    if call is not None:
        return call(images, rng)[:, : inner.classes].log_softmax(1)
    answer = inner.probabilities(images, rng)
    return answer.clamp_min(torch.finfo(answer.dtype).tiny).log().log_softmax(1)
