"""Networks that others made run as they are: their stated accuracies to the image, and whole evaluations of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Ground
from foolbench.bench.choices import Tier
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import Assembled, subject_of
from foolbench.leaderboard.record.record import Record
from model_files import DATA, needs_data
from pages import blocks
from planted import RANKED, ground
from small_runs import COMMAND, ENVIRONMENT, inside, refused, submit
from third_party import Net, nets, photo_rows, write_batteries, write_photos_as_measured, write_submission

NETS = nets()
ONE_OF_EACH_KIND = {
    "mnist_vnncomp21_mnist-net_256x2",  # flat pixels, batch of 1
    "mnist_vnncomp21_eran_mnist_relu_9_200",  # NCHW, batch of 1, many logits exactly 0
    "mnist_zoo_mnist-8",  # 0-255, logits of 10,000
    "cifar10_vnncomp21_resnet_2b",  # mean and std a channel, batch of 1
    "cifar10_vnncomp21_oval21_cifar_base_kw",
    "cifar10_vnncomp21_marabou_cifar10_small",  # NHWC
    "cifar10_emclab_squeezenet",  # NHWC, probabilities
    "cifar10_onepixel_lenet",  # 0-255 with mean and std
}
DEAD_AT_THE_START = {"mnist_vnncomp21_mnist-net_256x2"}  # no ReLU is on at the mean image, so nothing can be climbed
PHOTOGRAPHS = {"imagenet_squeezenet1_0_deepcompression", "mobilenetv2_100.tf_same_q8"}  # 0-255 BGR; timm


def only(*datasets: str, quick: set[str]) -> list:
    """Networks as parameters; those that are not `quick` are slow."""
    chosen = [net for net in NETS if net.dataset in datasets]
    return [pytest.param(n, id=n.name, marks=() if n.name in quick else pytest.mark.slow) for n in chosen]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third_party")
    write_batteries(folder)
    return folder


@lru_cache(maxsize=2)
def loaded(path: Path) -> Ground:
    return ground(read_battery(path.name, folder=path.parent))


def opened(submission: Path) -> tuple[Assembled, Ground]:
    """What `evaluate` does with a submission before it attacks."""
    given = read_submission(submission)
    on = loaded((given.folder / given.spec.battery).resolve())
    return subject_of(given).assemble(on), on


# the documented batteries


@needs_data
def test_documented_batteries_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert DATA is not None
    monkeypatch.chdir(tmp_path)
    into_npz, show_digest = documented("python")
    mnist, *others = documented("yaml")
    (photos,) = (text for text in others if "photos-test.csv" in text)
    for file in (DATA / "mnist").glob("*.gz"):
        shutil.copyfile(file, file.name)
    exec(into_npz, {})
    Path("mnist.yaml").write_text(mnist)
    tiers: tuple[tuple[Tier, int], ...] = (("standard", 200), ("smoke", 40))
    for tier, images in tiers:
        battery = read_battery("mnist.yaml", tier=tier)
        data = battery.load()
        assert data.images.shape == (images, 1, 28, 28)
        assert np.bincount(data.labels).tolist() == [images // 10] * 10
        assert data.donors.shape == (20, 1, 28, 28)
        assert not battery.shipped
        groups = dict.fromkeys(entry.group for entry in entries(battery))
        assert tuple(groups) == (*RANKED, "noise", "random_cppn")
    exec(show_digest, {})
    assert capsys.readouterr().out.strip() == read_battery("mnist.yaml").load().digest

    Path("photos").mkdir()
    for name, rows in (("test", photo_rows()[:4]), ("train", photo_rows()[4:6])):
        lines = ["file,class_index", *(f"{file},{label}" for file, label in rows)]
        Path(f"photos-{name}.csv").write_text("\n".join(lines))
        for file, _ in rows:
            shutil.copyfile(DATA / "imagenet1k_sample/images" / file, Path("photos", file))
    whole = yaml.safe_load(mnist) | yaml.safe_load(photos) | {"images": 4, "attacks": {}, "ranked": [], "smoke": None}
    Path("photos.yaml").write_text(yaml.safe_dump(whole))
    data = read_battery("photos.yaml").load()
    assert data.images.shape == (4, 3, 256, 256)
    assert data.donor_labels.tolist() == [4, 5]


def test_other_training_images_make_another_run(tmp_path: Path):
    """Donors and the mean image come from them, and shards made with others must not be taken over."""
    submission, out = submit(tmp_path), tmp_path / "run"
    assert inside("evaluate", submission, "--out", out, "--progress", "none").returncode == 0
    with np.load(tmp_path / "train.npz") as train:
        x, y = train["x"], train["y"]
    np.savez(tmp_path / "train.npz", x=x[::-1], y=y[::-1])
    again = inside("evaluate", submission, "--out", out, "--progress", "none")
    assert "training: " in refused(again, 2, "FB406")


def documented(language: str) -> list[str]:
    return [block.text for block in blocks("docs/own-battery.md") if block.language == language]


# stated accuracies


@needs_data
@pytest.mark.parametrize("net", only("mnist", "cifar10", quick=ONE_OF_EACH_KIND))
def test_the_stated_accuracy_is_met_to_the_image(net: Net, home: Path):
    whole, on = opened(write_submission(net, home / "clean", f"../../{net.dataset}-clean.yaml"))
    clean = examine(whole.victim, on)
    assert (int(clean.right.sum()), len(clean.truth)) == (net.right, net.images)
    assert not clean.randomised
    assert clean.accepted.all()
    assert whole.certificate.agrees, whole.certificate
    assert whole.victim.logits is not None
    assert clean.zero_gradient_share is not None
    assert clean.zero_gradient_share < 0.01


@needs_data
@pytest.mark.parametrize("net", only("imagenet", quick=set()))
def test_on_the_very_pixels_that_were_measured_photographs_are_met_to_the_image(net: Net, home: Path):
    """Of a battery at the network's own size, the submission need say nothing of resizing."""
    given = net.model["input"]
    battery = write_photos_as_measured(home, given["size"][0], given["resize"])
    submission = write_submission(net, home / "stored", f"../../{battery}.yaml", as_stored=True)
    whole, on = opened(submission)
    clean = examine(replace(whole.victim, logits=None), on)
    assert (int(clean.right.sum()), len(clean.truth)) == (net.right, net.images)
    assert whole.certificate.agrees, whole.certificate


BAND = 5
"""How far the number of right answers to 1000 photographs may move; -4 to +3 were measured."""


@needs_data
@pytest.mark.parametrize("net", only("imagenet", quick=set()))
def test_photographs_cut_twice_stay_close_to_the_stated_accuracy(net: Net, home: Path):
    """A battery has images of one size, so the long side is cut off before the network's own resizing and not after:
    the picture may lie a pixel further left, and is scaled by 183/256 where it was by 243/341. That turns near-ties."""
    whole, on = opened(write_submission(net, home / "cut", "../../imagenet-clean.yaml"))
    clean = examine(replace(whole.victim, logits=None), on)
    assert abs(int(clean.right.sum()) - net.right) <= BAND


# whole evaluations


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """What the runs below gave, shown at the end (`pytest -s`)."""
    return []


@pytest.fixture(scope="module", autouse=True)
def table(rows: list[list[str]]):
    yield
    if rows:
        head = ["network", "clean", "stated", *RANKED, "flags", "s"]
        print("\n" + "\n".join("  ".join(cells) for cells in (head, *rows)))


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("net", [pytest.param(n, id=n.name) for n in NETS if n.name in ONE_OF_EACH_KIND | PHOTOGRAPHS])
def test_a_whole_evaluation(net: Net, home: Path, rows: list[list[str]]):
    submission = write_submission(net, home / "tiny", f"../../{net.dataset}-tiny.yaml")
    started = time.perf_counter()
    call = [COMMAND, "evaluate", submission, "--json", "--out", home / "runs" / net.name]
    done = subprocess.run(call, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=900)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    record = Record.model_validate(json.loads(done.stdout)["record"])
    flags = {flag.code for flag in record.flags}
    clean = record.scores.clean_accuracy
    ratios = [record.attacks[name].fooling_ratio for name in RANKED]
    rows.append([net.name, f"{clean.k}/{clean.n}", f"{net.right / net.images:.4g}", *(f"{r.value}" for r in ratios)])
    rows[-1] += [" ".join(sorted(flags)) or "-", f"{seconds:.0f}"]

    assert list(record.attacks) == list(RANKED)
    assert set(record.controls) == ({"noise", "random_cppn"} if net.dataset != "imagenet" else set())
    modes = {name: result.mode for name, result in record.attacks.items()}
    white = {"fgsm", "gradient_ascent"}
    assert modes == {name: "gradient" if name in white else "black_box" for name in RANKED}
    classes = len(record.battery.classes)
    for name, ratio in zip(RANKED, ratios, strict=True):
        assert ratio.value is not None, (name, ratio.reason)
        assert ratio.n == (classes if name in ("evolution", "cppn") else 2 if name == "gradient_ascent" else ratio.n)
        assert record.attacks[name].total_queries + record.attacks[name].gradients > 0
    assert record.scores.robust_score.value is not None
    assert (record.certificate or {})["agrees"] is True
    assert not flags & {"gradient_mismatch", "surrogate", "randomised", "rejects_clean"}
    blind = {flag.attack for flag in record.flags if flag.code == "zero_gradient"}
    assert blind == ({"gradient_ascent"} if net.name in DEAD_AT_THE_START else set())
    assert ("saturated" in flags) == (net.name == "mnist_zoo_mnist-8")
    exported = " (exported)" if net.model["kind"] == "timm" else ""
    assert record.provenance.backend == f"onnxruntime-cpu{exported}"
    assert not record.battery.shipped
    assert not record.rankable
