"""What a defense makes of training images, and that whatever stands behind it is fitted to those."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from defense_victims import Defense, camera, pixels, small_net, through
from foolbench.bench.asking.reading import reading_of
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.data.spread import evenly
from foolbench.bench.errors import FoolbenchError
from foolbench.bench.submission.defenses import (
    BitDepth,
    GaussianNoise,
    OnnxDefense,
    PackageDefense,
    RandomizedSmoothing,
)
from foolbench.bench.submission.detectors import MaxSoftmax
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim import assemble, defended
from foolbench.bench.victim.assemble import Assembled, subject_of
from foolbench.bench.victim.fitting import training_images
from foolbench.bench.victim.recorded import RecordedDefense, recorded
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.randomized_smoothing import randomized_smoothing
from foolbench.models.base import Classifier
from model_files import graph, seeded
from onnx import ModelProto, helper
from planted import ground
from small_runs import submit
from torch import Tensor

DIM = "onnx, role: preprocess, path: dim.onnx"


# one defense


def shown(defense: Defense, model: Classifier | None = None) -> RecordedDefense:
    """As a package's, which may ask whatever it likes."""
    spec = PackageDefense.model_construct(name="planted", args={})
    found = recorded(spec, model or small_net(), lambda _, recorder: defense(recorder))
    assert found is not None
    return found


def test_the_built_in_kinds_without_asking_the_network():
    images, labels = pixels((1, 8, 8), 300), torch.arange(300)
    blind, asked = camera((1, 8, 8))
    for spec, build, expected in (
        (BitDepth(kind="bit_depth", bits=2), lambda _, recorder: bit_depth(recorder, 2), (images * 3).round() / 3),
        (GaussianNoise(kind="gaussian_noise", sigma=0.2), lambda _, recorder: gaussian_noise(recorder, 0.2), None),
    ):
        found = recorded(spec, blind, build)
        assert found is not None
        seen, theirs = found.change(images, labels, seeded(3))
        assert torch.equal(theirs, labels)
        assert torch.equal(seen, found.change(images, labels, seeded(3))[0])
        if expected is None:
            middle = (images > 0.45) & (images < 0.55)
            assert 0.19 < float((seen - images)[middle].std()) < 0.21
            assert not torch.equal(seen, found.change(images, labels, seeded(4))[0])
        else:
            assert torch.equal(seen, expected)
            assert torch.equal(seen, through(lambda inner: bit_depth(inner, 2), images))
    assert not asked
    for spec in (
        MaxSoftmax(kind="max_softmax"),
        OnnxDefense.model_construct(kind="onnx", role="detector", path="x.onnx"),
    ):
        assert recorded(spec, blind, lambda _, recorder: recorder) is None


def test_of_smoothing_one_noisy_copy_counts():
    asked = []

    def build(spec: RandomizedSmoothing, recorder: Classifier) -> Classifier:
        asked.append(spec.samples)
        return randomized_smoothing(recorder, spec.sigma, spec.samples)

    spec = RandomizedSmoothing(kind="randomized_smoothing", sigma=0.1, samples=100_000)
    found = recorded(spec, small_net(), build)  # pyright: ignore[reportArgumentType]
    assert found is not None
    gray = torch.linspace(0.4, 0.6, 300)[:, None, None, None].expand(-1, 1, 8, 8)
    seen, labels = found.change(gray, torch.arange(300), seeded())
    assert (asked, spec.samples) == ([1], 100_000)
    assert torch.equal(labels, torch.arange(300))
    assert 0.095 < float((seen - gray).std()) < 0.105
    assert float((seen - gray).mean((1, 2, 3)).abs().max()) < 0.1  # each copy is of its own image


def test_a_package_may_ask_in_any_order_and_leave_images_out():
    images, labels = pixels((1, 8, 8), 30), torch.arange(30)

    def interleaved(inner: Classifier) -> Classifier:
        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            return inner.probabilities((1 - images).repeat_interleave(3, 0), rng)[::3]

        return replace(inner, probabilities=probabilities)

    seen, theirs = shown(interleaved).change(images, labels, seeded())
    assert torch.equal(seen, 1 - images)
    assert torch.equal(theirs, labels)

    def only_bright(inner: Classifier) -> Classifier:
        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            answer = torch.zeros(len(images), 4)
            bright = images[:, 0, 0, 0] > 0.3
            if bool(bright.any()):
                answer[bright] = inner.probabilities(images[bright], rng)
            return answer

        return replace(inner, probabilities=probabilities, rejects=True)

    seen, theirs = shown(only_bright).change(images, labels, seeded())
    bright = images[:, 0, 0, 0] > 0.3
    assert 0 < int(bright.sum()) < 30
    assert torch.equal(seen, images[bright])
    assert torch.equal(theirs, labels[bright])
    with pytest.raises(ValueError, match=r"got no question about any of 30: write the defenses that are fitted"):
        shown(only_bright).change(images * 0, labels, seeded())


def test_a_package_gets_the_network_s_own_answers():
    net, images = small_net(), pixels((1, 8, 8), 30)
    label = net.probabilities(images, seeded()).argmax(1)

    def by_the_answer(inner: Classifier) -> Classifier:
        assert inner.logits is not None
        logits = inner.logits

        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            return inner.probabilities(images * (logits(images, rng).argmax(1) == 0).view(-1, 1, 1, 1), rng)

        victim = replace(inner, probabilities=probabilities)
        torch.testing.assert_close(victim.probabilities(images, seeded())[label == 0], own[label == 0])
        return victim

    own = net.probabilities(images, seeded())
    seen, _ = shown(by_the_answer).change(images, torch.arange(30), seeded())
    assert torch.equal(seen, images)  # the first that is asked about; what its factory asked does not count


# a submission


def image_graph(*nodes: tuple[str, float], output: tuple[int | str, ...] = ("N", 1, 8, 8)) -> bytes:
    """A graph of one operator and one number after another."""
    names = ["x", *(f"x{i}" for i in range(1, len(nodes))), "y"]
    chain = [helper.make_node(kind, [names[i], f"s{i}"], [names[i + 1]]) for i, (kind, _) in enumerate(nodes)]
    numbers = {f"s{i}": np.array(value, np.float32) for i, (_, value) in enumerate(nodes)}
    return graph(chain, numbers, output=output).SerializeToString()


def brightness() -> bytes:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2, 3], keepdims=0)]
    return graph(nodes, {}, output=("N",)).SerializeToString()


def submission(folder: Path, *defenses: str, network: ModelProto | None = None) -> Path:
    path = submit(folder, model=network)
    (folder / "dim.onnx").write_bytes(image_graph(("Mul", 0.5)))
    (folder / "brightness.onnx").write_bytes(brightness())
    path.write_text(path.read_text() + "defenses:\n" + "".join(f"  - {{kind: {one}}}\n" for one in defenses))
    return path


def assembled(folder: Path, *defenses: str, network: ModelProto | None = None) -> Assembled:
    given = read_submission(submission(folder, *defenses, network=network))
    battery = read_battery(given.spec.battery, folder=given.folder)
    return subject_of(given).assemble(ground(battery))


def clean(folder: Path) -> Tensor:
    submit(folder)
    return training_images(read_battery("./battery.yaml", folder=folder), 300)[0]


def rejected(whole: Assembled, images: Tensor, seed: int = 0) -> Tensor:
    return reading_of(whole.victim.probabilities(images, seeded(seed))).label < 0


@pytest.mark.parametrize(
    "detector", ["max_softmax", "energy", "feature_squeezing, bits: 1", "density, dimensions: 8", "mahalanobis"]
)
@pytest.mark.parametrize("front", ["bit_depth, bits: 2", "jpeg, quality: 20", "pca, components: 9", DIM])
def test_the_share_asked_for_is_rejected_behind_what_changes_the_image(tmp_path: Path, front: str, detector: str):
    submit(tmp_path)
    images, labels = training_images(read_battery("./battery.yaml", folder=tmp_path), 300)
    # What is fitted to two thirds of the images has its threshold from the other third.
    third = evenly(labels.numpy(), 100)
    held = images[third] if detector.startswith(("density", "mahalanobis")) else images
    whole = assembled(tmp_path, front, f"{detector}, reject: 0.1")
    assert int(rejected(whole, held).sum()) == len(held) // 10


def planted(seed: int) -> ModelProto:
    """Sure of class 0 by how far pixels are from 1/2, which a bit depth of 1 makes the same everywhere; the rest of the
    logits are random weights of the pixels, or 0 where `seed` is 0."""
    weights = np.random.default_rng(seed).normal(0, 0.3, (64, 10)) * (seed > 0)
    sure = np.zeros((64, 10))
    sure[:, 0] = 20 / 64
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["z"]),
        helper.make_node("Sub", ["f", "half"], ["d"]),
        helper.make_node("Abs", ["d"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["u"]),
        helper.make_node("Add", ["z", "u"], ["y"]),
    ]
    given = {"w": weights, "half": np.array(0.5), "v": sure}
    return graph(nodes, {name: value.astype(np.float32) for name, value in given.items()})


def test_confidence_that_the_defense_in_front_changes(tmp_path: Path):
    images, network = clean(tmp_path), planted(1)
    whole = assembled(tmp_path, "bit_depth, bits: 1", "max_softmax, reject: 0.1", network=network)
    assert whole.bare is not None
    unsure = 1 - whole.bare.victim.probabilities(images.round(), seeded()).amax(1)
    found = rejected(whole, images)
    assert int(found.sum()) == 30
    assert torch.equal(found, unsure >= unsure.sort(descending=True).values[29])
    # By the images as they are it would reject hardly any of those that it sees.
    alone = assembled(tmp_path, "max_softmax, reject: 0.1", network=network)
    assert int(rejected(alone, images).sum()) == 30
    assert int(rejected(alone, images.round()).sum()) <= 3


def test_a_detector_that_sees_nothing_behind_the_defense_in_front_is_refused(tmp_path: Path):
    assert bool(rejected(assembled(tmp_path, "max_softmax, reject: 0.1", network=planted(0)), clean(tmp_path)).any())
    with pytest.raises(FoolbenchError, match=r"Expected scores that differ between clean images, got [\d.e-]+ for all"):
        assembled(tmp_path, "bit_depth, bits: 1", "max_softmax, reject: 0.1", network=planted(0))


@pytest.mark.parametrize("detector", ["mahalanobis, shrinkage: 0.3", "onnx, role: detector, path: brightness.onnx"])
def test_what_dims_the_images_moves_no_decision(tmp_path: Path, detector: str):
    """A linear network and half of every image: distances to classes that were fitted to halves are what they were."""
    network = planted(1) if detector.startswith("onnx") else None
    expected = rejected(assembled(tmp_path, f"{detector}, reject: 0.1", network=network), images := clean(tmp_path))
    assert bool(expected.any())
    assert torch.equal(
        rejected(assembled(tmp_path, DIM, f"{detector}, reject: 0.1", network=network), images), expected
    )


@pytest.mark.parametrize(
    "fronts",
    [
        ["gaussian_noise, sigma: 0.3"],
        ["random_resize_pad, grow: 4"],
        ["max_softmax, reject: 0.01", "gaussian_noise, sigma: 0.2", DIM, "gaussian_noise, sigma: 0.2"],
    ],
    ids=["noise", "resizing", "several"],
)
def test_the_share_asked_for_is_rejected_behind_chance(tmp_path: Path, fronts: list[str]):
    images, detector = clean(tmp_path), "onnx, role: detector, path: brightness.onnx"
    unchanged = float(images.mean((1, 2, 3)).sort(descending=True).values[29])

    def share(whole: Assembled) -> float:
        return sum(float(rejected(whole, images, seed).float().mean()) for seed in range(10)) / 10

    chosen = assembled(tmp_path, *fronts, f"{detector}, reject: 0.1")
    assert 0.07 < share(chosen) < 0.13  # one draw of 300 images chose it: a standard deviation of 0.017
    by_the_unchanged = share(assembled(tmp_path, *fronts, f"{detector}, threshold: {unchanged}, spread: 0.05"))
    assert by_the_unchanged < 0.05 or by_the_unchanged > 0.4
    again = assembled(tmp_path, *fronts, f"{detector}, reject: 0.1")
    answers = [victim.probabilities(images, seeded(5)) for victim in (chosen.victim, again.victim)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("last", ["max_softmax", "max_softmax, threshold: 0.3", "pca, components: 3"])
def test_what_is_wrong_with_a_defense_in_front_is_pinned_to_its_own_line(tmp_path: Path, last: str):
    with pytest.raises(FoolbenchError) as caught:
        assembled(tmp_path, "bit_depth, bits: 3", "random_resize_pad, grow: 9", last)
    (problem,) = caught.value.problems
    assert problem.where.key == "defenses[1]"  # told once, though the one behind needs it too
    assert "grow of random_resize_pad to be a whole number from 1 to 8, got 9" in problem.message


def test_each_is_built_once_more_and_only_where_something_is_chosen_behind_it(tmp_path: Path, monkeypatch):
    looked: list[str] = []

    def looking(defense, *rest):
        looked.append(defense.kind)
        return recorded(defense, *rest)

    monkeypatch.setattr(assemble, "recorded", looking)
    assembled(tmp_path, "bit_depth, bits: 3", "max_softmax, threshold: 0.3, spread: 0.1")
    assembled(tmp_path, "max_softmax", "bit_depth, bits: 3")
    assert looked == []
    assembled(tmp_path, *("pca, components: 20",) * 4, "energy", "max_softmax")
    assert looked == [*("pca",) * 4, "energy"]


def test_what_is_loaded_or_fitted_is_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Though it stands in front of what is fitted as well as in front of the victim."""
    made: list[str] = []

    def counting(name: str) -> None:
        make = getattr(defended, name)
        monkeypatch.setattr(defended, name, lambda *given, **more: made.append(name) or make(*given, **more))

    counting("load_image_graph")
    counting("fitted")
    whole = assembled(tmp_path, DIM, "pca, components: 20", DIM, "energy, reject: 0.1", "max_softmax, reject: 0.1")
    assert sorted(made) == ["fitted", "load_image_graph", "load_image_graph"]
    # What the detectors were fitted to is what they see: of the training images they reject what they were asked to.
    assert 30 <= int(rejected(whole, clean(tmp_path)).sum()) <= 60
