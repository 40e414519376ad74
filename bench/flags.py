"""Evaluation smells: what a reader must know before believing the numbers. Pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from ..leaderboard.record import ATTACKS, TITLES, AttackResult, Flag, Scores

REJECTS_CLEAN = 0.05
"""Clean rejection above which a victim is called useless on ordinary images."""
LAST_TENTH = 0.9


def flags_of(
    attacks: Mapping[str, AttackResult],
    scores: Scores,
    *,
    tau: float | None,
    randomised: bool,
    difference: float,
    zero_gradient_share: float | None,
    mismatch: str | None,
) -> list[Flag]:
    """All flags that this victim earns, in a fixed order."""
    found: list[Flag | None] = [
        _randomised(randomised, difference),
        _zero_gradient(zero_gradient_share),
        _dead_start(attacks),
        _gradient_mismatch(mismatch),
        _saturated(tau),
        _rejects_clean(scores),
        *_surrogate(attacks),
        *_not_converged(attacks),
    ]
    return [flag for flag in found if flag is not None]


def _randomised(randomised: bool, difference: float) -> Flag | None:
    if not randomised:
        return None
    sentence = (
        "Two queries of the same image got different answers. The judge asked about each image several times and "
        "counts the majority; if the model is meant to be deterministic, find out what in it is random."
    )
    return Flag(code="randomised", sentence=sentence, evidence={"largest_difference": difference})


def _zero_gradient(share: float | None) -> Flag | None:
    if share is None or share == 0:
        return None
    sentence = (
        f"The input gradient vanishes on {share:.1%} of the evaluation images, so gradient attacks are blind there. "
        "That is no robustness: trust the black-box rows, and give non-differentiable parts a surrogate gradient."
    )
    return Flag(code="zero_gradient", sentence=sentence, evidence={"share": share})


def _dead_start(attacks: Mapping[str, AttackResult]) -> Flag | None:
    """Gradient ascent that met no gradient where it starts: one look a setting, and nothing to climb."""
    attack = attacks.get("gradient_ascent")
    if attack is None or attack.mode != "gradient":
        return None
    looks = max(len(attack.variants), 1)
    stuck = sum(1 for row in attack.tasks if row.fooled is False and row.spent <= looks)
    if stuck == 0:
        return None
    sentence = (
        f"The gradient vanishes where the ascent starts (the mean training image and a little noise) on {stuck} of "
        f"{len(attack.tasks)} tasks, so the attack never moved there. That is no robustness: trust the black-box rows."
    )
    evidence: dict[str, JsonValue] = {"stuck": stuck, "tasks": len(attack.tasks)}
    return Flag(code="zero_gradient", attack="gradient_ascent", sentence=sentence, evidence=evidence)


def _gradient_mismatch(reason: str | None) -> Flag | None:
    if reason is None:
        return None
    sentence = (
        f"The torch copy of the model could not be certified: {reason}. White-box rows come from transfer instead."
    )
    return Flag(code="gradient_mismatch", sentence=sentence, evidence={"reason": reason})


def _saturated(tau: float | None) -> Flag | None:
    if tau is None or tau < 1.0:
        return None
    sentence = (
        "τ is 1.0 in float32: the victim is so sure of clean images that only an equally sure fooling image counts, "
        "and small differences in confidence are lost. Give logits instead of probabilities, or smaller ones."
    )
    return Flag(code="saturated", sentence=sentence, evidence={"tau": tau})


def _rejects_clean(scores: Scores) -> Flag | None:
    rejection = scores.clean_rejection.value
    if rejection is None or rejection <= REJECTS_CLEAN:
        return None
    sentence = (
        f"The victim rejects {rejection:.1%} of ordinary images (more than {REJECTS_CLEAN:.0%}). Rejections count "
        "against clean accuracy and so against every survival; lower the detector's threshold."
    )
    return Flag(code="rejects_clean", sentence=sentence, evidence={"clean_rejection": rejection})


def _surrogate(attacks: Mapping[str, AttackResult]) -> Iterator[Flag]:
    for name, attack in attacks.items():
        if attack.mode == "surrogate" and attack.tasks:
            sentence = (
                f"There was no gradient of this victim to use: {attack.mode_reason}. The row holds the best transfer "
                "attack from the panel, a lower bound on what an adaptive attack could do."
            )
            yield Flag(code="surrogate", attack=name, sentence=sentence, evidence={"reason": attack.mode_reason})


def _not_converged(attacks: Mapping[str, AttackResult]) -> Iterator[Flag]:
    for name in ATTACKS:
        attack = attacks.get(name)
        if attack is None or attack.mode == "surrogate":
            continue
        ratio = attack.fooling_ratio
        if attack.budget < 10 or ratio.value is None or ratio.low is None or ratio.high is None or not ratio.n:
            continue
        late = sum(
            1 for row in attack.tasks if row.counts and row.fooled and (row.queries or 0) > LAST_TENTH * attack.budget
        )
        gain, half_width = late / ratio.n, (ratio.high - ratio.low) / 2
        if gain > half_width:
            sentence = (
                f"{TITLES[name]} was still gaining when its budget ended: the last tenth of the queries fooled {late} "
                f"more tasks of {ratio.n}. The true fooling ratio is higher; read it as a lower bound."
            )
            yield Flag(
                code="not_converged", attack=name, sentence=sentence, evidence={"gain": gain, "half_width": half_width}
            )
