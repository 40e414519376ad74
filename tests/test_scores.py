"""Rows to scores: intervals against closed forms and published values, and every definition on numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from foolbench.bench import evaluate
from foolbench.bench.asking.clean import tau_of
from foolbench.bench.running.run import EntryFailure
from foolbench.bench.scores.intervals import bootstrapped, proportion, resamples
from foolbench.bench.scores.scores import difference_of
from foolbench.leaderboard.record.record import Measure
from foolbench.models.levels import rounded
from outcomes import TITLED, clean, lost_at, outcome, plan, scoring, six
from planted import battery, flag_codes, halves, left_or_right, small


def closed_form(k: int, n: int) -> tuple[float, float]:
    """Wilson 1927, eq. as in Newcombe 1998."""
    z = 1.959963984540054
    centre, spread = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    return (centre - spread) / (n + z * z), (centre + spread) / (n + z * z)


def test_wilson_is_the_closed_form() -> None:
    for n in (1, 2, 7, 50, 200, 1000):
        for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
            measure = proportion(k, n)
            assert (measure.low, measure.high) == pytest.approx(closed_form(k, n), abs=1e-12), (k, n)
            assert (measure.value, measure.k, measure.n, measure.reason) == (k / n, k, n, None)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998(k: int, n: int, low: float, high: float) -> None:
    """Statistics in Medicine 17, table I, method 3."""
    measure = proportion(k, n)
    assert (round(measure.low or 0, 4), round(measure.high or 0, 4)) == (low, high)


def test_nothing_of_nothing_is_not_zero() -> None:
    assert proportion(0, 0, "nobody there") == Measure(value=None, k=0, n=0, reason="nobody there")


# Scores of outcomes.SIX by hand


def test_the_scores_are_means_of_the_rows() -> None:
    made = six(
        evolution=lost_at(10, 100, 1000, None, None, None),  # holds out 0, ½, 1, 1, 1, 1; three of six stand; times 4/6
        cppn=lost_at(1, 2, 3, 4, 5, 6),  # 0
        deepception=outcome([0, 0, 0, 0, 1, 0]),  # the wrong one again: 4/6
        one_pixel=lost_at(100, None, None, None, None, None),  # ½, 1, 1, 1 of six
        fgsm=lost_at(None, 10, 1, None, None, None),  # 30 and 3 passes: 1, ½, 0, 1 of six
    )  # gradient ascent: 4/6
    scores = made.scores()
    assert scores.robust_score.value == pytest.approx(
        100 * (4.5 / 6 * 4 / 6 + 0 + 4 / 6 + 3.5 / 6 + 2.5 / 6 + 4 / 6) / 6
    )
    assert scores.survival_score.value == pytest.approx(100 * (3 / 6 * 4 / 6 + 0 + 4 / 6 + 3 / 6 + 2 / 6 + 4 / 6) / 6)
    assert scores.worst_case.value == 0
    assert (scores.survives_all_perturb.k, scores.survives_all_perturb.n) == (1, 6)  # image 3 alone
    assert (scores.clean_accuracy.k, scores.clean_accuracy.n) == (4, 6)
    assert (scores.clean_rejection.k, scores.clean_rejection.n) == (1, 6)
    for score in (scores.robust_score, scores.survival_score):
        assert score.low is not None
        assert score.high is not None
        assert 0 < score.low < (score.value or 0) < score.high < 100
        assert score.k is score.n is None
    results = made.results()
    assert [results[name].endurance.value for name in TITLED] == pytest.approx(
        [4.5 / 6 * 4 / 6, 0, 4 / 6, 3.5 / 6, 2.5 / 6, 4 / 6]
    )
    assert 100 * np.mean([r.endurance.value for r in results.values()]) == pytest.approx(scores.robust_score.value)
    assert 100 * np.mean([r.survival.value for r in results.values()]) == pytest.approx(scores.survival_score.value)

    gentle = six(one_pixel=lost_at(1, None, None, None, None, None)).scores()
    assert gentle.worst_case.value == 0.5


def test_the_bootstrap_is_deterministic_and_of_the_right_width() -> None:
    made = six(one_pixel=lost_at(50, None, None, None, None, None))
    assert made.scores() == made.scores()
    assert made.results() == made.results()
    tally = made.tally()
    weights = [resamples(tally, 3, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(weights[0].images, weights[1].images)
    assert not np.array_equal(weights[0].images, weights[2].images)
    assert weights[0].images[0].tolist() == [1] * 6  # the sample itself comes first
    assert weights[0].images.sum(1).tolist() == [6] * 4
    assert sorted(weights[0].cells) == ["cppn", "evolution", "gradient_ascent"]
    assert not np.array_equal(weights[0].cells["cppn"], weights[0].cells["evolution"])
    # Of a proportion it is about the normal interval: here 200 tasks, half of them.
    draws = np.random.default_rng(0).binomial(200, 0.5, 2000) / 200
    half = bootstrapped(np.concatenate([[0.5], draws]))
    assert (half.low, half.high) == pytest.approx((0.5 - 1.96 * 0.0354, 0.5 + 1.96 * 0.0354), abs=0.006)
    # Nobody fooled by anything: the scores are the clean accuracy, and resampled like it (n = 6, p = 2/3).
    plain = six(count=4000).scores()
    for score in (plain.robust_score, plain.survival_score):
        assert score.value == pytest.approx(100 * 4 / 6)
        # binomial(6, 2/3): 2.5% and 97.5% points
        assert (score.low, score.high) == pytest.approx((100 * 2 / 6, 100.0))


def test_what_was_not_measured_makes_no_score() -> None:
    failed = {"cppn": EntryFailure("FB500", "too much"), "fgsm": EntryFailure("FB502", "no gradient")}
    made = six(**failed)
    scores, results = made.scores(), made.results()
    assert scores.robust_score.value is scores.survival_score.value is scores.worst_case.value is None
    assert scores.survives_all_perturb.value is None
    assert scores.robust_score.reason == "not measured: CPPN (indirect encoding), FGSM"
    assert scores.clean_accuracy.value is not None
    for name, reason in (("cppn", "FB500: too much"), ("fgsm", "FB502: no gradient")):
        assert results[name].endurance.value is results[name].survival.value is None
        assert results[name].endurance.reason == results[name].survival.reason == reason
        assert results[name].tasks == results[name].lost == []
    assert results["evolution"].endurance.value is not None
    assert six(fgsm=failed["fgsm"]).scores().survives_all_perturb.reason == (
        "not every attack on natural images was measured"
    )
    assert six(cppn=failed["cppn"]).scores().survives_all_perturb.k == 4


def test_a_victim_that_is_never_right_survives_nothing() -> None:
    useless = clean([1, 0, 1, 0, 1, -1], tau=None)
    made = six(useless)
    scores = made.scores()
    assert scores.robust_score.value == scores.survival_score.value == scores.worst_case.value == 0
    assert scores.clean_accuracy.value == 0
    assert (scores.robust_score.low, scores.robust_score.high) == (0, 0)
    assert all(row.endurance.value == row.survival.value == 0 for row in made.results().values())
    assert made.results()["fgsm"].counts == [False] * 6


def test_a_battery_that_ranks_nothing_has_no_score() -> None:
    scores = scoring([], {}, []).scores()
    assert scores.robust_score.reason == scores.worst_case.reason == "this battery ranks no attack"
    assert scores.survives_all_perturb.reason == "this battery ranks no attack on natural images"
    fooling = scoring(plan("cppn"), {"cppn": outcome([0] * 6)}, ["cppn"]).scores()
    assert fooling.robust_score.value is not None
    assert fooling.survives_all_perturb.reason == "this battery ranks no attack on natural images"


# The difference to the bare model

KEYS = {"clean_accuracy", "robust_score", "survival_score", *TITLED}


def test_the_difference_to_oneself_is_zero() -> None:
    made = six(evolution=lost_at(30, None, 40, None, None, None), fgsm=lost_at(None, 5, 7, None, None, None))
    difference = difference_of(made, made)
    assert set(difference) == KEYS
    assert all((m.value, m.low, m.high) == (0, 0, 0) for m in difference.values())


def test_the_difference_is_paired() -> None:
    """One image more holds out against one pixel for half of the budget, one run in six less against evolution."""
    mine = six(evolution=lost_at(1, *[None] * 5), one_pixel=lost_at(100, *[None] * 5), count=2000)
    theirs = six(one_pixel=lost_at(1, *[None] * 5), count=2000)
    difference = difference_of(mine, theirs)
    assert difference["one_pixel"].value == pytest.approx(0.5 / 6)
    assert difference["evolution"].value == pytest.approx(-4 / 6 / 6)
    assert difference["fgsm"].value == 0
    assert (difference["fgsm"].low, difference["fgsm"].high) == (0, 0)  # unpaired it would have a width
    assert difference["one_pixel"].low == 0  # no resample can turn it around
    assert difference["robust_score"].value == pytest.approx(100 * (0.5 / 6 - 4 / 36) / 6)
    assert difference["survival_score"].value == pytest.approx(100 * (-4 / 36) / 6)

    partial = difference_of(mine, six(cppn=EntryFailure("FB500", "too much")))
    assert set(partial) == KEYS - {"cppn"}
    for score in ("robust_score", "survival_score"):
        assert partial[score].value is None
        assert partial[score].reason == "not every ranked row was measured on both"


def test_a_defense_that_costs_accuracy_pays_for_it_in_every_row() -> None:
    costly = clean([0, 1, 0, 0, 1, -1])  # three right instead of four
    difference = difference_of(six(costly), six())
    assert all(difference[name].value == pytest.approx(-1 / 6) for name in (*TITLED, "clean_accuracy"))
    assert difference["robust_score"].value == pytest.approx(-100 / 6)


# τ


@pytest.mark.parametrize(
    ("count", "below"), [(1, 0), (19, 0), (20, 1), (39, 1), (40, 2), (100, 5), (199, 9), (200, 10)]
)
def test_tau_is_the_fifth_percentile(count: int, below: int) -> None:
    confidence = torch.rand(count, generator=torch.Generator().manual_seed(count))
    tau = tau_of(confidence, 0.05)
    assert tau is not None
    assert tau in confidence.tolist()
    assert int((confidence < tau).sum()) == below
    assert below <= 0.05 * count < below + 1


def test_tau_needs_a_right_answer() -> None:
    assert tau_of(torch.tensor([]), 0.05) is None


def test_scaling_logits_buys_nothing(tmp_path: Path) -> None:
    """With two classes order is all: the same images are found, and τ moves along. A flat 99% does not."""
    attacks = small(evolution={"runs": 3, "generations": 15})
    ratios, flats, taus = [], [], []
    for gain in (2.5, 7.5, 250.0):
        planted = battery(tmp_path / str(gain), *halves(20), attacks=attacks)
        run = evaluate(left_or_right(gain=gain), battery=planted, out=tmp_path / str(gain) / "run", device="cpu")
        found = run.record.attacks["evolution"]
        ratios.append(found.fooling_ratio.k)
        flats.append(found.fooling_ratio_99.k if found.fooling_ratio_99 else None)
        taus.append(run.record.tau)
        assert ("saturated" in flag_codes(run.record)) == (gain == 250)
    assert ratios[0] == ratios[1]
    assert 0 < (ratios[0] or 0) < 6
    assert flats[0] != flats[1]
    assert taus[0] is not None
    margin = math.log(taus[0] / (1 - taus[0]))
    assert taus[1] == pytest.approx(1 / (1 + math.exp(-3 * margin)), rel=1e-5)
    assert taus[2] == 1.0


def test_eight_bits_are_idempotent() -> None:
    images = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounded(rounded(images)), rounded(images))
