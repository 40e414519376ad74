"""Survival: what is left of clean accuracy under an attack. Its one definition, for scores, report and site."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from .record import AttackResult

Share = TypeVar("Share", float, np.ndarray)


def survives_fool(clean: Share, fooled: Share) -> Share:
    """Survival of a Fool attack: clean accuracy × (1 − fooling ratio), each in [0, 1]; numbers, or arrays of them."""
    return clean * (1 - fooled)


def survival_of(attack: AttackResult, clean: float | None) -> float | None:
    """0 to 1: robust accuracy under a Perturb attack, `survives_fool` under a Fool attack; None where not measured.

    `clean` is the victim's clean accuracy, 0 to 1, or None where that was not measured.
    """
    if attack.task == "perturb":
        return attack.robust_accuracy.value if attack.robust_accuracy else None
    fooled = attack.fooling_ratio.value
    return None if clean is None or fooled is None else survives_fool(clean, fooled)
