"""The mean of several models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.errors import Unexpected
from ..models.base import Answer, Classifier

_NOTHING = -87.0
"""The logarithm of as good as no probability: about the smallest normal float32."""


def ensemble(inner: Classifier, others: Sequence[Classifier]) -> Classifier:
    """Answer with the mean of the probabilities of `inner` and of the others (Lakshminarayanan et al. 2017, §2.4).

    Rejected masses are averaged likewise, a member that never rejects counting as 0. The members draw one after the
    other from the one generator.

    Gradient: exact; logits are the logarithm of the mean probabilities. None where a member has none. A member's
    surrogates are the ensemble's.

    Raises:
        ValueError: there are no others, or they differ from `inner` in shape, classes or device.
    """
    members = (inner, *others)
    if len(members) < 2:
        raise Unexpected("at least 1 further model for ensemble", "0", "name one, or leave it out")
    for other in others:
        mine, its = ((m.shape, m.classes, m.device) for m in (inner, other))
        if its != mine:
            raise Unexpected(
                f"every model of an ensemble to have the same shape, classes and device {mine}",
                its,
                "load all of them for one battery and device",
            )
    rejects = any(member.rejects for member in members)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        answers = [member.probabilities(images, rng) for member in members]
        return torch.stack(answers).mean(0)

    calls = [member.logits for member in members if member.logits is not None]

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return _mean(calls, images, rng, inner.classes + rejects)

    blind = next((member for member in members if member.logits is None), None)
    return inner.defended(
        probabilities=probabilities,
        logits=logits if blind is None else None,
        rejects=rejects,
        randomised=any(member.randomised for member in members),
        surrogates=tuple(dict.fromkeys(name for member in members for name in member.surrogates)),
        no_gradient=None if blind is None else blind.no_gradient,
    )


def _mean(calls: Sequence[Answer], images: Tensor, rng: torch.Generator, columns: int) -> Tensor:
    """The logarithm of the mean of the members' probabilities, `(n, columns)`."""
    logs = [call(images, rng).log_softmax(1) for call in calls]
    logs = [F.pad(log, (0, columns - log.shape[1]), value=_NOTHING) for log in logs]
    return torch.stack(logs).logsumexp(0) - math.log(len(logs))
