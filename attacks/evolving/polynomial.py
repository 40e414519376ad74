"""Polynomial mutation: the step that both encodings of Nguyen 2015 share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def polynomial_mutation(genes: Tensor, rate: float, eta: float, rng: torch.Generator) -> Tensor:
    """Mutate each gene with probability `rate` by a polynomially distributed step, then clamp it to [0, 1].

    Deb & Goyal 1996, the plain form on a unit range: `(2u)^(1/(eta+1)) - 1` for u < 1/2, its mirror image above. It
    does not squeeze the step at the bounds (Deb's later bounded form does), as in the code released with Nguyen,
    Yosinski & Clune, CVPR 2015. The mean absolute step is 1/(eta+2): 1/17 at eta = 15.

    Args:
        genes: any shape, float in [0, 1]. Never written to.
        rate: probability that a gene mutates, in [0, 1]. At 0 the result equals `genes` bit for bit.
        eta: distribution index, at least 0; larger means smaller steps.
        rng: on the device of `genes`.

    Returns:
        A new tensor of the same shape, dtype and device.
    """
    mutant = genes.clone(memory_format=torch.contiguous_format)
    polynomial_mutation_(mutant, rate, eta, rng)
    return mutant


def polynomial_mutation_(genes: Tensor, rate: float, eta: float, rng: torch.Generator) -> None:
    """The same in place, for contiguous genes."""
    flat = genes.view(-1)
    hit = _bernoulli_indices(len(flat), rate, rng)
    side = torch.rand(hit.shape, generator=rng, dtype=genes.dtype, device=genes.device).mul_(-2.0).add_(1.0)
    step = side.abs().neg_().add_(1.0).pow_(1.0 / (eta + 1.0)).neg_().add_(1.0).copysign_(side)
    # No index comes twice, so the order of writing does not matter.
    flat.scatter_(0, hit, step.add_(flat.index_select(0, hit)).clamp_(0.0, 1.0))


def _bernoulli_indices(count: int, rate: float, rng: torch.Generator) -> Tensor:
    """`(m,)` int64, ascending: the successes among `count` independent trials.

    The gaps between successes are geometric, so that one random number a success is drawn, not one a trial.
    """
    if rate <= 0.0:
        return torch.zeros(0, dtype=torch.int64, device=rng.device)
    if rate >= 1.0:
        return torch.arange(count, device=rng.device)
    mean = count * rate
    draws = math.ceil(mean + 6.0 * math.sqrt(mean) + 8.0)  # seldom too few, and then more are drawn
    found = []
    last = -1
    while last < count:
        u = torch.rand(draws, generator=rng, device=rng.device)
        gaps = u.neg_().log1p_().div_(math.log1p(-rate)).long().add_(1)
        index = gaps.cumsum(0).add_(last)
        found.append(index)
        last = int(index[-1])
    index = torch.cat(found) if len(found) > 1 else found[0]
    return index[: int(torch.searchsorted(index, count))]
