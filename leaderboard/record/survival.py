"""Survival: what is left of clean accuracy under one attack, for report and site; rows have theirs in rows.py."""

from __future__ import annotations

from .record import AttackResult


def survival_of(attack: AttackResult, clean: float | None) -> float | None:
    """0 to 1: robust accuracy under a Perturb attack, clean accuracy × (1 − fooling ratio) under a Fool attack; None
    where not measured.

    `clean` is the victim's clean accuracy, 0 to 1, or None where that was not measured.
    """
    if attack.task == "perturb":
        return attack.robust_accuracy.value if attack.robust_accuracy else None
    fooled = attack.fooling_ratio.value
    return None if clean is None or fooled is None else clean * (1 - fooled)
