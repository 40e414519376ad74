"""The judge alone decides: what it refuses, what it rounds, and what counts as fooled."""

from __future__ import annotations

import pytest
import torch
from foolbench.attacks.entry import Limit
from foolbench.bench.asking.reading import hits_fool, hits_perturb, reading_of
from foolbench.bench.battery.ground import Asking
from foolbench.bench.errors import ModelFailure
from foolbench.bench.running.judge import Verdicts, judge_fool, judge_perturb
from foolbench.models.base import Classifier
from planted import CPU, Constant, classifier, seeded
from torch import Tensor

SHAPE = (3, 4, 4)
ALWAYS_ONE = classifier(Constant([0.0, 9.0]), SHAPE, 2)
"""Would be fooled by every image, were it up to the victim."""


def of_table(table: list[list[float]]) -> Classifier:
    """Answers by its table's rows, in order of the first pixel's gray level."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return torch.tensor(table)[(images[:, 0, 0, 0] * 255).round().long()]

    return Classifier(SHAPE, len(table[0]), CPU, probabilities, None)


def gray(*levels: int) -> Tensor:
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE).clone()


def perturb(
    victim: Classifier,
    finals: Tensor,
    originals: Tensor,
    limit: Limit,
    targets: Tensor | None = None,
    draws: int = 1,
) -> Verdicts:
    labels = torch.zeros(len(finals), dtype=torch.int64)
    return judge_perturb(
        victim, finals, originals, labels, targets, limit=limit, draws=draws, how=Asking(3), rng=seeded()
    )


def fool(victim: Classifier, finals: Tensor, targets: Tensor, tau: float = 0.8, draws: int = 1) -> Verdicts:
    return judge_fool(victim, finals, targets, tau=tau, flat=0.99, draws=draws, how=Asking(3), rng=seeded())


@pytest.mark.parametrize(
    ("epsilon", "levels", "kept"),
    [
        (8 / 255, 8, True),
        (8 / 255, 9, False),
        (8 / 255, 10, False),
        (0.1, 25, True),  # 25.5 gray levels: half a level of rounding either way
        (0.1, 26, True),
        (0.1, 27, False),
        (0.05, 13, True),  # 12.75
        (0.05, 14, False),
        (0.3, 76, True),  # 76.5
        (0.3, 77, True),
        (0.3, 78, False),
        (0.5 / 255, 1, True),
        (0.5 / 255, 2, False),
    ],
)
def test_the_largest_change_may_be_rounded_by_half_a_gray_level(epsilon: float, levels: int, kept: bool) -> None:
    originals = gray(100, 100, 100)
    finals = originals.float() / 255
    finals[0, 2, 3, 3] += levels / 255
    finals[1, 0, 0, 0] -= levels / 255
    verdicts = perturb(ALWAYS_ONE, finals, originals, Limit("linf", epsilon))
    assert verdicts.fooled.tolist() == [kept, kept, True]
    assert verdicts.share.tolist() == [float(kept), float(kept), 1]
    assert verdicts.size.tolist() == pytest.approx([levels / 255, levels / 255, 0])
    for refused in verdicts.refused[:2]:
        assert refused == ("" if kept else f"changed by {levels / 255:.4g}, limit L∞ ≤ {epsilon:g}")


def test_one_pixel_too_many_is_refused() -> None:
    originals = gray(*[50] * 4)
    finals = originals.float() / 255
    finals[0, :, 1, 2] = 1.0  # all channels of one pixel
    finals[1, 0, 1, 2], finals[1, 2, 3, 3] = 1.0, 51 / 255  # one channel each of two
    finals[2, 1] += 0.3 / 255  # less than what rounding keeps
    verdicts = perturb(ALWAYS_ONE, finals, originals, Limit("pixels", 1))
    assert verdicts.fooled.tolist() == [True, False, True, True]
    assert verdicts.size.tolist() == [1, 2, 0, 0]
    assert verdicts.refused == ["", "changed by 2, limit 1 pixel", "", ""]
    assert perturb(ALWAYS_ONE, finals, originals, Limit("pixels", 2)).fooled.all()


def test_a_patch_that_is_too_large_is_refused() -> None:
    originals = gray(50, 50)
    finals = originals.float() / 255
    finals[0, :, :2, :2] = 0.9
    finals[1, :, :2, :3] = 0.9
    verdicts = perturb(ALWAYS_ONE, finals, originals, Limit("pixels", 1 * 2**2))
    assert verdicts.fooled.tolist() == [True, False]
    assert verdicts.refused == ["", "changed by 6, limit 4 pixels"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1 + 5e-5, True),
        (-5e-5, True),
        (1 + 2e-4, False),
        (-2e-4, False),
        (255.0, False),
        (float("nan"), False),
        (float("inf"), False),
        (-float("inf"), False),
    ],
)
def test_pixels_outside_the_range_are_refused(value: float, kept: bool) -> None:
    finals = gray(255, 0).float() / 255
    finals[0, 1, 2, 3] = value
    for verdicts in (
        perturb(ALWAYS_ONE, finals, gray(255, 0), Limit("linf", 1.0)),
        fool(ALWAYS_ONE, finals, torch.tensor([1, 1])),
    ):
        assert verdicts.fooled.tolist() == verdicts.fooled_flat.tolist() == [kept, True]
        assert verdicts.share.tolist() == [float(kept), 1]
        assert bool(verdicts.refused[0]) is not kept
        assert verdicts.refused[1] == ""
        assert verdicts.images.dtype == torch.uint8
    if not kept:
        assert "limit 0 to 1" in verdicts.refused[0]


def test_the_rounded_image_is_what_is_judged() -> None:
    """Between two gray levels the victim would be fooled; on either of them it is not."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        level = images[:, 0, 0, 0] * 255
        fooled = (level - level.round()).abs() > 0.01
        return torch.nn.functional.one_hot(fooled.long(), 2).float()

    victim = Classifier(SHAPE, 2, CPU, probabilities, None)
    finals = (gray(7).float() + 0.4) / 255
    assert probabilities(finals, seeded()).tolist() == [[0, 1]]
    assert not perturb(victim, finals, gray(7), Limit("linf", 1.0)).fooled.any()
    assert perturb(victim, finals, gray(7), Limit("linf", 1.0)).images[0, 0, 0, 0] == 7
    assert not fool(victim, finals, torch.tensor([1])).fooled.any()


def test_who_is_fooled_by_a_perturbation() -> None:
    #         still 0          1            rejected           barely accepted   2
    table = [[0.9, 0.1, 0], [0.1, 0.9, 0], [0.1, 0.35, 0.1], [0.1, 0.45, 0.05], [0.1, 0.1, 0.8]]
    victim, finals = of_table(table), gray(0, 1, 2, 3, 4)
    verdicts = perturb(victim, finals.float() / 255, finals, Limit("linf", 0.1))
    assert verdicts.fooled.tolist() == [False, True, False, True, True]
    assert verdicts.label.tolist() == [0, 1, -1, 1, 2]
    assert verdicts.confidence.tolist() == pytest.approx([0.9, 0.9, 0.35, 0.45, 0.8])
    assert torch.equal(verdicts.fooled_flat, verdicts.fooled)
    aimed = perturb(victim, finals.float() / 255, finals, Limit("linf", 0.1), targets=torch.tensor([2] * 5))
    assert aimed.fooled.tolist() == [False, False, False, False, True]


def test_who_is_fooled_by_a_fooling_image() -> None:
    #         sure             at τ             below τ          other class      rejected at 0.4
    table = [[0.0, 1.0, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.9, 0.1, 0.0], [0.0, 0.4, 0.1]]
    victim, finals = of_table(table), gray(0, 1, 2, 3, 4).float() / 255
    tau = float(torch.tensor(0.8))
    verdicts = fool(victim, finals, torch.tensor([1] * 5), tau=tau)
    assert verdicts.fooled.tolist() == [True, True, False, False, False]
    assert verdicts.fooled_flat.tolist() == [True, False, False, False, False]
    assert verdicts.label.tolist() == [1, 1, 1, 0, -1]
    assert verdicts.confidence.tolist() == pytest.approx([1, 0.8, 0.7, 0.1, 0.4])  # of the target, whatever the label
    assert torch.isnan(verdicts.size).all()
    low = fool(victim, finals, torch.tensor([1] * 5), tau=0.3)
    assert low.fooled.tolist() == [True, True, True, False, False]  # a rejected image fools at no τ


def test_reading_accepts_only_more_than_the_rejected_mass() -> None:
    probabilities = torch.tensor([[0.5, 0.0], [0.5, 0.25], [0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    assert reading_of(probabilities).label.tolist() == [-1, 0, -1, 0, 0]
    assert hits_perturb(probabilities, torch.tensor([1] * 5), None).tolist() == [False, True, False, True, True]
    assert hits_fool(probabilities, torch.tensor([1, 0]), 0.5).tolist() == [
        [False, False],
        [False, True],
        [False, False],
        [False, True],
        [False, True],
    ]


def test_a_randomised_victim_must_be_fooled_on_most_draws() -> None:
    """It says class 1 on a share of its calls that is planted in each image."""
    calls = {"n": -1}

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        calls["n"] += 1
        fooled = (images[:, 0, 0, 0] * 255).round() > calls["n"] % 10
        return torch.nn.functional.one_hot(fooled.long(), 2).float()

    victim = Classifier(SHAPE, 2, CPU, probabilities, None, randomised=True)
    finals = gray(0, 5, 6)  # three images, so one batch a draw
    verdicts = perturb(victim, finals.float() / 255, finals, Limit("linf", 0.1), draws=10)
    assert calls["n"] == 9
    assert verdicts.share.tolist() == pytest.approx([0, 0.5, 0.6])
    assert verdicts.fooled.tolist() == [False, False, True]
    assert verdicts.label.tolist() == [0, 1, 1]  # of the first draw
    sure = fool(victim, finals.float() / 255, torch.tensor([1, 1, 1]), draws=10)
    assert calls["n"] == 19
    assert sure.share.tolist() == pytest.approx([0, 0.5, 0.6])
    assert sure.confidence.tolist() == pytest.approx([0, 0.5, 0.6])  # the mean over draws
    assert sure.fooled.tolist() == sure.fooled_flat.tolist() == [False, False, True]


def test_a_victim_that_fails_before_the_judge_is_a_model_failure() -> None:
    victim = of_table([[0.9, 0.9]])
    with pytest.raises(ModelFailure, match="FB300"):
        fool(victim, gray(0).float() / 255, torch.tensor([1]))
