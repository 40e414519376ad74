"""From which score on a detector rejects: given, or chosen by the scores of clean images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ..parameters import number


@dataclass(frozen=True)
class Threshold:
    """A detector rejects an image exactly when its score is at least `value`."""

    value: float
    spread: float
    """How much scores of clean images differ from each other, above 0: the unit in which a detector's confidence and
    gradient measure the distance to the threshold. It moves no decision."""

    def __post_init__(self):
        if not math.isfinite(self.value) or not 0 < self.spread < math.inf:
            raise Unexpected(
                "a finite threshold and a spread above 0",
                f"{self.value} and {self.spread}",
                "give both in the unit of the score",
            )


@dataclass(frozen=True)
class CleanImages:
    """Clean images to choose a threshold by, as the detector will see them."""

    images: Tensor
    """`(m, c, h, w)` float32 in [0, 1]; the Classifier's evaluation images must not be among them. Those that it
    rejects without the detector do not count."""
    rng: torch.Generator
    """For whatever is random in the Classifier; on its device."""
    reject: float = 0.02
    """The share of them to reject: as near to it as their scores allow, and never more."""
    value: float | None = None
    """The threshold, where only the spread is to be measured."""

    def __post_init__(self):
        number("a detector", "reject", self.reject, 0, 0.5)

    def threshold(self, scores: Tensor) -> Threshold:
        """Choose by the scores `(m,)` of the images that the Classifier accepts.

        The spread is their standard deviation. Raises ValueError where there are fewer than 2, one is not finite, or
        all are equal.
        """
        if len(scores) < 2 or not bool(scores.isfinite().all()):
            finite = int(scores.isfinite().sum())
            raise Unexpected(
                "finite scores of at least 2 clean images that the model accepts",
                f"{finite} of {len(scores)}",
                "look for a model or a detector that fails on the training images",
            )
        spread = float(scores.double().std())
        if bool((scores == scores[0]).all()) or not spread > 0:
            raise Unexpected(
                "scores that differ between clean images",
                f"{float(scores[0]):g} for all {len(scores)}",
                "the detector sees nothing in them; use another one",
            )
        return Threshold(self._between(scores) if self.value is None else self.value, spread)

    def _between(self, scores: Tensor) -> float:
        """Half-way from the highest score that is to be accepted to the next higher one there is."""
        ranked = scores.sort(descending=True).values
        # 0.29 of 100 is 28.999999999999996 in binary, and means 29.
        accepted = ranked[math.floor(round(self.reject * len(ranked), 9))]
        higher = ranked[ranked > accepted]
        least = higher[-1] if len(higher) else accepted.nextafter(torch.full_like(accepted, math.inf))
        middle = accepted + (least - accepted) / 2
        # In float32, since that is what scores are compared in; between neighbours there is nothing.
        return float(middle if middle > accepted else least)
