"""The budgets of a shipped battery, by hand."""

from __future__ import annotations

from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.entries import entries


def test_a_battery_s_numbers_are_those_that_its_attacks_spend() -> None:
    """The shipped budgets, by hand: what a reader of digits-v1.yaml would work out."""
    budgets = {e.name: (e.budget, e.setup, e.tasks) for e in entries(read_battery("digits-v1"))}
    assert budgets["evolution"] == budgets["cppn"] == (50_000, 0, 5)
    assert budgets["noise"] == budgets["random_cppn"] == (50_000, 0, 1)
    assert budgets["one_pixel"] == budgets["one_pixel_5"] == (100 * 51, 0, 100)
    assert budgets["fgsm"] == budgets["fgsm_least_likely"] == (1, 0, 200)
    assert budgets["fgsm_smallest"] == (1 + 16, 0, 200)
    scanned = [budgets[name] for name in ("deepception", "deepception_mean_color", "deepception_shuffled")]
    assert scanned == [(1000, 20 + 10 * 7 * 7, 200)] * 3
    assert budgets["deepception_noise"] == budgets["deepception_random_donor"] == (1000, 20, 200)
    ascent = {name: value for name, value in budgets.items() if name.startswith("gradient_ascent")}
    assert len(ascent) == 4 + 2
    assert ascent.pop("gradient_ascent_adam") == (200, 0, 5)
    assert ascent.pop("gradient_ascent_borrowed") == (32 + 200, 0, 5)
    assert all(tasks == 5 and 500 <= budget <= 501 for budget, _, tasks in ascent.values())
    assert budgets["projected_ascent"] == budgets["projected_ascent_5_16"] == ((2 * 2 + 3) * (2 * 100 + 1), 0, 200)
    assert budgets["projected_ascent_everywhere"] == (2 * 2 * (2 * 100 + 1), 0, 200)
    assert budgets["transfer_1_16"] == (8 * 2, 0, 200)
    assert budgets["square"] == budgets["square_1_16"] == (5000, 0, 200)
    assert budgets["one_pixel_exact"] == (64 * 17, 0, 100)
    assert budgets["evolution_label"] == budgets["cppn_label"] == (50_000, 0, 5)
    assert budgets["hop_skip_jump"] == budgets["hop_skip_jump_5_16"] == (2000, 20 + 10, 200)
    assert len(budgets) == 2 + 5 + (3 + 1) + (5 + 2) + (5 + 1) + 5 + 5 + (4 + 2) + (2 + 5) + 2
