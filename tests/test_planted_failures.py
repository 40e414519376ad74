"""Attacks and victims that idle, overspend, break the rules or fail, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from foolbench.bench import evaluate
from foolbench.bench.errors import InvalidInput, ModelFailure
from planted import (
    SMALL,
    SMALL_CONTROLS,
    FatalPixel,
    Idle,
    Inverting,
    Raising,
    battery,
    halves,
    left_or_right,
    planning,
    small,
    timeless,
)
from torch import nn


def test_idle_overspending_and_raising_attacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each in one run: the idle ones score zero, the others are left null with the reason, the rest go on."""
    planted = battery(tmp_path, *halves(8), controls=SMALL_CONTROLS, train=halves(8, seed=1))
    budget = 10 * 5
    swaps = {
        "evolution": Idle(),
        "fgsm": Idle(),
        "gradient_ascent_logit_0": Raising("AttributeError"),
        "deepception": Idle(asks=3, setup=5),
        "one_pixel": Idle(asks=budget + 1),
        "one_pixel_3": Idle(asks=budget),
        "noise": Idle(),
    }
    planning(monkeypatch, swaps)
    run = evaluate(left_or_right(), battery=planted, out=tmp_path / "run", device="cpu")
    found, controls = run.record.attacks, run.record.controls
    for idle in (found["evolution"], found["fgsm"], controls["noise"], found["one_pixel"].variants["one_pixel_3"]):
        assert idle.fooling_ratio.value == 0
        assert idle.fooling_ratio.n
    assert found["one_pixel"].variants["one_pixel_3"].total_queries == 8 * budget
    assert found["evolution"].total_queries == 0
    assert [row.confidence for row in found["evolution"].tasks] == [0.5] * 4  # mid-gray, for either class

    assert set(run.failures) == {"one_pixel", "gradient_ascent"}
    assert run.failures["one_pixel"].startswith("FB500: expected a task to ask at most 50 queries and gradients")
    assert "asked for 51" in run.failures["one_pixel"]
    assert run.failures["gradient_ascent"].startswith("FB501: the attack raised AttributeError: expected luck")
    for name in run.failures:
        attack = found[name]
        assert attack.tasks == []
        assert attack.fooling_ratio.value is attack.fooling_ratio.k is attack.fooling_ratio.n is None
        assert attack.queries is attack.median_confidence is attack.seconds is None
    assert found["one_pixel"].robust_accuracy is not None
    assert found["one_pixel"].robust_accuracy.value is None
    assert found["gradient_ascent"].variants["gradient_ascent_softmax_0"].fooling_ratio.value is not None
    assert found["cppn"].fooling_ratio.value is not None
    assert not (tmp_path / "run" / "evidence" / "one_pixel.npz").exists()

    # Set-up is charged apart from the tasks: 5 for each of the three shards, 3 for each image.
    deepception = found["deepception"]
    assert (deepception.setup_queries, deepception.total_queries) == (15, 24)
    assert [row.spent for row in deepception.tasks] == [3] * 8

    scores = run.record.scores
    assert scores.robust_score.value is scores.worst_case.value is scores.survives_all_perturb.value is None
    assert "One pixel, Gradient ascent" in (scores.robust_score.reason or "")
    assert not run.record.rankable


def test_what_breaks_the_rules_fools_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negatives swap the halves, so the victim takes each of them for the other class."""
    planted = battery(tmp_path, *halves(8), attacks=small(one_pixel={}), train=halves(8, seed=1))
    planning(monkeypatch, {"one_pixel": Inverting(), "one_pixel_3": Inverting(keep=1)})
    run = evaluate(left_or_right(), battery=planted, out=tmp_path / "run", device="cpu")
    attack = run.record.attacks["one_pixel"]
    assert (attack.fooling_ratio.k, attack.fooling_ratio.n) == (0, 8)
    assert attack.robust_accuracy is not None
    assert attack.robust_accuracy.value == 1
    assert {row.refused for row in attack.tasks} == {"changed by 64, limit 1 pixel"}
    assert all(row.fooled is False and row.label != row.truth for row in attack.tasks)
    reason = attack.variants["one_pixel_3"].fooling_ratio.reason or ""
    assert reason.startswith("FB501: the attack failed: expected finals (3, 1, 8, 8), got (1, 1, 8, 8)")


def test_overspent_set_up_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = battery(tmp_path, *halves(8), attacks=small(deepception={}), train=halves(8, seed=1))
    planning(monkeypatch, {"deepception": Idle(asks=1, setup=4 + 3 * 16 + 1)})  # 4 donors, 16 windows of 3 of them
    run = evaluate(left_or_right(), battery=planted, out=tmp_path / "run", device="cpu")
    assert "FB500: expected its set-up to ask at most 52 queries and gradients" in run.failures["deepception"]


def test_workers_order_and_progress_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = battery(tmp_path, *halves(10), classes=3, controls=SMALL_CONTROLS, train=halves(8, seed=1))
    told: list[str] = []

    class Loud:
        """A display that listens to everything."""

        def begin(self, phase: str, plan: object) -> None:
            told.append(phase)

        def shard(self, entry: str, index: int):
            return lambda asked, fooled: told.append(f"{entry} {asked}")

        def finished(self, entry: str, index: int, result: object) -> None:
            told.append(f"{entry} {index}")

        def end(self) -> None:
            told.append("end")

        def say(self, text: str) -> None:
            told.append(text)

    net = FatalPixel(5, 2)
    one = evaluate(net, battery=planted, out=tmp_path / "one", device="cpu", workers=1)
    two = evaluate(net, battery=planted, out=tmp_path / "two", device="cpu", workers=2, progress=Loud())
    assert timeless(one.record) == timeless(two.record)
    assert {"one_pixel 0", "one_pixel 2", "evolution 20", "end"} <= set(told)
    assert one.record.attacks["one_pixel"].fooling_ratio.k  # there was something to get wrong
    for file in sorted((tmp_path / "one" / "evidence").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / "evidence" / file.name).read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr("foolbench.bench.running.run.sorted", lambda *a, **k: sorted(*a, **k)[::-1], raising=False)
        turned = evaluate(net, battery=planted, out=tmp_path / "turned", device="cpu", workers=1)
    assert timeless(turned.record) == timeless(one.record)

    # Finished shards are taken as they are, and what is missing is made again, to the same record.
    shards = sorted((tmp_path / "one" / "shards").glob("*.npz"))
    for path in shards[::2]:
        path.unlink()
    shards[1].write_bytes(b"cut off")
    again = evaluate(net, battery=planted, out=tmp_path / "one", device="cpu", workers=2)
    assert timeless(again.record) == timeless(one.record)


def test_failures_do_not_depend_on_which_shard_came_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shard of the attack overspends by another number, the last shard by the least time."""
    planted = battery(tmp_path, *halves(8), attacks=small(one_pixel={"pixels": [1]}))
    reasons = set()
    for workers in (1, 3):
        planning(monkeypatch, {"one_pixel": Racing()})
        run = evaluate(left_or_right(), battery=planted, out=tmp_path / str(workers), device="cpu", workers=workers)
        reasons.add(run.failures["one_pixel"])
    assert reasons == {"FB501: the attack raised ValueError: 3 images"}


class Racing(Idle):
    """Fails the faster the smaller its block is, and says how large it was."""

    def search(self, task, rng):
        for _ in range(10 * (len(task.images) - 2)):
            torch.linalg.norm(torch.ones(400, 400))
        raise ValueError(f"{len(task.images)} images")
        yield


def test_a_victim_that_fails_in_the_middle_ends_the_run(tmp_path: Path) -> None:
    class Touchy(nn.Module):
        """Cannot bear bright pixels, of which no clean image has any."""

        def __init__(self) -> None:
            super().__init__()
            self.halves = left_or_right()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if float(images.detach().max()) > 0.9:
                raise ArithmeticError("too bright")
            return self.halves(images)

    planted = battery(tmp_path, *halves(8), attacks=small(one_pixel={}))
    with pytest.raises(ModelFailure, match=r"FB301.*too bright"):
        evaluate(Touchy(), battery=planted, out=tmp_path / "run", device="cpu")


def test_an_attack_wants_more_images_than_there_are(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(6), attacks=small(one_pixel={}))
    with pytest.raises(InvalidInput, match=r"FB104.*attacks.one_pixel.images.*at most the 6.*got 8"):
        evaluate(left_or_right(), battery=planted, out=tmp_path / "run", device="cpu")


def test_without_training_images_deepception_alone_is_left_out(tmp_path: Path) -> None:
    attacks = SMALL | {"deepception": SMALL["deepception"] | {"properties": 1}}
    run = evaluate(left_or_right(), battery=battery(tmp_path, *halves(8), attacks=attacks), out=tmp_path / "run")
    assert set(run.failures) == {"deepception"}
    assert "expected at least one donor image" in run.failures["deepception"]
    assert run.record.attacks["deepception"].properties is None
