"""Outcomes to scores: intervals against closed forms and published values, and every definition on numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.attacks.entry import Entry, Limit
from foolbench.bench import evaluate
from foolbench.bench.asking.clean import CleanAnswers, tau_of
from foolbench.bench.asking.reading import reading_of
from foolbench.bench.running.run import EntryFailure
from foolbench.bench.running.shards import ShardResult, best_of, join
from foolbench.bench.scores.intervals import bootstrapped, proportion, resamples
from foolbench.bench.scores.scores import Mode, attack_results, difference_of, scores_of, tally_of
from foolbench.leaderboard.record.record import AttackResult, Measure
from foolbench.models.levels import rounded
from planted import RANKED, Idle, battery, flag_codes, halves, left_or_right, small

GRADIENT = Mode(gradient=True, reason=None, sources=0)


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


# Outcomes by hand: six evaluation images, of which the victim gets the first four right, one wrong, and rejects one.

TRUTH = [0, 1, 0, 1, 0, 1]
LABELS = [0, 1, 0, 1, 1, -1]


def clean(labels: list[int] = LABELS, tau: float | None = 0.9) -> CleanAnswers:
    """A victim's clean answers with these labels; least likely of image 0 is class 2, of the others class 1 or 0."""
    rows = {0: [0.8, 0.15, 0.05], 1: [0.05, 0.8, 0.15], -1: [0.2, 0.2, 0.1]}
    probabilities = torch.tensor([rows[label] for label in labels])
    reading = reading_of(probabilities)
    assert reading.label.tolist() == labels
    count = len(labels)
    return CleanAnswers(
        torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.tensor(TRUTH[:count]), reading, tau, False, 0.0, 0.0
    )


def entry(name: str, group: str | None = None, tasks: int = 6, **changes: Any) -> Entry:
    task = "perturb" if name.split("_")[0] in ("deepception", "one", "fgsm") else "fool"
    box = "white" if (group or name) in ("fgsm", "gradient_ascent") else "black"
    given: dict[str, Any] = {"budget": 100, "targets": () if task == "perturb" else (0, 1)}
    given["limit"] = Limit("pixels", 1) if task == "perturb" else None
    return Entry(name, group or name, name, Idle(), task, box, tasks, 2, **(given | changes))


def outcome(fooled: list[int], *, attacked: list[int] | None = None, **changes: Any) -> ShardResult:
    count = len(fooled)
    values: dict[str, Any] = {
        "images": np.zeros((count, 1, 2, 2), np.uint8),
        "attacked": np.array(attacked or [1] * count, bool),
        "fooled": np.array(fooled, bool),
        "fooled_flat": np.zeros(count, bool),
        "label": np.ones(count, np.int64),
        "confidence": np.linspace(0.5, 0.9, count, dtype=np.float32),
        "share": np.array(fooled, np.float32),
        "size": np.full(count, np.nan),
        "first": np.where(np.array(fooled, bool), 10 * np.arange(1, count + 1), -1),
        "spent": np.full(count, 100),
        "refused": np.array([""] * count),
        "counts": np.array([100 * count, 7, 0]),
        "seconds": np.array(1.5),
    }
    return ShardResult(**(values | {k: np.array(v) for k, v in changes.items()}))


ATTACKED = [1, 1, 1, 1, 1, 0]  # the rejected image has nothing to get away from


def result(name: str, made: ShardResult | EntryFailure, of: CleanAnswers | None = None, **changes: Any) -> AttackResult:
    one = entry(name, tasks=3 if name in ("evolution", "cppn", "gradient_ascent") else 6, **changes)
    return attack_results([one], {name: made}, of or clean(), GRADIENT)[one.group]


def test_a_perturb_attack_by_hand() -> None:
    made = outcome([1, 0, 1, 0, 1, 0], attacked=ATTACKED, size=[1, 1, 2, 1, 1, np.nan], label=[1, 1, 2, 1, 0, -1])
    attack = result("one_pixel", made)
    assert (attack.fooling_ratio.k, attack.fooling_ratio.n) == (2, 4)  # of those accepted and right
    assert attack.robust_accuracy is not None
    assert (attack.robust_accuracy.k, attack.robust_accuracy.n) == (2, 6)  # of all
    assert attack.label_change is not None
    assert (attack.label_change.k, attack.label_change.n) == (3, 6)  # the wrong one changed its label as well
    assert attack.fooling_ratio_99 is None
    assert attack.curve == [(10, 1), (30, 2)]
    assert attack.queries == 20
    assert attack.median_size == 1.5
    assert attack.median_confidence == pytest.approx((0.5 + 0.66) / 2)
    assert (attack.total_queries, attack.setup_queries, attack.gradients, attack.budget) == (600, 7, 0, 100)
    rows = attack.tasks
    assert [row.counts for row in rows] == [True, True, True, True, False, False]
    assert [row.fooled for row in rows] == [True, False, True, False, True, None]
    assert [row.queries for row in rows] == [10, None, 30, None, 50, None]
    assert [row.before for row in rows] == [0, 1, 0, 1, 1, None]
    assert [row.truth for row in rows] == TRUTH
    assert [row.image for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row.label for row in rows] == [1, 1, 2, 1, 0, None]
    assert [row.size for row in rows] == [1, 1, 2, 1, 1, None]
    assert all(row.run is row.target is row.share is None for row in rows)


def test_an_image_is_fooled_or_rejected_but_not_both() -> None:
    """Though a randomised victim may reject on the first draw what fools it on most."""
    made = outcome([1, 0, 1, 1, 0, 0], attacked=ATTACKED, label=[-1, -1, -1, 1, -1, -1])
    attack = result("one_pixel", made)
    assert attack.rejected is not None
    assert (attack.fooling_ratio.k, attack.rejected.k, attack.rejected.n) == (3, 1, 4)


def test_a_fool_attack_by_hand() -> None:
    made = outcome([1, 0, 1, 1, 0, 0], fooled_flat=[0, 0, 1, 1, 0, 0])
    attack = result("evolution", made)
    assert (attack.fooling_ratio.k, attack.fooling_ratio.n) == (3, 6)
    assert attack.fooling_ratio_99 is not None
    assert (attack.fooling_ratio_99.k, attack.fooling_ratio_99.n) == (2, 6)
    assert attack.robust_accuracy is attack.label_change is None
    assert [(row.run, row.target) for row in attack.tasks] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert all(row.image is row.truth is row.before is None for row in attack.tasks)
    assert attack.queries == 30
    assert attack.curve == [(10, 1), (30, 2), (40, 3)]


def test_what_only_the_judge_saw_cost_all_that_was_spent() -> None:
    made = outcome([1, 1, 0, 0, 0, 0], first=[-1, 20, -1, -1, -1, -1])
    assert [row.queries for row in result("one_pixel", made).tasks] == [100, 20, None, None, None, None]


def test_a_driver_that_hoped_in_vain_is_no_success() -> None:
    made = outcome([0] * 6, first=[5] * 6)
    attack = result("one_pixel", made)
    assert attack.fooling_ratio.k == 0
    assert attack.curve == []
    assert [row.queries for row in attack.tasks] == [None] * 6


def test_the_least_likely_class_may_not_be_the_truth() -> None:
    odd = clean()
    odd.truth[0] = 2  # then image 0 is not right, so it does not count either
    attack = result("fgsm", outcome([1] * 6, attacked=ATTACKED), odd, least_likely=True)
    assert attack.fooling_ratio.n == 3
    assert [row.target for row in attack.tasks] == [2, 0, 2, 0, 0, 2]


def test_only_some_images_may_be_attacked() -> None:
    attack = result("one_pixel", outcome([0, 1, 0]))
    assert (attack.fooling_ratio.k, attack.fooling_ratio.n) == (1, 3)
    assert attack.robust_accuracy is not None
    assert (attack.robust_accuracy.k, attack.robust_accuracy.n) == (2, 3)


def test_settings_are_merged_task_by_task() -> None:
    """Gradient ascent: the setting that fooled counts, and among those the surest; the first to get there is timed."""
    one = outcome(
        [1, 0, 1, 0],
        confidence=np.array([0.90, 0.5, 0.99, 0.30]),
        first=[40, -1, 30, -1],
        fooled_flat=[0, 0, 1, 0],
        images=np.full((4, 1, 2, 2), 1, np.uint8),
        counts=[0, 0, 400],
    )
    two = outcome(
        [1, 1, 0, 0],
        confidence=np.array([0.95, 0.4, 1.00, 0.20]),
        first=[60, -1, 10, -1],
        fooled_flat=[1, 0, 0, 0],
        images=np.full((4, 1, 2, 2), 2, np.uint8),
        spent=[80, 80, 80, 80],
        counts=[5, 0, 320],
    )
    best = best_of([one, two])
    assert best.fooled.tolist() == [True, True, True, False]
    assert best.fooled_flat.tolist() == [True, False, True, False]
    assert best.images[:, 0, 0, 0].tolist() == [2, 2, 1, 1]
    assert best.confidence.tolist() == [0.95, 0.4, 0.99, 0.30]
    # Task 1: only the judge saw it, so its own setting's spending. Task 2: the other setting's hope at 10 is none.
    assert best.first.tolist() == [40, 80, 30, -1]
    assert best.spent.tolist() == [180] * 4
    assert best.counts.tolist() == [5, 0, 720]

    entries = [
        entry(f"gradient_ascent_{title}", "gradient_ascent", tasks=2, best_of=True) for title in ("softmax", "logit")
    ]
    results = {entries[0].name: one, entries[1].name: two}
    merged = attack_results(entries, results, clean(), GRADIENT)["gradient_ascent"]
    assert (merged.fooling_ratio.k, merged.fooling_ratio.n) == (3, 4)
    assert [v.fooling_ratio.k for v in merged.variants.values()] == [2, 2]
    assert [row.variant for row in merged.tasks] == [entries[i].title for i in (1, 1, 0, 0)]
    assert all(row.queries is None or row.queries <= merged.budget for row in merged.tasks)

    broken: dict[str, ShardResult | EntryFailure] = results | {entries[1].name: EntryFailure("FB501", "it broke")}
    partial = attack_results(entries, broken, clean(), GRADIENT)["gradient_ascent"]
    assert partial.fooling_ratio.value is None
    assert partial.fooling_ratio.reason == "FB501: it broke"
    assert partial.variants[entries[0].name].fooling_ratio.k == 2


def test_the_best_of_settings_keeps_a_row_for_what_was_not_attacked() -> None:
    entries = [entry(f"fgsm_{title}", "fgsm", best_of=True) for title in ("one", "two")]
    sure = np.array([0.5, 0.6, 0.7, 0.8, 0.9, np.nan], np.float32)
    both = [outcome(fooled, attacked=ATTACKED, confidence=sure) for fooled in ([1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0])]
    rows = attack_results(entries, {e.name: r for e, r in zip(entries, both, strict=True)}, clean(), GRADIENT)["fgsm"]
    assert [row.variant for row in rows.tasks] == [entries[i].title for i in (0, 1, 0, 0, 0)] + [None]


def test_shards_are_joined_in_order() -> None:
    both = join([outcome([1, 0], counts=[1, 2, 3]), outcome([0], counts=[10, 20, 30], label=[-1])])
    assert both.fooled.tolist() == [True, False, False]
    assert both.label.tolist() == [1, 1, -1]
    assert both.counts.tolist() == [11, 22, 33]
    assert float(both.seconds) == 3
    assert join([outcome([1], batch=64), outcome([0], batch=16)]).batch == 16


# Scores


def six(of: CleanAnswers | None = None, **fooled: list[int]) -> dict[str, AttackResult]:
    """All six attacks: on 3 runs × 2 classes or 6 images."""
    nobody = [0] * 6
    perturbing = ("deepception", "one_pixel", "fgsm")
    made = {n: outcome(fooled.get(n, nobody), attacked=ATTACKED if n in perturbing else None) for n in RANKED}
    return {name: result(name, made[name], of) for name in RANKED}


def test_the_robust_score_is_the_mean_survival() -> None:
    attacks = six(
        evolution=[1, 1, 1, 0, 0, 0],  # survival 4/6 × 1/2
        cppn=[1, 1, 1, 1, 1, 1],  # 0
        deepception=[0, 0, 0, 0, 1, 0],  # the wrong one again: 4/6
        one_pixel=[1, 0, 0, 0, 0, 0],  # 3/6
        fgsm=[0, 1, 1, 0, 0, 0],  # 2/6
    )  # gradient ascent: 4/6
    scores = scores_of(attacks, RANKED, clean(), 500, "hand")
    assert scores.robust_score.value == pytest.approx(100 * (4 / 6 / 2 + 0 + 4 / 6 + 3 / 6 + 2 / 6 + 4 / 6) / 6)
    assert scores.worst_case.value == 0
    assert (scores.survives_all_perturb.k, scores.survives_all_perturb.n) == (1, 6)  # image 3 alone
    assert (scores.clean_accuracy.k, scores.clean_accuracy.n) == (4, 6)
    assert (scores.clean_rejection.k, scores.clean_rejection.n) == (1, 6)
    robust = scores.robust_score
    assert robust.low is not None
    assert robust.high is not None
    assert 0 < robust.low < (robust.value or 0) < robust.high < 100
    assert robust.k is robust.n is None

    gentle = scores_of(six(one_pixel=[1, 0, 0, 0, 0, 0]), RANKED, clean(), 500, "hand")
    assert gentle.worst_case.value == 0.5


def test_the_bootstrap_is_deterministic_and_of_the_right_width() -> None:
    attacks = six(one_pixel=[1, 0, 0, 0, 0, 0])
    once, again = (scores_of(attacks, RANKED, clean(), 500, "hand") for _ in range(2))
    assert once == again
    tally = tally_of(attacks, RANKED, clean())
    weights = [resamples(tally, 3, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(weights[0].images, weights[1].images)
    assert not np.array_equal(weights[0].images, weights[2].images)
    assert weights[0].images[0].tolist() == [1] * 6  # the sample itself comes first
    assert weights[0].images.sum(1).tolist() == [6] * 4
    assert not np.array_equal(weights[0].cells["cppn"], weights[0].cells["evolution"])
    # Of a proportion it is about the normal interval: here 200 tasks, half of them.
    draws = np.random.default_rng(0).binomial(200, 0.5, 2000) / 200
    made = bootstrapped(np.concatenate([[0.5], draws]))
    assert (made.low, made.high) == pytest.approx((0.5 - 1.96 * 0.0354, 0.5 + 1.96 * 0.0354), abs=0.006)
    # Nobody fooled by anything: the score is the clean accuracy, and resampled like it (n = 6, p = 2/3).
    plain = scores_of(six(), RANKED, clean(), 4000, "hand").robust_score
    assert plain.value == pytest.approx(100 * 4 / 6)
    assert (plain.low, plain.high) == pytest.approx((100 * 2 / 6, 100.0))  # binomial(6, 2/3): 2.5% and 97.5% points


def test_what_was_not_measured_makes_no_score() -> None:
    attacks = six()
    attacks["cppn"] = result("cppn", EntryFailure("FB500", "too much"))
    attacks["fgsm"] = result("fgsm", EntryFailure("FB502", "no gradient"))
    scores = scores_of(attacks, RANKED, clean(), 50, "hand")
    assert scores.robust_score.value is scores.worst_case.value is scores.survives_all_perturb.value is None
    assert scores.robust_score.reason == "not measured: CPPN (indirect encoding), FGSM"
    assert scores.clean_accuracy.value is not None
    assert attacks["fgsm"].fooling_ratio.value is attacks["fgsm"].fooling_ratio.k is None
    assert attacks["fgsm"].robust_accuracy is not None
    assert attacks["fgsm"].robust_accuracy.value is None
    assert attacks["cppn"].fooling_ratio_99 is not None
    assert attacks["cppn"].fooling_ratio_99.value is None


def test_a_victim_that_is_never_right_survives_nothing() -> None:
    useless = clean([1, 0, 1, 0, 1, -1][:6], tau=None)
    useless.truth[:] = torch.tensor([0, 1, 0, 1, 0, 1])
    attacks = six(useless)
    scores = scores_of(attacks, RANKED, useless, 50, "hand")
    assert scores.robust_score.value == scores.worst_case.value == scores.clean_accuracy.value == 0
    assert all(attack.fooling_ratio.value is None for attack in attacks.values())


def test_the_difference_to_oneself_is_zero() -> None:
    attacks = six(evolution=[1, 0, 1, 0, 0, 0], fgsm=[0, 1, 1, 0, 0, 0])
    difference = difference_of(attacks, clean(), attacks, clean(), tuple(RANKED), 200, "hand")
    assert set(difference) == {"clean_accuracy", "robust_score", *RANKED}
    assert all((m.value, m.low, m.high) == (0, 0, 0) for m in difference.values())


def test_the_difference_is_paired() -> None:
    """One image more survives one_pixel, one run in six less survives evolution, one more is right to begin with."""
    mine, theirs = six(evolution=[1, 0, 0, 0, 0, 0]), six(one_pixel=[1, 0, 0, 0, 0, 0])
    difference = difference_of(mine, clean(), theirs, clean(), tuple(RANKED), 2000, "hand")
    assert difference["one_pixel"].value == pytest.approx(1 / 6)
    assert difference["evolution"].value == pytest.approx(-4 / 6 / 6)
    assert difference["fgsm"].value == 0
    assert (difference["fgsm"].low, difference["fgsm"].high) == (0, 0)  # unpaired it would have a width
    assert difference["one_pixel"].low == 0  # no resample can turn it around
    assert difference["robust_score"].value == pytest.approx(100 * (1 / 6 - 4 / 36) / 6)

    theirs["cppn"] = result("cppn", EntryFailure("FB500", "too much"))
    partial = difference_of(mine, clean(), theirs, clean(), tuple(RANKED), 50, "hand")
    assert "cppn" not in partial
    assert partial["robust_score"].value is None
    assert partial["robust_score"].reason == "not every ranked attack was measured on both"


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
