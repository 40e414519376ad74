"""`foolbench probe`: its numbers, its record and its pictures."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from foolbench.attacks.levels import EIGHT_BITS
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Execution, Ground
from foolbench.bench.cli.options import images_of
from foolbench.bench.cli.probe_report import render
from foolbench.bench.errors import EnvironmentFault, InvalidInput
from foolbench.bench.evaluation.evidence import write_originals
from foolbench.bench.honesty import properties
from foolbench.bench.probe.files import check_folder, write_probe
from foolbench.bench.probe.fooling_images import of_run
from foolbench.bench.probe.probe import probe, psychophysics, repeated_instance
from foolbench.bench.probe.record import ProbeRecord
from foolbench.bench.running.prepared import Prepared
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import Assembled, Subject, subject_of
from foolbench.models.base import Classifier
from foolbench.models.certificate import Certificate
from PIL import Image
from planted import ground
from records import RECIPES, Recipe, write_run
from rich.console import Console
from small_runs import BATTERY

LENET = Path(__file__).resolve().parents[1] / "submissions" / "digits-lenet" / "submission.yaml"


def foolbench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it, on one thread."""
    command = [sys.executable, "-m", "foolbench.bench.cli", *arguments]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(command, cwd=cwd, env=one, capture_output=True, text=True, check=False)


def lenet() -> Subject:
    return subject_of(read_submission(LENET))


def constant() -> Subject:
    """A victim that is always 0.55 sure of class 3."""
    answer = torch.full((10,), 0.05)
    answer[3] = 0.55

    def assemble(ground: Ground) -> Assembled:
        victim = Classifier(ground.spec.shape, 10, ground.device, lambda x, rng: answer.expand(len(x), 10), None)
        return Assembled(victim, None, Certificate(agrees=False, reason="no gradient"), "constant", "0" * 64)

    return Subject("constant", {"name": "constant"}, "0" * 64, assemble)


# The command


def test_the_command_writes_numbers_and_pictures(tmp_path: Path) -> None:
    how = ("--device", "cpu", "--backend", "torch", "--max-batch", "9")
    done = foolbench("probe", str(LENET), "--images", "7,0", "--json", *how, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("probe-lenet-5-")
    content = json.loads((folder / "probe.json").read_bytes())
    told = json.loads(done.stdout)
    assert told.pop("folder") == str(folder.relative_to(tmp_path))
    assert told == content
    assert content["schema"] == 1
    record = ProbeRecord.model_validate(content)
    assert (record.backend, record.batch) == ("torch (onnx2fx)", 9)
    assert [image.image for image in record.images] == [7, 0]
    assert np.shape(record.images[0].local) == (7, 7)
    assert [image.other for image in record.images] == [0, 7]
    assert 1 <= len(record.images[0].cumulative) <= 4
    assert sorted(record.files) == sorted(p.name for p in folder.glob("*.png"))
    assert {"maps-00000.png", "maps-00007.png", "added.png"} <= set(record.files)
    for name in record.files:
        with Image.open(folder / name) as picture:
            assert min(picture.size) >= 150
            pixels = np.asarray(picture.convert("RGB").resize((64, 64))).reshape(-1, 3)
            assert len(np.unique(pixels, axis=0)) > 8
    (repeated,) = record.repeated_instances
    assert repeated.attack == "cppn"
    assert repeated.summary is not None
    assert repeated.summary["images"] == len(repeated.images) > 0


def test_a_wrong_option_is_told_before_any_work(tmp_path: Path) -> None:
    done = foolbench("probe", str(LENET), "--images", "some", cwd=tmp_path)
    assert done.returncode == 2
    assert "Expected a count, or different positions such as 0,5,12, got 'some'" in re.sub(r"\s+", " ", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new") == []
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InvalidInput, match="to be empty, or to hold a probe, got something else in it"):
        check_folder(tmp_path)
    with pytest.raises(InvalidInput, match="to be empty, or to hold a probe"):
        check_folder(tmp_path / "thesis.txt")


@pytest.mark.parametrize(
    ("text", "images"), [("3", 3), ("3,", (3,)), ("0, 5,12", (0, 5, 12)), ("0", None), ("1,1", None), ("-1", None)]
)
def test_images_are_a_count_or_positions(text: str, images: int | tuple[int, ...] | None) -> None:
    if images is None:
        with pytest.raises(InvalidInput, match="FB114"):
            images_of(text)
    else:
        assert images_of(text) == images


# The numbers


def test_a_probe_gives_an_evaluations_numbers(tmp_path: Path) -> None:
    battery = read_battery("digits-v1", tier="smoke")
    subject = lenet()
    found = probe(subject, battery, Execution("cpu"), images=5)
    on = ground(battery)
    victim = subject.assemble(on).victim
    prepared = Prepared(on, victim, examine(victim, on), None)
    evaluated = properties.measure(on, victim, prepared.clean)
    assert evaluated is not None
    assert len(evaluated.gain) == 5
    assert np.array_equal(found.properties.local_map, evaluated.local_map)
    assert np.array_equal(found.properties.activation_map, evaluated.activation_map, equal_nan=True)
    assert np.array_equal(found.properties.cumulative_random, evaluated.cumulative_random, equal_nan=True)
    assert (found.label == on.data.labels[found.rows]).all()
    write_originals(tmp_path, on.data, evaluated, prepared.clean)
    with np.load(tmp_path / "properties.npz") as written:
        assert written["image"].tolist() == found.rows.tolist()
        assert written["other"].tolist() == found.other.tolist() == [*found.rows[1:], found.rows[0]]


def test_a_constant_victim_has_flat_maps_and_flat_curves() -> None:
    found = probe(constant(), read_battery("digits-v1"), Execution("cpu"), images=(0, 3))
    assert found.label.tolist() == [3, 3]
    assert found.accepted.all()
    p = found.properties
    assert (p.local_map == np.float32(0.55)).all()
    assert (p.spatial_range == 0).all()
    assert (p.activation_map == 0).all()
    assert np.nanmax(np.abs(p.cumulative - 0.55)) < 1e-6
    (removal,) = found.removals
    assert removal.given.targets.tolist() == [3]
    assert removal.removals is not None
    assert np.nanmax(np.abs(removal.removals.curve - 0.55)) < 1e-6
    only = probe(constant(), read_battery("digits-v1"), Execution("cpu"), images=3)
    assert only.rows.tolist() == [3, 13, 23]


def test_what_could_not_be_measured_is_null_with_its_reason(tmp_path: Path) -> None:
    """Images 0 and 3 have classes of their own, of which p is exactly 0 on the other image, whatever patch is on it."""
    battery = read_battery("digits-v1")
    known = torch.tensor(battery.load().images[[0, 3]]).flatten(1).float() / 255

    def answer(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.eye(10)[torch.tensor([3, 5])[torch.cdist(images.flatten(1), known).argmin(1)]]

    def assemble(ground: Ground) -> Assembled:
        victim = Classifier(ground.spec.shape, 10, ground.device, answer, None)
        return Assembled(victim, None, Certificate(agrees=False, reason="no gradient"), "sure", "0" * 64)

    found = probe(Subject("sure", {"name": "sure"}, "0" * 64, assemble), battery, Execution("cpu"), images=(0, 3))
    assert found.label.tolist() == [3, 5]
    assert np.isnan(found.properties.activation_map).all()
    record = write_probe(found, tmp_path)
    told = json.loads((tmp_path / "probe.json").read_bytes(), parse_constant=pytest.fail)
    for image in told["images"]:
        assert image["activation"] == [[None] * 7] * 7
        assert [image["numbers"][name] for name in ("threshold", "activators", "inhibitors")] == [None] * 3
        assert "at the floor" in image["reason"]
    text = io.StringIO()
    Console(file=text, width=160).print(render(record, tmp_path))
    assert text.getvalue().count("not measured: on the other image p is at the floor") == 3


def test_settings_follow_the_battery_or_the_size() -> None:
    battery = read_battery("digits-v1")
    assert (psychophysics(battery).side, psychophysics(battery).stride) == (2, 1)
    attacks = battery.spec.attacks.model_copy(update={"deepception": None})
    spec = battery.spec.model_copy(update={"attacks": attacks, "shape": (3, 32, 40)})
    bare = psychophysics(replace(battery, spec=spec))
    assert (bare.side, bare.stride, bare.copies) == (8, 4, 4)
    assert [repeated_instance((1, n, n), EIGHT_BITS).sides for n in (8, 28, 32, 224)] == [
        (3,),
        (4, 7, 9),
        (4, 8, 11),
        (28, 56, 75),
    ]


def test_fooling_images_of_a_run(tmp_path: Path) -> None:
    battery = read_battery("digits-v1")
    run = write_run(tmp_path, RECIPES[0])
    (run / "evidence" / "evolution.npz").unlink()
    path = run / "evidence" / "cppn.npz"
    with np.load(path) as arrays:
        images = arrays["images"]
    fooled, target = np.arange(len(images)) % 2 == 1, np.arange(len(images)) % 10
    np.savez_compressed(path, images=images, fooled=fooled, target=target)
    (given,) = of_run(run, battery)
    assert given.targets.tolist() == [1, 3, 5, 7, 9] * 4
    assert np.array_equal(given.images, images[1:40:2])
    found = probe(lenet(), battery, Execution("cpu"), images=2, run=run)
    assert [r.given.attack for r in found.removals] == ["cppn"]
    np.savez_compressed(path, images=images, fooled=np.zeros(len(images), bool), target=target)
    assert of_run(run, battery)[0].reason == "none of them fooled the victim they were made on"
    assert probe(lenet(), battery, Execution("cpu"), images=2, run=run).removals[0].removals is None
    np.savez_compressed(path, images=images, fooled=fooled, target=target + 5)
    with pytest.raises(InvalidInput, match="Expected a class and a verdict for each image"):
        of_run(run, battery)
    np.savez(path, images=images, fooled=np.array([None]), target=target)  # pickled, and never loaded
    (run / "evidence" / "evolution.npz").write_bytes(b"")
    with pytest.raises(InvalidInput) as refused:
        of_run(run, battery)
    assert [(p.code, p.where.file, p.where.key) for p in refused.value.problems] == [
        ("FB115", path, "--run"),
        ("FB115", run / "evidence" / "evolution.npz", "--run"),
    ]
    wide = write_run(tmp_path, Recipe("wide", shape=(1, 16, 16), seed=3))
    with pytest.raises(InvalidInput, match=r"Expected images of \[1, 8, 8\] and 10 classes, got \[1, 16, 16\]"):
        of_run(wide, battery)


def test_same_probe_same_bytes_and_the_next_replaces_it(tmp_path: Path) -> None:
    battery = read_battery("digits-v1")
    found = probe(lenet(), battery, Execution("cpu"), images=(4, 1))
    for name in ("one", "two"):
        write_probe(found, tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    record = write_probe(probe(constant(), battery, Execution("cpu"), images=(4,)), tmp_path / "two")
    assert sorted([*record.files, "probe.json"]) == sorted(p.name for p in (tmp_path / "two").iterdir())
    assert "maps-00001.png" not in record.files


def test_every_number_is_explained_in_the_terminal(tmp_path: Path) -> None:
    found = probe(lenet(), read_battery("digits-v1"), Execution("cpu"), images=2)
    text = io.StringIO()
    Console(file=text, width=120).print(render(write_probe(found, tmp_path), tmp_path))
    said = text.getvalue()
    for words in ("Local", "Spatial", "Activation–inhibition", "Cumulative", "Repeated instances", "probe.json"):
        assert words in said
    rows = [line for line in said.splitlines() if re.match(r"^.{20,37}\S.*  \S", line)]
    assert len(rows) >= 12
    assert max(map(len, said.splitlines())) <= 120


def test_an_image_that_there_is_not_is_told() -> None:
    with pytest.raises(InvalidInput, match="Expected positions of 0 to 199, got 200"):
        probe(lenet(), read_battery("digits-v1"), Execution("cpu"), images=(3, 200))
    with pytest.raises(InvalidInput, match="Expected a record"):
        probe(lenet(), read_battery("digits-v1"), Execution("cpu"), run=Path("nowhere"))


def test_a_battery_of_one_image_is_refused_before_any_query(tmp_path: Path) -> None:
    """The third property needs an image to put patches on."""
    pixels, labels = np.zeros((2, 1, 8, 8), np.uint8), np.array([3, 4])
    np.savez(tmp_path / "test.npz", x=pixels, y=labels)
    told = {**BATTERY, "data": {"kind": "npz", "path": "test.npz"}, "donors_per_class": 0, "attacks": {}}
    for name, images in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**told, "images": images}))
    unasked = Subject("x", {"name": "x"}, "0" * 64, lambda *given: pytest.fail("a victim was made"))
    with pytest.raises(EnvironmentFault, match=r"FB400.*one evaluation image and no training image in small"):
        probe(unasked, read_battery("./one.yaml", folder=tmp_path), Execution("cpu"), images=(0,))
    assert probe(constant(), read_battery("./two.yaml", folder=tmp_path), Execution("cpu"), images=(1,)).rows == [1]
