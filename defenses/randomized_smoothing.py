"""Randomised smoothing with abstention."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.answers import label_of
from ..models.base import Classifier
from .images.gaussian_noise import noisy
from .images.preprocess import whole_number
from .parameters import number

_VALUES_AT_ONCE = 2**19
"""Pixel values of noisy images that are made at a time (2 MiB), so that memory does not grow with `samples`."""
_NOTHING = -87.0
"""The logarithm of as good as no probability: about the smallest normal float32."""


def randomized_smoothing(
    inner: Classifier, sigma: float, samples: int, alpha: float = 0.001, gradient_samples: int = 8
) -> Classifier:
    """Vote over noisy copies of the image, and abstain where the vote is close (Cohen, Rosenfeld, Kolter 2019, PREDICT
    of §3.2.1).

    The inner Classifier labels `samples` copies with independent N(0, sigma²) on every value. With n_A votes for the
    first class and n_B for the second, the two-sided binomial test of n_A in n_A + n_B at 1/2 decides: where its
    p-value is above `alpha` the answer is rejected with mass 1; elsewhere the probabilities are the shares of votes.
    An answer other than the true smoothed class's is then given with probability at most `alpha`.

    Departures: a copy that the inner Classifier itself rejects is a vote for "none of these", one more class; noisy
    copies are clipped to [0, 1], which every Classifier expects. Clipping belongs to the base classifier then, so the
    guarantee stands, but a network that was trained on unclipped noise sees other images than in training.

    Gradient: votes have none. `logits` are those of a declared stand-in: the logarithm of the mean softmax over
    `gradient_samples` noisy copies (Salman et al. 2019). It never abstains; its last column holds what the inner
    Classifier rejects.

    Cost: `samples` queries of the inner Classifier for each image, `gradient_samples` for a gradient.

    Raises:
        ValueError: `sigma`, in units of the pixel range, is not above 0 and at most 2; `samples` not a whole number
            from 1 to 100,000; `alpha` not above 0 and at most 0.5; `gradient_samples` not a whole number from 1 to 256.
    """
    name = "randomized_smoothing"
    sigma = number(name, "sigma", sigma, 0, 2)
    whole_number(name, "samples", samples, 1, 100_000)
    whole_number(name, "gradient_samples", gradient_samples, 1, 256)
    least = fewest_votes(samples, number(name, "alpha", alpha, 0, 0.5)).to(inner.device)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            votes = _votes(inner, images.detach(), sigma, samples, rng)
        first, second = votes.topk(2, dim=1).values.unbind(1)
        decided = first >= least[first + second]
        return torch.where(decided[:, None], votes[:, :-1] / samples, 0.0).float()

    inner_logits = inner.logits
    if inner_logits is None:
        return inner.defended(probabilities=probabilities, rejects=True, randomised=True)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        copies = images.repeat(gradient_samples, 1, 1, 1)
        logs = inner_logits(noisy(copies, sigma, rng), rng).log_softmax(1)
        logs = F.pad(logs, (0, inner.classes + 1 - logs.shape[1]), value=_NOTHING)
        return logs.unflatten(0, (gradient_samples, len(images))).logsumexp(0) - math.log(gradient_samples)

    return inner.defended(
        probabilities=probabilities,
        logits=logits,
        rejects=True,
        randomised=True,
        surrogates=(*inner.surrogates, name),
    )


def fewest_votes(samples: int, alpha: float) -> Tensor:
    """`(samples + 1,)` int64: of so many votes for the first two classes together, the fewest for the first at which
    the two-sided binomial p-value at 1/2 is at most `alpha`; more than there are where no number is enough.

    For n_A above n_B that p-value is `2 P(X >= n_A)`, X binomial: the distribution at 1/2 is symmetric.
    """
    from scipy.stats import binom  # on use: it takes half a second to import

    both = np.arange(samples + 1)
    fewest = binom.isf(alpha / 2, both, 0.5).astype(np.int64) + 1
    # The inverse is found by rounding; the tail itself decides.
    fewest -= 2 * binom.sf(fewest - 2, both, 0.5) <= alpha
    fewest += 2 * binom.sf(fewest - 1, both, 0.5) > alpha
    return torch.from_numpy(fewest)


def _votes(inner: Classifier, images: Tensor, sigma: float, samples: int, rng: torch.Generator) -> Tensor:
    """`(n, K + 1)` int64: how many noisy copies of each image have each label; rejected ones in the last column."""
    n, columns = len(images), inner.classes + 1
    votes = torch.zeros(n * columns, dtype=torch.int64, device=images.device)
    rows = torch.arange(n, device=images.device) * columns
    at_once = max(1, _VALUES_AT_ONCE // max(1, images.numel()))
    for start in range(0, samples, at_once):
        copies = min(at_once, samples - start)
        answer = inner.probabilities(noisy(images.repeat(copies, 1, 1, 1), sigma, rng), rng)
        label = label_of(answer, rejected=inner.classes)
        votes += torch.bincount(label + rows.repeat(copies), minlength=n * columns)
    return votes.view(n, columns)
