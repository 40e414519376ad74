"""Known answers through the whole pipeline: networks whose weaknesses are planted, and what each attack finds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.bench import evaluate
from planted import (
    SMALL_CONTROLS,
    Constant,
    FatalPixel,
    Linear,
    PatchLover,
    StripeLover,
    battery,
    evidence,
    flag_codes,
    halves,
    left_or_right,
    small,
)
from torch import nn


def test_one_fatal_pixel_is_found_by_one_pixel_alone(tmp_path: Path) -> None:
    attacks = small(
        one_pixel={"pixels": [1], "population": 200, "iterations": 20}, fgsm={"epsilon": 0.05}, deepception={}
    )
    planted = battery(tmp_path, *halves(8), classes=3, attacks=attacks, train=halves(8, seed=1))
    run = evaluate(FatalPixel(5, 2), battery=planted, out=tmp_path / "run", device="cpu")
    found, kept = run.record.attacks, tmp_path / "run" / "evidence"
    assert (found["one_pixel"].fooling_ratio.k, found["one_pixel"].fooling_ratio.n) == (8, 8)
    assert found["fgsm"].fooling_ratio.k == found["deepception"].fooling_ratio.k == 0
    changed = evidence(kept, "one_pixel")["images"] != evidence(kept, "originals")["images"]
    assert np.argwhere(changed)[:, 1:].tolist() == [[0, 5, 2]] * 8
    rows = found["one_pixel"].tasks
    assert [row.label for row in rows] == [2] * 8
    assert [row.size for row in rows] == [1.0] * 8
    assert all(1 <= (row.queries or 0) <= row.spent <= 4200 for row in rows)
    assert len({row.queries for row in rows}) > 1
    assert run.record.scores.survives_all_perturb.value == found["one_pixel"].robust_accuracy.value == 0  # type: ignore[union-attr]
    assert found["deepception"].robust_accuracy.value == 1  # type: ignore[union-attr]


def test_stripes_are_found_by_cppn_before_evolution(tmp_path: Path) -> None:
    attacks = small(
        evolution={"runs": 3, "children": 50, "generations": 300},
        cppn={"runs": 3, "children": 50, "generations": 60},
    )
    planted = battery(tmp_path, *halves(8, side=16), classes=3, attacks=attacks)
    run = evaluate(StripeLover(16), battery=planted, out=tmp_path / "run", device="cpu")
    queries = {
        name: sorted(row.queries or math.inf for row in run.record.attacks[name].tasks if row.target == 2)
        for name in ("cppn", "evolution")
    }
    assert len(queries["cppn"]) == len(queries["evolution"]) == 3
    assert 2 * queries["cppn"][-1] < queries["evolution"][0]
    # What was found is stripes: each column of one gray level, and neighbours far apart.
    stripes = evidence(tmp_path / "run" / "evidence", "cppn")["images"][2::3, 0] / 255
    contrast = np.abs(stripes.mean(1) @ np.tile([1.0, -1.0], 8)) / 8
    assert (contrast > 0.5).all()


WEIGHT = torch.tensor([1.0, -2.0, 3.0, -1.0] * 16)
NORM = 112  # ‖WEIGHT‖₁
LEVELS = {"0.02": 5, "0.05": 13, "10/255": 10, "0.2": 51}
"""Each ε and the whole gray levels that it comes to: 0.05 is 12.75 of them, so rounding adds a quarter."""
WHOLE = [2, 6, 11, 12, 30, 70]
"""Whole gray levels in the margins w·(x − 128) / ‖w‖₁ of the images; half a level comes on top."""


def images_of_known_margin() -> np.ndarray:
    """Two images for each margin, on either side of the hyperplane through mid-gray."""
    weight = WEIGHT.numpy()
    half = (weight == 3) | ((weight == 1) & (np.arange(64) < 32))  # 16 of weight 3 and 8 of weight 1: half of NORM
    moves = [side * (whole + half) * np.sign(weight) for whole in WHOLE for side in (1, -1)]
    return 128 + np.array(moves, dtype=int).reshape(-1, 1, 8, 8)


def test_fgsm_on_a_linear_network_is_the_closed_form(tmp_path: Path) -> None:
    images, labels, margins = images_of_known_margin(), np.array([0, 1] * 6), np.repeat(WHOLE, 2) + 0.5
    assert np.array_equal((images - 128).reshape(12, 64) @ WEIGHT.numpy(), margins * NORM * (1 - 2 * labels))
    grid = [0.02, 0.05, "10/255", 0.2]
    attacks = small(
        fgsm={
            "images": 12,
            "epsilon": 0.2,
            "curve": grid,
            "smallest": {"largest": 0.2, "coarse": 7, "bisections": 8},
            "images_per_shard": 5,
        }
    )
    planted = battery(tmp_path, images, labels, attacks=attacks)
    net = Linear(torch.stack([WEIGHT, torch.zeros(64)]) * 255 / NORM, torch.tensor([-128 * 16 / NORM, 0.0]))
    run = evaluate(net, battery=planted, out=tmp_path / "run", device="cpu")
    fgsm, kept = run.record.attacks["fgsm"], tmp_path / "run" / "evidence"
    assert fgsm.mode == "gradient"
    originals = evidence(kept, "originals")["images"].astype(int)
    assert np.array_equal(originals, images)
    step = np.where(labels == 0, -1, 1)[:, None, None, None] * WEIGHT.sign().numpy().astype(int).reshape(1, 1, 8, 8)
    for written, levels in LEVELS.items():
        name = "fgsm" if written == "0.2" else f"fgsm_{written.replace('/', '_')}"
        ratio = (fgsm if name == "fgsm" else fgsm.variants[name]).fooling_ratio
        assert (ratio.k, ratio.n) == (int((margins < levels).sum()), 12), written
        assert np.array_equal(evidence(kept, name)["images"], originals + levels * step), written
    smallest = fgsm.variants["fgsm_smallest"]
    found = evidence(kept, "fgsm_smallest")
    reached = margins < 51
    assert smallest.fooling_ratio.k == int(reached.sum()) == 10
    levels = np.abs(found["images"].astype(int) - originals).max((1, 2, 3))
    assert np.array_equal(levels[reached], np.ceil(margins[reached]))
    assert smallest.median_size == pytest.approx(float(np.median(np.ceil(margins[reached]))) / 255)
    assert [row.queries for row in fgsm.tasks if row.fooled] == [1] * 10
    assert fgsm.gradients == 12
    assert fgsm.total_queries == 0


def templates() -> torch.Tensor:
    """A checkerboard, columns and a cross, 3×3."""
    made = torch.zeros(3, 3, 3)
    made[0, ::2, ::2], made[0, 1, 1] = 1, 1
    made[1, :, ::2] = 1
    made[2, 1, :], made[2, :, 1] = 1, 1
    return made


def scenes(count: int, contrast: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gray images 12×12 with their class's template in five places."""
    labels = np.arange(count) % 3
    images = np.full((count, 1, 12, 12), 128)
    for row, column in ((0, 0), (0, 9), (9, 0), (9, 9), (5, 5)):
        signed = (2 * templates().numpy() - 1)[labels]
        images[:, 0, row : row + 3, column : column + 3] += (contrast * signed).astype(int)
    return images + np.random.default_rng(seed).integers(-2, 3, images.shape), labels


def test_a_donor_patch_fools_a_patch_lover_and_its_mean_colour_does_not(tmp_path: Path) -> None:
    attacks = small(
        deepception={"images": 12, "side": 3, "stride": 3, "grid": 5, "keep": 8, "bank": 2, "properties": 6}
    )
    planted = battery(tmp_path, *scenes(12, 40, 0), classes=3, attacks=attacks, train=scenes(6, 120, 1))
    run = evaluate(PatchLover(templates()), battery=planted, out=tmp_path / "run", device="cpu")
    deepception = run.record.attacks["deepception"]
    assert (deepception.fooling_ratio.k, deepception.fooling_ratio.n) == (12, 12)
    assert deepception.variants["deepception_mean_color"].fooling_ratio.k == 0
    assert deepception.setup_queries == 4 * (6 + 3 * 16)  # a shard: its donors once, each window of one of each class
    assert [row.queries for row in deepception.tasks] == [row.queries for row in deepception.tasks if row.fooled]
    assert all(row.size is not None and 0 < row.size <= 9 for row in deepception.tasks)  # one copy was enough
    properties: Any = deepception.properties
    assert properties["images"] == 6
    # A template says much more than plain windows do, says it wherever it stands, and excites everywhere.
    names = ("local_range", "spatial_range", "activators", "inhibitors")
    median = {name: properties[name]["median"] for name in names}
    assert median["local_range"] > 3 * median["spatial_range"]
    assert (median["activators"], median["inhibitors"]) == (1, 0)


def test_a_constant_network_is_fooled_by_no_perturbation(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8), classes=3, train=halves(8, seed=1))
    run = evaluate(Constant([9.0, 0.0, 0.0], slope=1e-3), battery=planted, out=tmp_path / "run", device="cpu")
    for name in ("deepception", "one_pixel", "fgsm"):
        attack = run.record.attacks[name]
        for part in (attack, *attack.variants.values()):
            assert (part.fooling_ratio.k, part.fooling_ratio.n) == (0, 4), part.title
            assert part.label_change is not None
            assert (part.label_change.k, part.label_change.n) == (0, 8), part.title
            assert part.robust_accuracy is not None
            assert (part.robust_accuracy.k, part.robust_accuracy.n) == (4, 8), part.title
            assert part.queries is part.median_confidence is part.median_size is None
            assert part.curve == []
    # As for fooling images: class 0 is given for free by the very first image, the other two never.
    for name in ("evolution", "cppn"):
        rows = run.record.attacks[name].tasks
        assert [row.fooled for row in rows] == [True, False, False] * 2
        assert [row.queries for row in rows if row.fooled] == [1, 1]
    assert run.record.scores.survives_all_perturb.k == 4
    assert run.failures == {}


def test_a_network_that_rejects_everything_scores_zero(tmp_path: Path) -> None:
    class Rejecting(nn.Module):
        """Its third output outweighs the other two by far; they still tell the classes apart."""

        def __init__(self) -> None:
            super().__init__()
            self.halves = left_or_right(columns=3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.halves(images) + torch.tensor([0.0, 0.0, 30.0], dtype=images.dtype)

    planted = battery(tmp_path, *halves(8), controls=SMALL_CONTROLS, train=halves(8, seed=1))
    run = evaluate(Rejecting(), battery=planted, out=tmp_path / "run", device="cpu", reject_index=2)
    record, scores = run.record, run.record.scores
    assert (scores.clean_rejection.k, scores.clean_rejection.n) == (8, 8)
    assert scores.clean_accuracy.value == scores.robust_score.value == scores.worst_case.value == 0
    assert (scores.robust_score.low, scores.robust_score.high) == (0, 0)
    assert (scores.survives_all_perturb.k, scores.survives_all_perturb.n) == (0, 8)
    assert record.tau is None
    assert "rejects_clean" in flag_codes(record)
    for attack in [*record.attacks.values(), *record.controls.values()]:
        for part in (attack, *attack.variants.values()):
            assert part.fooling_ratio.value is None
            assert "no clean image right" in (part.fooling_ratio.reason or "")
            assert part.queries is part.median_confidence is part.median_size is None
        assert not any(row.fooled for row in attack.tasks)
    for name in ("deepception", "one_pixel", "fgsm"):
        assert all(row.fooled is None and row.spent == 0 and row.before is None for row in record.attacks[name].tasks)
    assert run.failures == {}  # everything was measured: nothing of it is worth anything


def test_a_network_that_is_always_wrong_scores_zero(tmp_path: Path) -> None:
    """It accepts everything, so it can be attacked; but there is no τ, and nothing that it says is worth fooling."""
    images, labels = halves(8)
    planted = battery(tmp_path, images, 1 - labels, controls=SMALL_CONTROLS, train=halves(8, seed=1))
    run = evaluate(left_or_right(), battery=planted, out=tmp_path / "run", device="cpu")
    scores, found = run.record.scores, run.record.attacks
    assert (scores.clean_accuracy.k, scores.clean_rejection.k) == (0, 0)
    assert scores.robust_score.value == scores.worst_case.value == scores.survives_all_perturb.value == 0
    assert run.record.tau is None
    for attack in [*found.values(), *run.record.controls.values()]:
        assert attack.fooling_ratio.value is None
        assert attack.fooling_ratio.reason
    assert not any(row.fooled for name in ("evolution", "gradient_ascent") for row in found[name].tasks)
    assert [row.fooled for row in found["fgsm"].tasks] == [True] * 8
    assert found["fgsm"].label_change is not None
    assert (found["fgsm"].label_change.k, found["fgsm"].label_change.n) == (8, 8)
    assert "rejects_clean" not in flag_codes(run.record)
    assert run.failures == {}
