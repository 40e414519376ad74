"""How much a victim's answers tell beyond a label. What withholds it blinds a search, and makes nothing safe."""

from __future__ import annotations

import numpy as np
import torch

from ...leaderboard.record.seen import FEW_IN_ALL, Informative
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..machine.seeds import generator
from .answers import victim_call

MIDDLE = (0.02, 0.98)
"""Where float32 probabilities have digits enough to be all different."""
SATURATED = 0.9999
"""Largest probabilities above this are counted as sure: there float32 itself has few different numbers."""
STEPS = tuple(sorted((*(10.0**-d for d in range(1, 6)), *(2.0**-b for b in range(1, 15)), 1 / 255), reverse=True))
"""What answers may be rounded to. By chance one value in 25 lies on a step, 30 values never do."""
LOOKS = 100
"""Images whose logits are looked at, at most."""


def informative(
    victim: Classifier, name: str, batch: int, images: np.ndarray, answers: np.ndarray
) -> Informative | None:
    """From `(n, K)` answers to `(n, c, h, w)` uint8 images of a victim that answers the same each time; None where
    nothing was asked. `name` is the battery's, and `batch` its batch, in which logits are looked at."""
    if len(images) == 0:
        return None
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    images, answers = images[np.sort(first)], answers[np.sort(first)]
    middle = answers[(answers > MIDDLE[0]) & (answers < MIDDLE[1])]
    sure = answers.max(1) >= SATURATED
    tops, labels = answers.max(1)[~sure], answers.argmax(1)[~sure]
    cap, capped = _most_common(tops, labels)
    return Informative(
        images=len(images),
        label_only=_label_only(answers),
        values=len(middle),
        # The last bits of float32 move with how many images fitted into memory; of few numbers six digits never do.
        distinct=min(len(np.unique(middle.astype(np.float64).round(6))), FEW_IN_ALL + 1),
        tops=len(tops),
        capped=capped,
        cap=cap,
        step=_step(middle),
        logits_tell=_logits_tell(victim, name, batch, images[:LOOKS]),
    )


def _most_common(tops: np.ndarray, labels: np.ndarray) -> tuple[float | None, int]:
    """The most common number among those that images of three labels have: all images of one look are no cap."""
    best: tuple[float | None, int] = (None, 0)
    values, where, counts = np.unique(tops.astype(np.float64).round(7), return_inverse=True, return_counts=True)
    for place in np.argsort(-counts, kind="stable")[:10]:
        if counts[place] > best[1] and len(np.unique(labels[where == place])) >= 3:
            best = float(values[place]), int(counts[place])
    return best


def _step(values: np.ndarray) -> float | None:
    """The coarsest of some steps that all of these float32 values lie on."""
    for step in STEPS if len(values) else ():
        turns = values.astype(np.float64) / step
        if np.abs(turns - turns.round()).max() < min(0.02, 1e-6 / step):
            return step
    return None


def _label_only(answers: np.ndarray) -> int:
    """Rows in which all probabilities but the largest are one number, to its last bits. Of two classes that says
    nothing, since the second is what the first leaves."""
    others = np.sort(answers, 1)[:, :-1]
    if others.shape[1] < 2:
        return int((answers.max(1) == 1).sum())
    return int((others[:, -1] - others[:, 0] <= 1e-6 * others[:, -1]).sum())


def _logits_tell(victim: Classifier, name: str, batch: int, images: np.ndarray) -> bool | None:
    if victim.logits is None:
        return None
    rng = generator(name, "informative", device=victim.device)
    with torch.no_grad():
        parts = from_bytes(torch.from_numpy(images)).to(victim.device).split(batch)
        logits = torch.cat([victim_call(victim.logits, part, rng) for part in parts])[:, : victim.classes]
    return _label_only(logits.double().softmax(1).cpu().numpy()) < 0.9 * len(images) or _rich(logits.cpu().numpy())


def _rich(logits: np.ndarray) -> bool:
    """Whether logits whose softmax is a label alone are different numbers for different images."""
    margins = np.sort(logits, 1)
    values = margins[:, -1] - margins[:, 0]
    return len(np.unique(values)) >= 0.7 * len(values)
