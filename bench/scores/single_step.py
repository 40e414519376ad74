"""What one step of the gradient leaves and many steps take: robustness that one step alone would report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from ...attacks.fgsm import ATTACK as FGSM
from ...attacks.projected_ascent import ATTACK as PROJECTED
from ...leaderboard.record.record import AttackResult, Flag, Measure


def single_step(attacks: Mapping[str, AttackResult]) -> Iterator[Flag]:
    """At the ε where it shows most: projected ascent, which takes many steps, fools more than one step does, and the
    95% intervals lie apart. Both were run on the same images, by the victim's own gradient."""
    one, many = attacks.get(FGSM.name), attacks.get(PROJECTED.name)
    if one is None or many is None or (one.mode, many.mode) != ("gradient", "gradient"):
        return
    theirs = _by_limit(many)
    found: list[tuple[float, str, Measure, Measure]] = []
    for limit, step in _by_limit(one).items():
        steps = theirs.get(limit)
        if steps is None or step.high is None or steps.low is None or steps.low <= step.high:
            continue
        found.append(((steps.value or 0.0) - (step.value or 0.0), limit, step, steps))
    if not found:
        return
    gap, limit, step, steps = max(found, key=lambda apart: apart[0])
    sentence = (
        f"Within {limit}, one step of the gradient fools {step.value:.1%} and many steps {steps.value:.1%}. What a "
        "single step leaves says little of robustness, and the row over ε counts the stronger already. Networks "
        "trained on single steps show it most: train on several (`foolbench harden --how adversarial --attack pgd`)."
    )
    evidence: dict[str, JsonValue] = {"limit": limit, "gap": gap, "one_step": step.value, "many_steps": steps.value}
    yield Flag(code="single_step", attack=FGSM.name, sentence=sentence, evidence=evidence)


def _by_limit(attack: AttackResult) -> dict[str, Measure]:
    """Fooling ratios by limit, of settings that any other label will do for; the first of a limit."""
    found: dict[str, Measure] = {}
    for variant in (attack, *attack.variants.values()):
        aimed = variant.parameters.get("targeted", False)
        if variant.limit is not None and variant.fooling_ratio.value is not None and not aimed:
            found.setdefault(variant.limit, variant.fooling_ratio)
    return found
