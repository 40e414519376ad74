"""The shipped batteries: their numbers, their images, their panels, and networks run on them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from foolbench.attacks.spec import pixel_range
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Execution
from foolbench.bench.battery.named import shipped_names
from foolbench.bench.data.data import training
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.harden.recipes import RECIPES
from foolbench.bench.running.progress import planned
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import subject_of
from planted import ground
from third_party import Net, nets, write_submission

REAL = Path(os.environ.get("FOOLBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="FOOLBENCH_TEST_DATA names no folder of real data")
PANEL = Path(__file__).parents[1] / "models" / "panel"
NAMES = ("cifar10-v1", "digits-v1", "imagenet-v1", "mnist-v1")
TIERS = ("standard", "smoke")


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOOLBENCH_DOWNLOAD", raising=False)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOOLBENCH_DATA", str(REAL))
    return REAL


# The numbers


def test_these_are_shipped_in_two_tiers_each_with_a_digest_of_its_own():
    assert shipped_names() == sorted(NAMES)
    read = [read_battery(name, tier=tier) for name in NAMES for tier in TIERS]
    assert len({battery.digest for battery in read}) == len(read)
    for battery in read:
        assert battery.shipped
        assert battery.spec.smoke is None or battery.tier == "standard"
        assert battery.spec.title


SPEC = {
    # shape, classes, images, levels; one-pixel images; ε and curve of all attacks within one, in gray levels;
    # evolution and CPPN queries a run, runs; gradient ascent: classes, starts, steps; queries of a control;
    # side, stride, copies of the patches
    "digits-v1": (((1, 8, 8), 10, 200, 17), (100, 100, 50), (3, (1, 2, 3, 4, 5), 16),
                  (50_000, 50_000, 5), (10, 5, 500), 50_000, (2, 1, 4)),
    "mnist-v1": (((1, 28, 28), 10, 500, 256), (200, 400, 100), (76, (13, 25, 38, 51, 64, 76), 255),
                 (200_000, 200_000, 5), (10, 5, 500), 50_000, (7, 3, 4)),
    "cifar10-v1": (((3, 32, 32), 10, 500, 256), (200, 400, 100), (8, (1, 2, 3, 4, 6, 8, 12, 16), 255),
                   (500_000, 500_000, 3), (10, 5, 500), 50_000, (8, 4, 4)),
    "imagenet-v1": (((3, 224, 224), 1000, 500, 256), (100, 400, 100), (4, (1, 2, 3, 4, 6, 8), 255),
                    (1_000_000, 2_000_000, 1), (100, 2, 300), 20_000, (48, 24, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_the_definition(name: str):
    battery = read_battery(name)
    spec, attacks = battery.spec, battery.spec.attacks
    shape, one_pixel, epsilons, evolved, ascent, control, patches = SPEC[name]
    assert (spec.shape, battery.classes, spec.images, spec.levels) == shape
    pixel, patch, fgsm, climb = attacks.one_pixel, attacks.deepception, attacks.fgsm, attacks.gradient_ascent
    assert pixel is not None
    assert patch is not None
    assert fgsm is not None
    assert climb is not None
    assert (pixel.images, pixel.population, pixel.iterations) == one_pixel
    assert (pixel.pixels, pixel.f) == ((1, 3, 5), 0.5)
    epsilon, curve, top = epsilons
    # ImageNet has no panel whose images could be tried.
    within = [a for a in (attacks.projected_ascent, attacks.transfer, attacks.square) if a is not None]
    assert len(within) == (2 if name == "imagenet-v1" else 3)
    for attack in (fgsm, *within):
        assert pixel_range(attack.epsilon) == epsilon / top
        assert [pixel_range(e) for e in attack.curve] == [e / top for e in curve]
    assert (attacks.projected_ascent.steps, attacks.square.queries, attacks.square.share) == (100, 5000, 0.8)
    assert (patch.side, patch.stride, patch.copies) == patches
    assert (patch.grid, patch.keep, patch.bank, patch.queries) == (5, 8, 9, 1000)
    assert patch.bank * patch.grid**2 + patch.keep * (patch.copies - 1) <= patch.queries
    assert (len(climb.targets or range(battery.classes)), climb.runs, climb.steps) == ascent
    assert (climb.objectives, climb.decays) == (("softmax", "logit"), (0, 0.01))
    plan = {entry.name: entry for entry in entries(battery)}
    assert (plan["evolution"].budget, plan["cppn"].budget, plan["cppn"].tasks) == evolved
    assert plan["evolution"].tasks == plan["cppn"].tasks
    assert attacks.evolution is not None
    assert (attacks.evolution.mutation_rate, attacks.evolution.halve_every, attacks.evolution.eta) == (0.1, 1000, 15)
    assert plan["noise"].budget == plan["random_cppn"].budget == control
    if name == "imagenet-v1":
        assert climb.targets == tuple(range(0, 1000, 10))
        assert attacks.cppn is not None
        assert attacks.cppn.children == 400
    judge = spec.judge
    assert (judge.tau_quantile, judge.flat_confidence, judge.draws, judge.expectation_draws) == (0.05, 0.99, 10, 16)


@pytest.mark.parametrize("name", NAMES)
def test_six_rows_are_ranked_and_each_says_when_it_can_have_learned(name: str):
    spec = read_battery(name).spec
    rows = {row.name: row for row in spec.ranking}
    assert list(rows) == ["evolution", "cppn", "deepception", "one_pixel", "linf", "gradient_ascent"]
    within, ascent = rows.pop("linf"), rows["gradient_ascent"]
    every = ["fgsm", "projected_ascent", "transfer", "square", "hop_skip_jump"]
    assert within.entries == [attack for attack in every if spec.panel or attack != "transfer"]
    epsilon, curve, top = SPEC[name][2]
    assert within.epsilon == epsilon / top
    assert within.curve == pytest.approx([e / top for e in curve])
    assert ascent.entries[0] == "gradient_ascent"
    assert {"evolution", "cppn"} < set(ascent.entries)  # whoever holds gradients may also ask
    children = {"evolution": spec.attacks.evolution, "cppn": spec.attacks.cppn}
    for row in rows.values():
        assert row.reason, row.name
        assert 1 < row.first < row.budget / 10
        assert (row.control is None) == (row.name in ("deepception", "one_pixel"))
        if (generation := children.get(row.name)) is not None:
            assert row.first == generation.children
    assert spec.attacks.one_pixel is not None
    assert rows["one_pixel"].first == spec.attacks.one_pixel.population
    smoke = read_battery(name, tier="smoke").spec.ranking
    assert [(r.name, r.first, r.curve, r.epsilon) for r in smoke] == [
        (r.name, r.first, r.curve, r.epsilon) for r in spec.ranking
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_tier_is_the_same_code_on_a_twentieth_of_the_work(name: str):
    def asked(tier: str) -> dict[str, int]:
        battery = read_battery(name, tier=tier)  # pyright: ignore[reportArgumentType]
        assert battery.spec.images is not None
        out: dict[str, int] = {}
        for entry in entries(battery):
            out[entry.group] = out.get(entry.group, 0) + planned(entry, battery.spec.images, entry.group).images
        return out

    whole, part = asked("standard"), asked("smoke")
    assert whole.keys() == part.keys()
    assert [e.name for e in entries(read_battery(name))] == [e.name for e in entries(read_battery(name, tier="smoke"))]
    # What comes after other attacks is asked of what these left alone, so that its bound says little of its work.
    after = {e.group for e in entries(read_battery(name)) if e.needs}
    assert after < set(whole)
    for group in whole:
        assert (0 if group in after else 1 / 25) < part[group] / whole[group] <= 1 / 4, group
    assert (
        1 / 30
        <= sum(part[g] for g in whole if g not in after) / sum(whole[g] for g in whole if g not in after)
        <= 1 / 15
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_query_of_any_shard_stays_small(name: str):
    """In bytes of float32 pixels: what one worker must hold, twice with its 8-bit copy."""
    battery = read_battery(name)
    image = 4 * int(np.prod(battery.spec.shape))
    attacks = battery.spec.attacks
    pixel, patch, evolved = attacks.one_pixel, attacks.deepception, attacks.cppn
    assert pixel is not None
    assert patch is not None
    assert evolved is not None
    windows = int(np.prod([(n - patch.side) // patch.stride + 1 for n in battery.spec.shape[1:]]))
    largest = {
        "one pixel": pixel.images_per_shard * pixel.population,
        "patches": patch.images_per_shard * patch.grid**2,
        "bank": (patch.bank + 1) * windows,
        "evolved": evolved.children * evolved.runs_per_shard,
        "properties": patch.properties * windows,
    }
    assert {what: count * image for what, count in largest.items() if count * image > 800e6} == {}


# The images


@real
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", ["digits-v1", "mnist-v1", "cifar10-v1"])
def test_the_images_are_those_that_the_battery_states(name: str, tier: str, here: Path):
    battery = read_battery(name, tier=tier)  # pyright: ignore[reportArgumentType]
    data = battery.load()
    assert tier == "smoke" or battery.spec.digest is not None
    assert battery.spec.digest in (data.digest, None if name == "digits-v1" else data.digest)
    assert len(data.labels) == battery.spec.images
    assert data.labels.tolist() == [i % 10 for i in range(len(data.labels))]
    assert data.donor_labels.tolist() == list(range(10)) * 2
    assert data.no_training is None
    train, labels = training(
        battery.spec.data, folder=battery.data_folder, shape=battery.spec.shape, classes=battery.classes
    )
    evaluated = {image.tobytes() for image in data.images}
    learned_from = {image.tobytes() for image in train}
    assert len(evaluated) == len(data.images)
    assert not evaluated & learned_from
    assert {donor.tobytes() for donor in data.donors} <= learned_from
    np.testing.assert_allclose(data.mean, train.mean(0) / 255, atol=1e-6)
    assert np.bincount(labels).min() > 0


@real
def test_the_first_fifty_of_each_class_in_the_order_of_the_test_set(here: Path):
    mnist, cifar = read_battery("mnist-v1").load(), read_battery("cifar10-v1").load()
    labels = np.frombuffer(gzip.decompress((here / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    for label in range(10):
        assert mnist.indices[mnist.labels == label].tolist() == np.flatnonzero(labels == label)[:50].tolist()
    assert cifar.indices.max() < 1000
    assert (
        hashlib.sha256(cifar.images[0].tobytes()).hexdigest() != hashlib.sha256(cifar.images[1].tobytes()).hexdigest()
    )


def test_reading_a_submission_imports_neither_torch_nor_numpy():
    """So that what is wrong with it is told at once. (Reading its battery imports the attacks, and torch with them.)"""
    code = (
        "import sys; from pathlib import Path; from foolbench.bench.submission.submission import read_submission\n"
        f"read_submission(Path({str(PANEL.parents[1] / 'submissions/digits-lenet-bit-depth/submission.yaml')!r}))\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'onnxruntime'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PANEL.parents[1]
    )
    assert answer.stdout == "[]\n"


# Panels


FLOORS = {
    "mnist-lenet-a": 0.97,
    "mnist-lenet-b": 0.97,
    "mnist-mlp": 0.95,
    "mnist-resnet": 0.97,
    "mnist-logistic": 0.87,
    "mnist-svm": 0.87,
    "mnist-forest": 0.85,
    "mnist-knn": 0.89,
    "cifar10-lenet-a": 0.5,
    "cifar10-lenet-b": 0.5,
    "cifar10-resnet": 0.55,
}
"""The clean accuracy that each reference model has at least on its battery's evaluation images."""


@pytest.mark.parametrize("name", ["mnist-v1", "cifar10-v1"])
def test_the_panel_is_what_the_battery_says_and_small(name: str):
    panel = read_battery(name).spec.panel
    assert panel is not None
    prefix = name.removesuffix("v1")
    files = {model.path: (PANEL / model.path).read_bytes() for model in panel.models}
    assert [prefix + model.name + ".onnx" for model in panel.models] == list(files)
    assert set(files) == set(RECIPES[f"{prefix}panel"].files) == {p.name for p in PANEL.glob(f"{prefix}*.onnx")}
    for model in panel.models:
        assert hashlib.sha256(files[model.path]).hexdigest() == model.sha256
    assert max(map(len, files.values())) < 1_000_000
    assert sum(map(len, files.values())) < 3_000_000
    assert read_battery("imagenet-v1").spec.panel is None


@real
@pytest.mark.parametrize("name", ["mnist-v1", "cifar10-v1"])
def test_panel_models_are_as_good_as_stated(name: str, here: Path):
    battery = read_battery(name)
    data = battery.load()
    assert battery.spec.panel is not None
    for model in battery.spec.panel.models:
        session = onnxruntime.InferenceSession(PANEL / model.path, providers=["CPUExecutionProvider"])
        images = data.images.astype(np.float32) / np.float32(255)
        (answers,) = session.run([model.output_name or session.get_outputs()[0].name], {"input": images})
        right = (np.asarray(answers).argmax(1) == data.labels).mean()
        assert right >= FLOORS[f"{name.removesuffix('-v1')}-{model.name}"], model.name


# Submissions


def of_name(name: str) -> Net:
    return next(net for net in nets() if net.name == name)


VICTIMS = [("mnist-v1", "mnist_vnncomp21_verivital_Convnet_maxpool"), ("cifar10-v1", "cifar10_onepixel_lenet")]


@real
@pytest.mark.parametrize(("name", "victim"), VICTIMS)
def test_a_network_is_as_good_on_the_batterys_images_as_it_is_elsewhere(
    name: str, victim: str, tmp_path: Path, here: Path
):
    net, battery = of_name(victim), read_battery(name)
    given = read_submission(write_submission(net, tmp_path, name))
    on = ground(battery)
    assembled = subject_of(given).assemble(on)
    clean = examine(assembled.victim, on)
    assert assembled.certificate.mismatch is False
    assert float(clean.right.float().mean()) == pytest.approx(net.right / net.images, abs=0.025)


@real
@pytest.mark.slow
@pytest.mark.parametrize(("name", "victim"), VICTIMS)
def test_a_whole_run_on_the_smoke_tier(name: str, victim: str, tmp_path: Path, here: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    subject = subject_of(read_submission(write_submission(of_name(victim), tmp_path, name)))
    battery: Battery = read_battery(name, tier="smoke")
    run = evaluate_subject(subject, battery, Execution("cpu"), out=tmp_path / "run")
    assert run.failures == {}
    record = json.loads((run.folder / "record.json").read_text(encoding="utf-8"))
    assert record["scores"]["clean_accuracy"]["n"] == 50
    assert record["scores"]["robust_score"]["value"] is not None
    assert record["unranked_reason"] == "the smoke tier is never ranked"
    assert record["transfer"]
