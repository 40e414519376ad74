"""Gradient masking: white-box attacks that are blinded, told by what else fools the victim.

After the warning signs of Athalye, Carlini & Wagner 2018 (§3.1) and the checklist of Carlini et al. 2019. Pure
functions of a record's attacks and transfer cells. Two proportions differ where their 95% intervals lie apart. That
asks for more than a paired test would: an honest network loses a few images to the overshoot of one long step, which
pairing would call significant. Only rows whose mode is `gradient` are looked at: the others claim no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ...leaderboard.record.record import AttackResult, Flag, Measure, TransferCell, Variant
from .intervals import proportion

UNBOUNDED = 0.5
"""A change of every pixel by this much can turn any image into plain mid-gray, which has no label to keep."""
MISSED = 0.25
"""Share of images that one step of any length may fail to flip though no gradient is masked: on ordinary fully
connected ReLU networks up to 18% were measured, since a straight line soon leaves what the gradient describes."""

_ADVICE = (
    "The gradient points the wrong way, which is no robustness: believe the stronger attack, and give every "
    "non-differentiable or saturating part a surrogate gradient."
)


def masking(attacks: Mapping[str, AttackResult], titles: Mapping[str, str], classes: int) -> Iterator[Flag]:
    """What the victim's own rows tell: a black box beats the gradient, more ε does less, unbounded ε is survived."""
    yield from _black_box_wins(attacks, titles)
    for step in _steps_along_gradients(attacks, titles):
        yield from _more_does_less(step)
        yield from _unbounded_is_survived(step, classes)


@dataclass(frozen=True)
class _Step:
    """An attack that steps from natural images along the victim's own gradient."""

    name: str
    title: str
    result: AttackResult


def _steps_along_gradients(attacks: Mapping[str, AttackResult], titles: Mapping[str, str]) -> Iterator[_Step]:
    for name, attack in attacks.items():
        if attack.task == "perturb" and attack.mode == "gradient":
            yield _Step(name, titles[name], attack)


def masking_by_transfer(
    attacks: Mapping[str, AttackResult], titles: Mapping[str, str], cells: Sequence[TransferCell] | None
) -> Iterator[Flag]:
    """Other models' images of the same attack and limit beat the victim's own gradient.

    A cell counts only images on which the source was fooled and both are right, which may be the easy ones. So its
    successes are taken as a share of all images that the victim accepts and gets right: a lower bound on what the
    source's images do there, and the denominator of the victim's own ratio.
    """
    for step in _steps_along_gradients(attacks, titles):
        own = step.result.fooling_ratio
        found: list[tuple[float, str, Measure]] = []
        for cell in cells or ():
            if cell.attack == step.name and cell.victim == "submission" and cell.any_label.k and own.n:
                theirs = proportion(cell.any_label.k, own.n)
                if _apart(own, theirs):
                    found.append((theirs.value or 0.0, cell.source, theirs))
        if not found:
            continue
        _, source, theirs = max(found)
        sentence = (
            f"{step.title} images made on {source} fool {theirs.value:.1%} of what the victim gets right, its own "
            f"gradient at the same ε only {own.value:.1%}. {_ADVICE}"
        )
        evidence: dict[str, JsonValue] = {"test": "transfer", "source": source, **_pair(own, theirs)}
        yield Flag(code="masking", attack=step.name, sentence=sentence, evidence=evidence)


def _black_box_wins(attacks: Mapping[str, AttackResult], titles: Mapping[str, str]) -> Iterator[Flag]:
    """On the same task and within the same limit, an attack that sees no gradient fools more than one that does."""
    for white_name, white in attacks.items():
        if white.mode != "gradient":
            continue
        own = white.fooling_ratio
        black = [
            (name, other.fooling_ratio)
            for name, other in attacks.items()
            if other.mode == "black_box" and (other.task, other.limit) == (white.task, white.limit)
        ]
        better = [(ratio.value or 0.0, name, ratio) for name, ratio in black if _apart(own, ratio)]
        if better:
            _, name, theirs = max(better)
            sentence = (
                f"{titles[name]}, which sees no gradient, fools {theirs.value:.1%}, {_inside(titles[white_name])} only "
                f"{own.value:.1%}. {_ADVICE}"
            )
            evidence: dict[str, JsonValue] = {"test": "black_box", "stronger": name, **_pair(own, theirs)}
            yield Flag(code="masking", attack=white_name, sentence=sentence, evidence=evidence)


def _inside(title: str) -> str:
    """A title within a sentence: "gradient ascent", but "FGSM"."""
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _more_does_less(step: _Step) -> Iterator[Flag]:
    """The worst of all pairs of ε on the same images. Images that the longer step gets rejected are no loss of its."""
    worse = []
    steps = sorted(_lengths(step.result), key=lambda length: length[0])
    for i, (low, shorter) in enumerate(steps):
        for high, longer in steps[i + 1 :]:
            small, large = shorter.fooling_ratio, _turned(longer)
            if high > low and _apart(large, small):
                worse.append(((small.value or 0.0) - (large.value or 0.0), low, high, small, large))
    if worse:
        _, low, high, small, large = max(worse, key=lambda pair: pair[0])
        sentence = (
            f"{step.title} at ε = {high:.3g} gets {large.value:.1%} fooled or rejected, at the smaller ε = {low:.3g} "
            f"it fools {small.value:.1%}: the gradient holds close to the images only. {_ADVICE}"
        )
        evidence: dict[str, JsonValue] = {"test": "larger_epsilon", "smaller": low, "larger": high}
        yield Flag(code="masking", attack=step.name, sentence=sentence, evidence=evidence | _pair(large, small))


def _unbounded_is_survived(step: _Step, classes: int) -> Iterator[Flag]:
    """Whether more images stay accepted and right under steps of any length than a victim that sees nothing gets right,
    and than an honest step misses.

    Images that no step flips end at the longest one, where they may be rejected: that is no sign of a bad gradient.
    Nothing can be said where chance decides, since the search may stop at a lucky draw that the judge does not repeat.
    """
    if any(row.share is not None for row in step.result.tasks):
        return
    for variant in step.result.variants.values():
        largest, alive = variant.parameters.get("largest"), variant.robust_accuracy
        if not isinstance(largest, int | float) or largest < UNBOUNDED or alive is None or not alive.n:
            continue
        rejected = variant.rejected.k or 0 if variant.rejected is not None else 0
        alive = proportion((alive.k or 0) - rejected, alive.n)
        if alive.low is not None and alive.low > max(1 / classes, MISSED):
            sentence = (
                f"{alive.value:.1%} of all images stay accepted and right under {step.title} of every ε up to "
                f"{largest:.3g}, though chance is {1 / classes:.1%} and a step of {UNBOUNDED} can make any image plain "
                f"gray. What fails there is the attack, so the {step.title} rows overstate the robustness: believe the "
                "black-box rows, and give every non-differentiable or saturating part a surrogate gradient."
            )
            evidence: dict[str, JsonValue] = {
                "test": "unbounded",
                "largest": largest,
                "robust_accuracy": alive.value,
                "low": alive.low,
                "chance": 1 / classes,
            }
            yield Flag(code="masking", attack=step.name, sentence=sentence, evidence=evidence)


def _lengths(attack: AttackResult) -> Iterator[tuple[float, Variant]]:
    """ε of every untargeted setting of one ε."""
    settings: list[Variant] = [attack, *attack.variants.values()]
    for setting in settings:
        epsilon = setting.parameters.get("epsilon")
        if isinstance(epsilon, int | float) and not setting.parameters.get("targeted"):
            yield float(epsilon), setting


def _turned(setting: Variant) -> Measure:
    """Images that are fooled or rejected in the end, of those that were accepted and right."""
    fooled, rejected = setting.fooling_ratio, setting.rejected
    if not fooled.n or rejected is None or not rejected.k:
        return fooled
    return proportion((fooled.k or 0) + rejected.k, fooled.n)


def _apart(less: Measure, more: Measure) -> bool:
    """Whether the interval of `more` lies above that of `less`."""
    return less.high is not None and more.low is not None and more.low > less.high


def _pair(own: Measure, stronger: Measure) -> dict[str, JsonValue]:
    return {"ratio": own.value, "high": own.high, "stronger_ratio": stronger.value, "stronger_low": stronger.low}
