"""Which training images are fitted to, chosen by and measured on: every class in each part, and no image in two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from defense_victims import pixels, small_net
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.cli.harden_screen import Quiet, said
from foolbench.bench.data.spread import evenly
from foolbench.bench.harden.detector import DetectorRecipe
from foolbench.bench.harden.harden import harden
from foolbench.bench.harden.images import Images, images_of
from foolbench.bench.harden.options import Hardening
from foolbench.bench.harden.setup import TrainingSetup
from foolbench.bench.harden.start import Fresh
from foolbench.bench.submission.detectors import Density
from foolbench.bench.victim.detecting import detecting
from foolbench.bench.victim.fitting import training_images
from model_files import CPU, seeded
from small_runs import BATTERY, changed, inside, refused, submit
from torch import Tensor, nn

ONLY_FGSM = changed(BATTERY, controls={}, attacks={"fgsm": BATTERY["attacks"]["fgsm"]})
SHORT: dict[str, Any] = {"epochs": 1, "rounds": 1, "runs": 1, "generations": 1, "noise": 5}


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        # Ten classes in turn: every tenth image is of one class; here each gives the middle one of its ten.
        ([i % 10 for i in range(100)], 10, [*range(50, 60)]),
        ([0] * 7 + [1] * 2 + [2], 4, [1, 5, 8, 9]),
        ([0, 1] * 4, 4, [2, 3, 6, 7]),
        ([7, 7, 3], 9, [0, 1, 2]),
        ([3, 3, 1, 1], 2, [1, 3]),
        ([1, 2], 0, []),
        ([], 3, []),
    ],
)
def test_each_class_gives_its_share_from_all_over_it(labels: list[int], count: int, expected: list[int]):
    assert evenly(np.array(labels, np.int64), count).tolist() == expected


def test_shares_are_in_proportion_however_unequal_the_classes_are():
    sizes = np.array([700, 200, 90, 9, 1])
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), sizes))
    for count in (10, 77, 333, 1000):
        taken = np.bincount(labels[evenly(labels, count)], minlength=5)
        assert taken.sum() == count
        assert taken.min() >= 1
        assert np.abs(taken - sizes * count / 1000).max() <= 2  # the two smallest are rounded up at the others' cost


def going_round(
    folder: Path, labels: np.ndarray | None = None, images: np.ndarray | None = None, **changes: Any
) -> Path:
    """A submission whose 300 training images go round the ten classes. Returns its YAML."""
    path = submit(folder, battery=changed(ONLY_FGSM, **changes))
    with np.load(folder / "train.npz") as given:
        x = given["x"] if images is None else images
    np.savez(folder / "train.npz", x=x, y=np.arange(300) % 10 if labels is None else labels)
    return path


def parts(folder: Path, most: int | None = None) -> Images:
    return images_of(read_battery("./battery.yaml", folder=folder), most, CPU)


def as_set(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize(("most", "each"), [(None, (27, 3)), (100, (9, 1)), (30, (2, 1))])
def test_classes_in_turn_are_trained_on_chosen_by_and_held_out_alike(
    tmp_path: Path, most: int | None, each: tuple[int, int]
):
    going_round(tmp_path)
    found = parts(tmp_path, most)
    assert found.labels.bincount(minlength=10).tolist() == [each[0]] * 10
    assert found.labels[found.choosing].bincount(minlength=10).tolist() == [each[1]] * 10
    assert found.held_labels.bincount(minlength=10).tolist() == [each[1]] * 10
    # What a density is fitted to when the submission is loaded.
    fitted, labels = training_images(read_battery("./battery.yaml", folder=tmp_path), found.fitted)
    assert labels.bincount(minlength=10).tolist() == [24] * 10
    assert not as_set(found.held) & as_set(found.train)
    assert not (as_set(found.held) | as_set(found.train[found.choosing])) & as_set(fitted)


def test_three_images_of_a_class_are_enough_and_two_are_refused(tmp_path: Path):
    labels = np.arange(300) % 9
    labels[[10, 20, 200]] = 9
    path = going_round(tmp_path / "three", labels)
    found = parts(tmp_path / "three")
    for part in (found.labels[~found.choosing], found.labels[found.choosing], found.held_labels):
        assert int((part == 9).sum()) == 1
    few = refused(
        inside("harden", path, "--how", "density", "--out", tmp_path / "o", "--training-images", 29), 2, "FB114"
    )
    assert "--training-images: Expected 3 images of every class, got 29 for 10." in few
    labels[10] = 0
    path = going_round(tmp_path / "two", labels)
    answer = refused(inside("harden", path, "--how", "detector", "--out", tmp_path / "o"), 4, "FB408")
    assert "Expected at least 3 training images of every class to harden a model with, got 2 of class 9." in answer


def test_a_density_is_fitted_to_every_class_where_each_third_image_is_of_one():
    labels = torch.tensor([0, 1, 3, 2, 0, 3, 1, 2, 3] * 10)
    images = pixels((1, 8, 8), 90)
    spec = Density(kind="density", dimensions=4, reject=0.1)
    victim = detecting(small_net(), spec, read_battery("digits-v1"), lambda most: (images, labels))
    held = evenly(labels.numpy(), 30)
    assert labels[held].bincount().tolist() == [7, 7, 6, 10]
    mass = victim.probabilities(images[held], seeded())
    assert int((mass.amax(1) <= 1 - mass.sum(1)).sum()) == 3


def test_a_density_is_measured_on_images_that_neither_fit_nor_threshold_saw(tmp_path: Path):
    """Digits all, but what is to be held out is made noise: all of that is rejected, of the others few are."""
    going_round(tmp_path)
    held = parts(tmp_path).held
    with np.load(tmp_path / "train.npz") as given:
        images = given["x"]
    places = [i for i, image in enumerate(images) if (image / np.float32(255)).tobytes() in as_set(held)]
    assert len(places) == 30
    images[places] = np.random.default_rng(0).integers(0, 2, (30, *images.shape[1:])) * 255
    path = going_round(tmp_path, images=images)
    given = Hardening("density", **SHORT, dimensions=30, reject=0.05)
    log = harden(path, given, tmp_path / "out", device="cpu", told=Quiet()).log
    assert (log["submission"]["on"], log["submission"]["clean_rejected"]) == ("held-out images", 1.0)
    assert (log["steps"][-1]["on"], log["steps"][-1]["clean_rejected"] < 0.2) == ("images to choose by", True)
    assert log["images"] == {**log["images"], "trained_on": 270, "chosen_by": 30, "held_out": 30}
    assert said(log["steps"][-1]).endswith(" on images to choose by")


def test_a_detector_has_its_threshold_from_images_that_it_is_neither_trained_nor_measured_on(tmp_path: Path):
    going_round(tmp_path)
    battery, found = read_battery("./battery.yaml", folder=tmp_path), parts(tmp_path)

    def recipe(levels: Tensor, held: Tensor) -> DetectorRecipe:
        """With gray images to choose by."""
        train = found.train.clone()
        train[found.choosing] = levels.reshape(30, 1, 1, 1).expand(-1, 1, 8, 8)
        images, how = replace(found, train=train, held=held), Hardening("detector", epochs=2, reject=0.1)
        return DetectorRecipe(TrainingSetup(battery, Fresh("lenet", (1, 8, 8), 10, CPU), how, images, CPU))

    # Three of thirty are rejected, from gray 127 on, whatever is held out.
    brightness = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())
    chosen = recipe(torch.arange(100.0, 130.0) / 255, torch.ones(30, 1, 8, 8))
    assert chosen.threshold(brightness).value == pytest.approx(126.5 / 255)
    first, second = chosen.steps()[:2]
    classifier, _ = second.run(first.run({}, lambda share: None)[0], lambda share: None)
    black, white = (
        recipe(torch.full((30,), level), found.held).steps()[2].run(classifier, lambda share: None)[0]
        for level in (0.0, 1.0)
    )
    trained = [name for name in black if name.startswith("detector.")]
    assert trained
    assert all(torch.equal(black[name], white[name]) for name in trained)


def test_fooling_images_are_judged_at_the_battery_s_own_confidences(tmp_path: Path):
    battery = changed(ONLY_FGSM, judge__flat_confidence=0.125, judge__tau_quantile=0.3)
    path = submit(tmp_path, battery=battery)
    held, labels = (found := parts(tmp_path)).held, found.held_labels
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    answer = torch.from_numpy(np.asarray(session.run(None, {"x": held.numpy()})[0])).softmax(1)
    right = answer.amax(1)[answer.argmax(1) == labels].sort().values
    log = harden(path, Hardening("fooling-class", **SHORT), tmp_path / "out", device="cpu", told=Quiet()).log
    row = next(row for row in log["steps"] if "tau" in row)
    assert row["tau"] == pytest.approx(float(right[int(0.3 * len(right))]), rel=1e-4)
    assert row["flat_confidence"] == 0.125
    assert "at 12.5%" in said(row)
    # Nearly every image is as sure as that of some class, and the first generation is enough.
    assert row["evolution"]["at_flat"]["fooled"] > row["evolution"]["at_tau"]["fooled"]
