"""Evaluation smells: what a reader must know before believing the numbers. Pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from ...leaderboard.record.doubts import kind_of
from ...leaderboard.record.record import (
    AttackResult,
    Flag,
    Scores,
    Seen,
    Statement,
    TransferCell,
    Variant,
)
from .behaviour import behaviour
from .converged import not_converged
from .masking import masking, masking_by_transfer
from .single_step import single_step

REJECTS_CLEAN = 0.05
"""Clean rejection above which a victim is called useless on ordinary images."""
UNDERCONFIDENT = 0.1
"""A victim is underconfident when its clean confidence is above 1/K by less than this share of what its accuracy is."""


def flags_of(
    attacks: Mapping[str, AttackResult],
    scores: Scores,
    seen: Seen,
    titles: Mapping[str, str],
    transfer: Sequence[TransferCell] | None = None,
) -> list[Flag]:
    """All flags that this victim earns, in a fixed order. `titles`: what people read for each attack."""
    found: list[Flag | None] = [
        _randomised(seen),
        _misdeclared(seen.false_statements),
        _zero_gradient(seen.zero_gradient_share),
        *_dead_start(attacks),
        _gradient_mismatch(seen.mismatch),
        *masking(attacks, titles, seen.classes),
        *masking_by_transfer(attacks, titles, transfer),
        *single_step(attacks),
        _saturated(seen.tau),
        _underconfident(scores, seen),
        _rejects_clean(scores),
        *_surrogate(attacks),
        *not_converged(attacks, titles),
    ]
    kept = [*behaviour(seen), *(flag for flag in found if flag is not None)]
    return [flag.model_copy(update={"kind": kind_of(flag)}) for flag in kept]


def _randomised(seen: Seen) -> Flag | None:
    if not seen.randomised:
        return None
    if seen.difference > 0:
        what = f"Two queries of the same image got different answers (by up to {seen.difference:.3g})."
    else:
        what = "The victim declares that chance decides its answers, though no two queries of one image showed it."
    sentence = (
        f"{what} The judge asked about each image several times and counts the majority; if the model is meant to be "
        "deterministic, find out what in it is random."
    )
    evidence: dict[str, JsonValue] = {
        "largest_difference": seen.difference,
        "declared": "randomised" in seen.declares,
    }
    return Flag(code="randomised", sentence=sentence, evidence=evidence)


def _misdeclared(statements: Sequence[Statement]) -> Flag | None:
    if not statements:
        return None
    said = "; ".join(statement.finding for statement in statements)
    sentence = (
        f"What a defense states of itself is false: {said}. Attacks adapt to what is stated, so they may have been "
        "misled: declare what is random, what rejects and what has a stand-in for its gradient, and evaluate again."
    )
    evidence: dict[str, JsonValue] = {statement.what: statement.finding for statement in statements}
    return Flag(code="misdeclared", sentence=sentence, evidence=evidence)


def _zero_gradient(share: float | None) -> Flag | None:
    if share is None or share == 0:
        return None
    sentence = (
        f"The input gradient vanishes on {share:.1%} of the evaluation images, so gradient attacks are blind there. "
        "That is no robustness: trust the black-box rows, and give non-differentiable parts a surrogate gradient."
    )
    return Flag(code="zero_gradient", sentence=sentence, evidence={"share": share})


def _dead_start(attacks: Mapping[str, AttackResult]) -> Iterator[Flag]:
    """An ascent to a class that met no gradient at any of its starts: a look at each in each setting, and nothing to
    climb."""
    for name, attack in attacks.items():
        if attack.mode != "gradient" or attack.task != "fool":
            continue
        looks = sum(_looks(setting) for setting in attack.variants.values() or (attack,))
        stuck = sum(1 for row in attack.tasks if row.fooled is False and row.spent <= looks)
        if stuck == 0:
            continue
        sentence = (
            f"The gradient vanishes wherever the ascent starts (the mean training image with noise, or what other "
            f"attacks made) on {stuck} of {len(attack.tasks)} tasks, so the attack never moved there. That is no "
            "robustness: trust the black-box rows."
        )
        evidence: dict[str, JsonValue] = {"stuck": stuck, "tasks": len(attack.tasks)}
        yield Flag(code="zero_gradient", attack=name, sentence=sentence, evidence=evidence)


def _looks(setting: Variant) -> int:
    """What a setting of an ascent spends on a task that is dead at each of its starts, at most: a gradient at each, and
    where it may start at images of others, a query for each of those that it chooses from."""
    starts, asked, climbed = (setting.parameters.get(name) for name in ("starts", "asked", "climbed"))
    noise = len(starts) if isinstance(starts, list) else 1
    return noise + sum(count for count in (asked, climbed) if isinstance(count, int))


def _gradient_mismatch(reason: str | None) -> Flag | None:
    if reason is None:
        return None
    sentence = (
        f"The gradient of the model's torch copy could not be certified: {reason}. White-box rows come from what "
        "stands in for it: a copy whose roundings are passed straight through, where that could be, else transfer."
    )
    return Flag(code="gradient_mismatch", sentence=sentence, evidence={"reason": reason})


def _saturated(tau: float | None) -> Flag | None:
    if tau is None or tau < 1.0:
        return None
    sentence = (
        "τ is 1.0 in float32: the victim is so sure of clean images that only an equally sure fooling image counts, "
        "and small differences in confidence are lost. A network can give logits instead of probabilities, or smaller "
        "ones; votes (randomized_smoothing) are 1.0 wherever all copies agree, and less often so with more `samples`."
    )
    return Flag(code="saturated", sentence=sentence, evidence={"tau": tau})


def _underconfident(scores: Scores, seen: Seen) -> Flag | None:
    """Far better than chance, and yet hardly surer than chance: temperature, not doubt."""
    accuracy, chance = scores.clean_accuracy.low, 1 / seen.classes
    if seen.confidence is None or accuracy is None or accuracy <= chance:
        return None
    if seen.confidence - chance >= UNDERCONFIDENT * (accuracy - chance):
        return None
    sentence = (
        f"The victim is right far more often than by chance, and gives its right answers a median probability of only "
        f"{seen.confidence:.3g} ({chance:.3g} is chance). No image reaches 99% then, so that reading is void and low "
        "confidence is no defense: the fooling ratios at τ, the victim's own confidence, count."
    )
    evidence: dict[str, JsonValue] = {"median_confidence": seen.confidence, "chance": chance, "accuracy_low": accuracy}
    return Flag(code="underconfident", sentence=sentence, evidence=evidence)


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
                f"There was no gradient of this victim to use: {attack.mode_reason}. That is a lower bound on what an "
                "adaptive attack could do, and no sign of robustness: give the non-differentiable parts a surrogate "
                "gradient (BPDA), and evaluate again."
            )
            yield Flag(code="surrogate", attack=name, sentence=sentence, evidence={"reason": attack.mode_reason})
