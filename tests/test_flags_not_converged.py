"""The flag of an attack that was still gaining when its budget ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flagged import run
from foolbench.attacks.base import Fool, Query, Search
from foolbench.bench.scores.flags import flags_of
from foolbench.bench.scores.intervals import proportion, unmeasured
from foolbench.leaderboard.record.record import AttackResult, Flag, Scores, TaskRow
from planted import TITLES, flag_codes, left_or_right, planning, small
from records import SEEN


def progress(queries: list[int | None], budget: int = 1000, mode: Any = "black_box") -> AttackResult:
    """An attack that first fooled its tasks after so many queries."""
    won = sum(q is not None for q in queries)
    return AttackResult(
        title="planted",
        parameters={},
        fooling_ratio=proportion(won, len(queries)),
        budget=budget,
        task="fool",
        mode=mode,
        tasks=[TaskRow(run=0, target=i, counts=True, fooled=q is not None, queries=q) for i, q in enumerate(queries)],
    )


def not_converged(attack: AttackResult) -> list[Flag]:
    scores = Scores(**{name: unmeasured("planted") for name in Scores.model_fields})
    found = flags_of({"evolution": attack}, scores, SEEN, TITLES)
    assert {f.code for f in found} <= {"not_converged", "surrogate"}
    return [f for f in found if f.code == "not_converged"]


def test_not_converged() -> None:
    """40 tasks, half of them fooled: the interval is ±0.149, so 6 late ones (0.15) are more, 5 (0.125) are not."""
    early: list[int | None] = [100] * 14 + [None] * 20
    (found,) = not_converged(progress([*early, *[901] * 6]))
    assert found.attack == "evolution"
    assert found.evidence["gain"] == 6 / 40
    assert found.evidence["half_width"] == pytest.approx(0.1481, abs=1e-3)
    assert "fooled 6 more tasks of 40" in found.sentence
    assert not_converged(progress([*early, 100, *[901] * 5])) == []
    assert not_converged(progress([*early, *[900] * 6])) == []  # the last tenth begins after 900
    assert not_converged(progress([*early, *[9] * 6], budget=9)) == []  # a single step, or nearly so
    assert not_converged(progress([*early, *[901] * 6], mode="surrogate")) == []


def curve(found: list[tuple[int, int]], tasks: int) -> list[int | None]:
    """So many tasks fooled at so many queries each, of so many tasks."""
    queries: list[int | None] = [at for at, count in found for _ in range(count)]
    return queries + [None] * (tasks - len(queries))


def test_a_climb_on_a_thousand_classes_has_not_converged() -> None:
    """85 fooled at half of the budget and 127 at all of it, 8 of them in the last tenth: the ratio's interval is ±21
    tasks. 42 late ones are at least 30, a quarter of all; 20 are at least 12, less than a tenth."""
    climbing = [(100, 40), (400, 45), (700, 34), (950, 8)]
    (found,) = not_converged(progress(curve(climbing, 1000)))
    assert found.evidence == {"late": 42, "at_least": pytest.approx(30.27, abs=0.01), "fooled": 127}
    assert "of the 127 tasks of 1000 that it fooled, 42 fell in the last half of the queries" in found.sentence
    assert not_converged(progress(curve([(100, 60), (400, 67)], 1000))) == []  # flat
    assert not_converged(progress(curve([(100, 60), (400, 47), (700, 20)], 1000))) == []  # levelling off
    assert not_converged(progress(curve(climbing, 1000), mode="surrogate")) == []


def test_few_late_successes_and_a_full_ratio_are_no_climb() -> None:
    """Two late ones may be chance, and where all is fooled, or nearly, there is nothing left to climb."""
    assert not_converged(progress(curve([(800, 2)], 50))) == []
    assert not_converged(progress(curve([(100, 20), (800, 28)], 50))) == []  # 2 left
    assert not_converged(progress(curve([(100, 10), (800, 20)], 50))) != []


@dataclass(frozen=True)
class Patient:
    """Asks about mid-gray for so long, then about one image for each class that fools."""

    wait: int

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        known = torch.zeros(2, *task.shape)
        known[0, :, :, :4], known[1, :, :, 4:] = 1, 1
        gray, runs = torch.full((task.runs, *task.shape), 0.5), torch.arange(task.runs)
        for _ in range(self.wait):
            yield Query(gray, runs)
        for image in known:
            yield Query(image.expand_as(gray), runs)
        return known.expand(task.runs, -1, -1, -1, -1)


@pytest.mark.parametrize(("wait", "flagged"), [(198, True), (178, False)])
def test_an_attack_that_only_just_gets_there_has_not_converged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: int, flagged: bool
) -> None:
    planning(monkeypatch, {"evolution": Patient(wait)})
    made = run(left_or_right(), tmp_path, small(evolution={}))  # 200 queries a run
    evolution = made.record.attacks["evolution"]
    assert [row.queries for row in evolution.tasks] == [wait + 1, wait + 2] * 2
    assert evolution.fooling_ratio.value == 1
    assert ("not_converged" in flag_codes(made.record)) is flagged
