"""Outcomes to the results of attacks, on numbers by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foolbench.bench.asking.clean import CleanAnswers
from foolbench.bench.running.run import EntryFailure
from foolbench.bench.running.shards import ShardResult, best_of, join
from foolbench.bench.scores.attack_results import attack_results
from foolbench.leaderboard.record.record import AttackResult
from outcomes import ATTACKED, GRADIENT, TRUTH, clean, entry, outcome


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
        first_flat=[-1, -1, 35, -1],
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
    assert best.first_flat.tolist() == [80, -1, 35, -1]
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


def test_an_attack_without_a_result_has_no_number() -> None:
    perturb, fool = (result(name, EntryFailure("FB502", "no gradient")) for name in ("fgsm", "cppn"))
    for attack in (perturb, fool):
        assert attack.fooling_ratio.value is attack.fooling_ratio.k is None
        assert attack.fooling_ratio.reason == "FB502: no gradient"
        assert attack.tasks == attack.curve == []
    assert perturb.robust_accuracy is not None
    assert perturb.robust_accuracy.value is None
    assert perturb.fooling_ratio_99 is fool.robust_accuracy is None
    assert fool.fooling_ratio_99 is not None
    assert fool.fooling_ratio_99.value is None


def test_without_a_right_answer_there_is_no_ratio() -> None:
    useless = clean([1, 0, 1, 0, 1, -1], tau=None)
    for name in ("fgsm", "cppn"):
        assert result(name, outcome([0] * 6), useless).fooling_ratio.value is None
