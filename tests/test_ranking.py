"""Who is ranked, and which ranks the data can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foolbench.leaderboard.board.board import headline
from foolbench.leaderboard.board.rank import SharedResamples, board, boards, tiers
from foolbench.leaderboard.record.bootstrap import interval
from foolbench.leaderboard.record.record import Record
from record_attacks import SIX, Recipe
from records import OTHERS, RECIPES, record


def with_row(made: Record, name: str, **changes: Any) -> Record:
    row = made.rows[name].model_copy(update=changes)
    return made.model_copy(update={"rows": made.rows | {name: row}})


def test_ranked_by_score_and_unranked_after_with_reasons() -> None:
    made = board([record(r) for r in RECIPES])
    values = [s.record.scores.robust_score.value or 0 for s in made.ranked]
    assert values == sorted(values, reverse=True)
    assert [s.rank for s in made.standings] == [1, 2, 3, 4, 5, 6, None, None]
    assert {s.reason for s in made.standings if s.rank is None} == {
        "FGSM: no result",
        "CPPN (indirect encoding): stopped: it asked for more than its budget",
    }
    shuffled = board([record(r) for r in reversed(RECIPES)])
    assert [(s.record.digest, s.rank, s.tier) for s in shuffled.standings] == [
        (s.record.digest, s.rank, s.tier) for s in made.standings
    ]


def test_equal_scores_share_rank_and_tier() -> None:
    one = record(RECIPES[1])
    twin = one.model_copy(update={"digest": "f" * 64})
    worse = record(Recipe("worse", 0.4, dict.fromkeys(SIX, 0.9), seed=30))
    made = board([worse, twin, one])
    assert [(s.rank, s.tier) for s in made.standings] == [(1, 1), (1, 1), (3, 2)]
    assert tiers([one], np.random.default_rng(0)) == [None]


def test_a_tier_reaches_as_far_as_chance() -> None:
    """One entry loses m further images to one pixel alone, before it has learned anything. Its score is lower by
    100 m / (6 * 60) for sure; the paired interval leaves out 0 once m is more than a resample can plausibly miss (each
    misses all with about e^-m)."""
    one = record(RECIPES[1])
    row = one.rows["one_pixel"]
    standing = [i for i, (lost, counts) in enumerate(zip(row.lost, row.counts, strict=True)) if counts and lost is None]

    def weaker(m: int, passes: float = 10) -> Record:
        lost = set(standing[:m])
        return with_row(one, "one_pixel", lost=[passes if i in lost else x for i, x in enumerate(row.lost)])

    assert tiers([one, weaker(2)], np.random.default_rng(1)) == [1, 1]
    assert tiers([one, weaker(8)], np.random.default_rng(1)) == [1, 2]
    resamples = SharedResamples(one, np.random.default_rng(2))
    assert interval(resamples.scores(one) - resamples.scores(one)) == (0.0, 0.0)
    low, high = interval(resamples.scores(one) - resamples.scores(weaker(8)))
    assert low < 100 * 8 / 360 < high
    # Lost in the middle of 10 to 5000 passes, on a logarithmic scale, costs half of that.
    half = resamples.scores(one) - resamples.scores(weaker(8, (10 * 5000) ** 0.5))
    assert half == pytest.approx((resamples.scores(one) - resamples.scores(weaker(8))) / 2)


def test_resamples_centre_on_the_score() -> None:
    for recipe in (RECIPES[2], RECIPES[3]):
        made = record(recipe)
        scores = SharedResamples(made, np.random.default_rng(3)).scores(made)
        assert np.mean(scores) == pytest.approx(made.scores.robust_score.value, abs=0.3)
        assert made.scores.survival_score.value is not None
        assert abs(np.mean(scores) - made.scores.survival_score.value) > 1  # endurance ranks


def test_records_on_other_tasks_are_not_compared() -> None:
    one = record(RECIPES[1])
    other = with_row(one, "fgsm", tasks=one.rows["fgsm"].tasks[:-1])
    with pytest.raises(ValueError, match="expected all records of digits-v1 to hold the same tasks of fgsm"):
        tiers([one, other], np.random.default_rng(0))


def test_batteries_never_mix() -> None:
    made = boards(record(r) for r in (*OTHERS, *RECIPES))
    assert [(b.battery.name, b.battery.tier, len(b.ranked)) for b in made] == [
        ("digits-v1", "standard", 6),
        ("digits-v1", "smoke", 0),
        ("my signs", "standard", 0),
    ]
    assert len({b.slug for b in made}) == 3
    assert made[1].standings[0].reason == "the smoke tier is never ranked"
    assert headline(made[1]) == "No entry of this board is ranked: the smoke tier is never ranked."
