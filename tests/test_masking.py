"""Masking is told from honest weakness of an attack: each of its tests, on ratios with known intervals."""

from __future__ import annotations

from typing import Any

import pytest
from foolbench.bench.scores.intervals import proportion, unmeasured
from foolbench.bench.scores.masking import masking, masking_by_transfer
from foolbench.leaderboard.record.record import AttackResult, Flag, Measure, TaskRow, TransferCell, Variant
from planted import TITLES

N = 200


def attack(task: str, k: int, mode: str = "gradient", *, share: float | None = None, **changes: Any) -> AttackResult:
    given: dict[str, Any] = {
        "title": "planted",
        "parameters": {"epsilon": 0.2, "targeted": False} if task == "perturb" else {},
        "fooling_ratio": proportion(k, N),
        "budget": 1,
        "task": task,
        "mode": mode,
        "tasks": [TaskRow(image=0, counts=True, fooled=True, share=share)],
    }
    return AttackResult(**(given | changes))


def step(epsilon: float, k: int, *, rejected: int = 0, targeted: bool = False) -> Variant:
    return Variant(
        title=f"ε = {epsilon}",
        parameters={"epsilon": epsilon, "targeted": targeted},
        fooling_ratio=proportion(k, N),
        rejected=proportion(rejected, N),
        budget=1,
    )


def smallest(alive: int, *, rejected: int = 0, largest: float = 1.0) -> Variant:
    """So many of 220 images, of which 20 were wrong before, that no step flips."""
    return Variant(
        title="smallest",
        parameters={"largest": largest, "coarse": 51, "bisections": 8},
        fooling_ratio=proportion(N - alive, N),
        robust_accuracy=proportion(alive, 220),
        rejected=proportion(rejected, N),
        budget=60,
    )


def verdicts(flags: Any) -> list[tuple[str | None, Any]]:
    found: list[Flag] = list(flags)
    assert all(f.code == "masking" and f.sentence.endswith(".") for f in found)
    return [(f.attack, f.evidence["test"]) for f in found]


@pytest.mark.parametrize(
    ("white", "black", "mode", "flagged"),
    [
        (100, 140, "gradient", True),  # [43, 57] and [63, 76]
        (100, 115, "gradient", False),  # [43, 57] and [51, 64]
        (100, 60, "gradient", False),
        (100, 140, "surrogate", False),  # says of itself that it saw no gradient
    ],
)
def test_a_black_box_beats_the_gradient(white: int, black: int, mode: str, flagged: bool) -> None:
    attacks = {
        "evolution": attack("fool", 90, "black_box"),
        "cppn": attack("fool", black, "black_box"),
        "gradient_ascent": attack("fool", white, mode),
    }
    found = list(masking(attacks, TITLES, 10))
    assert verdicts(found) == ([("gradient_ascent", "black_box")] if flagged else [])
    assert [f.evidence["stronger"] for f in found] == ["cppn"] * flagged


def test_what_was_not_measured_masks_nothing() -> None:
    nothing = attack("fool", 0, tasks=[], fooling_ratio=unmeasured("planted"))
    assert verdicts(masking({"gradient_ascent": nothing, "cppn": attack("fool", 200, "black_box")}, TITLES, 10)) == []
    assert verdicts(masking({"gradient_ascent": attack("fool", 0), "cppn": nothing}, TITLES, 10)) == []
    assert verdicts(masking({}, TITLES, 10)) == []


@pytest.mark.parametrize(
    ("larger", "rejected", "targeted", "flagged"),
    [
        (120, 0, False, True),  # of 200, after 160 at the headline
        (145, 0, False, False),  # overshoot within the intervals
        (120, 30, False, False),  # what is rejected has not been survived
        (120, 5, False, True),
        (2, 0, True, False),  # aimed at one class: another attack
    ],
)
def test_more_does_less(larger: int, rejected: int, targeted: bool, flagged: bool) -> None:
    variants = {"low": step(0.1, 100), "high": step(0.3, larger, rejected=rejected, targeted=targeted)}
    found = list(masking({"fgsm": attack("perturb", 160, variants=variants)}, TITLES, 10))
    assert verdicts(found) == ([("fgsm", "larger_epsilon")] if flagged else [])
    if flagged:
        assert (found[0].evidence["smaller"], found[0].evidence["larger"]) == (0.2, 0.3)


@pytest.mark.parametrize(
    ("alive", "rejected", "largest", "share", "flagged"),
    [
        (70, 0, 1.0, None, True),  # 32% [26, 38] of all images
        (60, 0, 1.0, None, False),  # 27% [22, 34]: one step misses up to 25% honestly
        (70, 0, 0.4, None, False),  # cannot make an image plain gray
        (70, 15, 1.0, None, False),
        (70, 0, 1.0, 0.7, False),  # stopped at a lucky draw
    ],
)
def test_unbounded_steps_reach_chance(
    alive: int, rejected: int, largest: float, share: float | None, flagged: bool
) -> None:
    variants = {"fgsm_smallest": smallest(alive, rejected=rejected, largest=largest)}
    found = masking({"fgsm": attack("perturb", 160, share=share, variants=variants)}, TITLES, 10)
    assert verdicts(found) == ([("fgsm", "unbounded")] if flagged else [])


def test_of_two_classes_half_is_chance() -> None:
    fgsm = {"fgsm": attack("perturb", 60, variants={"fgsm_smallest": smallest(110)})}
    assert verdicts(masking(fgsm, TITLES, 2)) == []
    assert verdicts(masking(fgsm, TITLES, 3)) == [("fgsm", "unbounded")]


def cell(source: str, victim: str, name: str, k: int, n: int) -> TransferCell:
    return TransferCell(
        source=source, victim=victim, attack=name, any_label=proportion(k, n), same_label=Measure(value=None)
    )


def test_images_of_other_models_beat_the_gradient() -> None:
    fgsm = {"fgsm": attack("perturb", 60)}
    strong, weak = cell("b", "submission", "fgsm", 110, 120), cell("a", "submission", "fgsm", 100, 180)
    (found,) = masking_by_transfer(fgsm, TITLES, [weak, strong])
    assert verdicts([found]) == [("fgsm", "transfer")]
    assert found.evidence["source"] == "b"
    assert found.evidence["stronger_ratio"] == 110 / N  # a lower bound, over the victim's own denominator
    # All of the 70 easy images on which this source was fooled are fooled: of 200 that is no more than the victim's 60.
    assert verdicts(masking_by_transfer(fgsm, TITLES, [cell("a", "submission", "fgsm", 70, 70)])) == []
    others = [cell("submission", "a", "fgsm", 190, 200), cell("a", "submission", "one_pixel", 190, 200)]
    assert verdicts(masking_by_transfer(fgsm, TITLES, others)) == []
    assert verdicts(masking_by_transfer({"fgsm": attack("perturb", 60, "surrogate")}, TITLES, [strong])) == []
    assert verdicts(masking_by_transfer(fgsm, TITLES, None)) == []
