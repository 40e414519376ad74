"""Ranked rows: how long a task held out, that rows nest, and what a row's control says of it; on numbers by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foolbench.attacks.entry import Limit
from foolbench.bench.running.run import NEEDLESS, EntryFailure
from foolbench.bench.running.shards import ShardResult
from foolbench.bench.scores.rows import Lost
from foolbench.leaderboard.record.rows import RankedRow, RowResult, held_epsilon, held_queries
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import clean, entry, lost_at, outcome, plan, scoring

NAN = float("nan")
SEARCH = {"name": "evolution", "entries": ["evolution"], "first": 10}
NEST = {"name": "gradient_ascent", "entries": ["gradient_ascent", "evolution"], "first": 10}


def only(made: Any) -> RowResult:
    (row,) = made.results().values()
    return row


# how long a task holds out


def test_endurance_over_queries_is_logarithmic() -> None:
    lost = np.array([0, 1, 10, 100, 1000, 5000, NAN])
    assert held_queries(lost, 10, 1000).tolist() == pytest.approx([0, 0, 0, 0.5, 1, 1, 1])
    doubled = held_queries(np.array([20.0, 40.0, 80.0, 160.0]), 10, 1000)
    assert np.diff(doubled).tolist() == pytest.approx([np.log(2) / np.log(100)] * 3)  # each doubling is worth the same
    for budget in (10, 3):  # nothing to learn with
        assert held_queries(lost, 10, budget).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_endurance_over_epsilon_is_the_area_below() -> None:
    curve = [0.1, 0.2, 0.4]
    # Half of the way to where it was first seen lost, as a share of 0.4.
    held = held_epsilon(np.array([0.1, 0.2, 0.4, NAN]), curve)
    assert held.tolist() == pytest.approx([0.05 / 0.4, 0.15 / 0.4, 0.3 / 0.4, 1])
    # The mean over tasks is the area under robust accuracy, drawn from point to point, whatever the tasks.
    lost = np.random.default_rng(0).choice([*curve, NAN], 50)
    accuracy = [1.0] + [float(np.mean(~(lost <= epsilon + 1e-9))) for epsilon in curve]
    steps = np.diff([0.0, *curve])
    area = sum(w * (a + b) / 2 for w, a, b in zip(steps, accuracy[:-1], accuracy[1:], strict=True))
    assert held_epsilon(lost, curve).mean() == pytest.approx(area / 0.4)


def test_survival_is_of_the_whole_budget_or_of_the_headline() -> None:
    lost = np.array([0.1, 0.2, 0.4, NAN])
    within = RankedRow(name="linf", title="L∞", entries=["fgsm"], curve=[0.1, 0.2, 0.4], epsilon=0.2)
    assert within.stood(lost).tolist() == [False, False, True, True]
    assert RankedRow(name="a", title="A", entries=["a"], budget=10).stood(lost * 100).tolist() == [False] * 3 + [True]


def test_fool_rows_tell_the_flat_confidence_beside() -> None:
    made = lost_at(10, 100, 100, None, None, None, fooled_flat=[1, 0, 1, 0, 0, 0], first_flat=[100, -1, -1, -1, -1, -1])
    row = only(scoring(plan("evolution"), {"evolution": made}, [SEARCH]))
    assert (row.lost, row.by) == ([10, 100, 100, None, None, None], ["evolution"] * 3 + [None] * 3)
    assert row.lost_99 == [100, None, 1000, None, None, None]  # only the judge saw the last: all that was spent
    assert row.tasks == [(run, target) for run in range(3) for target in (0, 1)]
    assert (row.endurance.value, row.survival.value) == pytest.approx((4 / 6 * 4 / 6, 4 / 6 * 3 / 6))
    assert row.endurance_99 is not None
    assert row.survival_99 is not None
    assert (row.endurance_99.value, row.survival_99.value) == pytest.approx((4 / 6 * 5.5 / 6, 4 / 6 * 4 / 6))


def test_an_image_that_was_wrong_before_holds_out_for_no_time() -> None:
    row = only(scoring(plan("one_pixel"), {"one_pixel": lost_at(*[None] * 4, 10, None)}, ["one_pixel"]))
    assert row.counts == [True] * 4 + [False] * 2
    assert row.lost == row.by == [None] * 6
    assert row.endurance.value == row.survival.value == pytest.approx(4 / 6)
    assert row.endurance_99 is row.survival_99 is row.lift is None


# rows nest


def test_whichever_comes_first_counts_and_a_gradient_is_three_passes() -> None:
    results = {
        "gradient_ascent": lost_at(50, 20, None, None, 100, None),
        "evolution": lost_at(100, 100, 7, *[None] * 3),
    }
    made = scoring(plan(*results), results, [NEST])
    assert (made.rows[0].ranked.budget, made.rows[0].ranked.title) == (1000, "Gradient ascent")
    assert only(made).lost == [100, 60, 7, None, 300, None]
    assert only(made).by == ["evolution", "gradient_ascent", "evolution", None, "gradient_ascent", None]
    # Without gradients its looks are queries like any other's.
    blind = only(scoring(plan(*results), results, [NEST], gradient=False))
    assert blind.lost == [50, 20, 7, None, 100, None]


def test_an_attack_with_fewer_runs_is_gone_round() -> None:
    """A single run of a search nests in every run of the ascent: more starts of the ascent are no way past it."""
    entries = [*plan("gradient_ascent"), *plan("evolution", tasks=1)]
    results = {"gradient_ascent": lost_at(*[None] * 6), "evolution": lost_at(100, None)}
    row = only(scoring(entries, results, [NEST]))
    assert row.lost == [100, None] * 3


def test_blinding_a_white_box_attack_raises_nothing() -> None:
    """Where gradients find nothing, the row is worth what the search alone makes of it."""
    search = lost_at(100, 30, None, 7, 1000, None)
    both = {"gradient_ascent": lost_at(*[None] * 6), "evolution": search}
    blinded = only(scoring(plan(*both), both, [NEST]))
    alone = only(scoring(plan("evolution"), {"evolution": search}, [SEARCH]))
    assert blinded.lost == alone.lost
    assert (blinded.endurance.value, blinded.survival.value) == (alone.endurance.value, alone.survival.value)
    seeing = only(scoring(plan(*both), both | {"gradient_ascent": lost_at(*[10] * 6)}, [NEST]))
    assert (seeing.endurance.value or 0) < (blinded.endurance.value or 0)


def test_the_best_of_settings_counts_where_that_is_the_rule_and_the_headline_elsewhere() -> None:
    results = {"gradient_ascent_a": lost_at(50, *[None] * 5), "gradient_ascent_b": lost_at(None, 10, *[None] * 4)}
    for best_of, lost in ((True, [150, 30]), (False, [150, None])):
        entries = [entry(n, "gradient_ascent", tasks=3, best_of=best_of) for n in results]
        row = only(scoring(entries, results, ["gradient_ascent"]))
        assert row.lost[:2] == lost


def test_an_attack_that_was_needless_counts_nothing_and_one_that_failed_unmeasures_the_row() -> None:
    search = lost_at(100, *[None] * 5)
    needless, broken = EntryFailure(NEEDLESS, "it answers"), EntryFailure("FB501", "it broke")
    entries = plan("gradient_ascent", "evolution")
    row = only(scoring(entries, {"evolution": search, "gradient_ascent": needless}, [NEST]))
    assert row.lost == [100, *[None] * 5]
    failed = only(scoring(entries, {"evolution": search, "gradient_ascent": broken}, [NEST]))
    assert failed.endurance.value is failed.survival.value is None
    assert failed.endurance.reason == "FB501: it broke"
    nobody = only(scoring(entries, {"evolution": needless, "gradient_ascent": needless}, [NEST]))
    assert nobody.endurance.reason == "none of its attacks was run"


def test_what_a_single_step_takes_holds_out_for_no_time() -> None:
    """Where nothing is said of `first`, an attack's first look is not counted as learning."""
    step = scoring(plan("fgsm", budget=1), {"fgsm": lost_at(1, 1, None, None, 1, None)}, ["fgsm"])
    assert (step.rows[0].ranked.first, step.rows[0].ranked.budget) == (3, 3)
    assert only(step).endurance.value == only(step).survival.value == pytest.approx(2 / 6)
    search = scoring(plan("one_pixel"), {"one_pixel": lost_at(1, *[None] * 5)}, ["one_pixel"])
    assert search.rows[0].ranked.first == 1
    assert only(search).endurance.value == pytest.approx(3 / 6)
    assert (
        scoring(plan("fgsm"), {"fgsm": lost_at(*[1] * 6)}, [{"name": "a", "entries": ["fgsm"], "first": 7}])
        .rows[0]
        .ranked.first
        == 7
    )


def test_attacks_on_fewer_images_take_what_they_were_run_on() -> None:
    entries = [*plan("deepception", tasks=2), *plan("one_pixel", tasks=5)]
    results = {"deepception": lost_at(None, 20), "one_pixel": lost_at(10, None, None, 30, 40)}
    row = only(scoring(entries, results, [{"name": "both", "entries": ["deepception", "one_pixel"]}]))
    assert row.tasks == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
    assert row.lost == [10, 20, None, 30, None]  # the last was wrong before
    assert row.by == ["one_pixel", "deepception", None, "one_pixel", None]


passes = st.lists(st.none() | st.integers(1, 1200), min_size=6, max_size=6)


@given(first=passes, second=passes, perturb=st.booleans(), within=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_further_attack_never_makes_a_task_hold_out_longer(
    first: list[int | None], second: list[int | None], perturb: bool, within: bool
) -> None:
    one, two = ("deepception", "one_pixel") if perturb else ("evolution", "cppn")
    said: dict[str, Any] = {"name": "row", "first": 10}
    entries, results = plan(one, two), {one: lost_at(*first), two: lost_at(*second)}
    if perturb and within:
        said, entries = {"name": "row", "over": "epsilon"}, [e for n in (one, two) for e in curve_of(n)]
        results = {e.name: sized(e.limit.value if e.limit else 0, some) for e, some in zip(
            entries, (first, second, second, first), strict=True)}  # fmt: skip
    less = scoring(entries, results, [said | {"entries": [one]}])
    more = scoring(entries, results, [said | {"entries": [one, two]}])
    before, after = (made.rows[0] for made in (less, more))
    assert isinstance(before.lost, Lost)
    assert isinstance(after.lost, Lost)
    assert (after.ranked.held(after.lost.lost) <= before.ranked.held(before.lost.lost)).all()
    assert (after.ranked.stood(after.lost.lost) <= before.ranked.stood(before.lost.lost)).all()
    gap = [(only(made).endurance.value or 0) for made in (more, less)]
    assert gap[0] <= gap[1] + 1e-12


# rows over ε


def curve_of(name: str, **changes: Any) -> list[Any]:
    """Two settings of an attack, at the headline 0.2 and at 0.4."""
    grid = ((name, 0.2), (f"{name}_high", 0.4))
    return [entry(full, name, limit=Limit("linf", epsilon), **changes) for full, epsilon in grid]


def sized(epsilon: float, fooled: list[int | None]) -> ShardResult:
    """Images that a setting at this ε fooled, with changes of its size or half of it."""
    size = [epsilon / (1 + (when or 0) % 2) for when in fooled]
    return outcome([int(when is not None) for when in fooled], size=size)


def test_an_image_is_lost_at_the_smallest_epsilon_that_its_change_keeps_to() -> None:
    low, high = curve_of("fgsm")
    results = {
        low.name: outcome([1, 0, 0, 0, 1, 0], size=[0.2, 0.2, 0.2, 0.2, 0.1, NAN]),
        high.name: outcome([1, 1, 1, 0, 1, 0], size=[0.4, 0.4, 0.15, 0.4, 0.3, NAN]),
    }
    made = scoring([low, high], results, [{"name": "linf", "entries": ["fgsm"], "over": "epsilon"}])
    ranked, row = made.rows[0].ranked, only(made)
    assert (ranked.curve, ranked.epsilon) == ([0.2, 0.4], 0.2)
    assert row.lost == [0.2, 0.4, 0.2, None, None, None]  # the fifth was wrong before
    assert row.by == ["fgsm", "fgsm_high", "fgsm_high", None, None, None]
    assert row.endurance.value == pytest.approx((0.1 / 0.4 + 0.3 / 0.4 + 0.1 / 0.4 + 1) / 6)
    assert row.survival.value == pytest.approx(2 / 6)  # at the headline


def test_a_search_for_the_smallest_change_adds_to_the_row_and_not_to_its_grid() -> None:
    low, high = curve_of("fgsm")
    least = entry("fgsm_smallest", "fgsm", limit=Limit("linf", 1.0), smallest=True)
    results = {
        low.name: outcome([0] * 6),
        high.name: outcome([0] * 6),
        least.name: outcome([1, 1, 1, 1, 0, 0], size=[0.05, 0.2 + 0.4 / 255, 0.21, 0.9, NAN, NAN]),
    }
    made = scoring([low, high, least], results, [{"name": "linf", "entries": ["fgsm"], "over": "epsilon"}])
    assert made.rows[0].ranked.curve == [0.2, 0.4]
    assert only(made).lost == [0.2, 0.2, 0.4, None, None, None]  # rounding to bytes adds up to half a level


# controls


def test_lift_is_what_the_attack_adds_to_its_control() -> None:
    """A control of one run at the same classes, with a smaller budget: it is gone round, and the budget is common."""
    entries = [*plan("evolution"), *plan("noise", tasks=1, budget=100, control=True)]
    row = SEARCH | {"control": "noise"}
    sooner = {"evolution": lost_at(10, 10, 10, 10, 1000, None), "noise": lost_at(100, None, spent=[100, 100])}
    made = only(scoring(entries, sooner, [row], count=2000))
    # Within 100 passes four tasks hold out 0 and two 1; the control's always 1; all times the clean accuracy.
    assert made.lift is not None
    assert made.lift.value == pytest.approx(4 / 6 * (2 / 6 - 1))
    low, high = made.lift.low, made.lift.high
    assert low is not None
    assert high is not None
    assert low < 4 / 6 * (2 / 6 - 1) < high < 0
    assert made.words is None

    same = {"evolution": lost_at(100, None, 100, None, 100, None), "noise": lost_at(100, None, spent=[100, 100])}
    level = only(scoring(entries, same, [row]))
    assert level.lift is not None
    assert (level.lift.value, level.lift.low, level.lift.high) == (0, 0, 0)
    assert level.words is not None
    assert level.words.startswith("It fools no sooner than its control (Uniform noise)")

    later = {"evolution": lost_at(*[100] * 6), "noise": lost_at(10, 10)}
    worse = only(scoring(entries, later, [row]))
    assert worse.lift is not None
    assert worse.lift.value == pytest.approx(4 / 6)
    assert worse.words == level.words


def test_a_lift_needs_its_control() -> None:
    row, search = SEARCH | {"control": "noise"}, lost_at(*[None] * 6)
    entries = [*plan("evolution"), *plan("noise", tasks=1, control=True)]
    failed = only(scoring(entries, {"evolution": search, "noise": EntryFailure("FB500", "too much")}, [row]))
    assert failed.lift is not None
    assert failed.lift.reason == "its control was not measured: FB500: too much"
    assert failed.words is None
    assert failed.endurance.value == pytest.approx(4 / 6)
    others = [*plan("evolution"), *plan("noise", tasks=1, targets=(0,), control=True)]
    odd = only(scoring(others, {"evolution": search, "noise": lost_at(None)}, [row]))
    assert odd.lift is not None
    assert odd.lift.reason == "its control has other classes"
    never = scoring(entries, {"evolution": search, "noise": lost_at(None, None)}, [row], of=clean([1, 0, 1, 0, 1, -1]))
    assert only(never).endurance.value == 0
