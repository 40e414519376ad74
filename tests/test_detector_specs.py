"""Every kind of defense that rejects as a submission's YAML: what is read, what is refused, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.bench.asking.reading import reading_of
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.data.spread import evenly
from foolbench.bench.errors import InvalidInput
from foolbench.bench.submission.submission import json_schema, read_submission
from foolbench.bench.victim.assemble import Assembled, subject_of
from foolbench.bench.victim.fitting import training_images
from foolbench.models.onnx.score_graph import load_score_graph
from foolbench.models.preprocess import Preprocess
from model_files import apart, graph, pictures
from onnx import ModelProto, TensorProto, helper
from planted import ground
from small_runs import BATTERY, changed, inside, nearest_mean, submit

CPU = torch.device("cpu")


def given(folder: Path, *defenses: str, battery: dict[str, Any] = BATTERY, model: ModelProto | None = None) -> Path:
    """A submission with these defenses, a line each, and the graph `detector.onnx`."""
    path = submit(folder, battery=battery, model=model)
    (folder / "detector.onnx").write_bytes(detector().SerializeToString())
    path.write_text(path.read_text() + "defenses:\n" + "".join(f"  - {{{defense}}}\n" for defense in defenses))
    return path


def detector(last: str = "Identity", columns: int | None = None, scale: float = 1.0) -> ModelProto:
    """The mean of all pixels, times `scale`, as one number; or as `columns` numbers of which the second is that."""
    means = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0)]
    if columns is None:
        nodes = [*means, helper.make_node("Mul", ["m", "s"], ["z"]), helper.make_node(last, ["z"], ["y"])]
        return graph(nodes, {"s": np.array(scale, np.float32)}, output=("N",))
    weights = np.zeros((64, columns), np.float32)
    weights[:, 1] = scale / 64
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["z"]),
        helper.make_node(last, ["z"], ["y"]),
    ]
    return graph(nodes, {"w": weights}, output=("N", columns))


def assembled(path: Path) -> Assembled:
    submission = read_submission(path)
    battery = read_battery(submission.spec.battery, folder=submission.folder)
    return subject_of(submission).assemble(ground(battery))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rejected(whole: Assembled, images: torch.Tensor) -> torch.Tensor:
    return reading_of(whole.victim.probabilities(images, seeded())).label < 0


COMMON = {"reject": 0.02, "threshold": None, "spread": None, "images": 2000}
KINDS = [
    ("kind: feature_squeezing, bits: 2, size: 2", {"bits": 2, "size": 2, **COMMON}),
    ("kind: feature_squeezing, size: 3, reject: 0.1", {"bits": None, "size": 3, **COMMON, "reject": 0.1}),
    ("kind: max_softmax", {"temperature": 1.0, **COMMON}),
    ("kind: max_softmax, temperature: 10, reject: 0.05", {"temperature": 10.0, **COMMON, "reject": 0.05}),
    ("kind: energy, images: 100", {"temperature": 1.0, **COMMON, "images": 100}),
    (
        "kind: density",
        {"features": "pixels", "dimensions": None, "shrinkage": 0.01, "covariance": "tied", "components": None},
    ),
    ("kind: density, components: 4, covariance: own, dimensions: 8", {"components": 4, "dimensions": 8}),
    ("kind: density, features: logits, reject: 0.1", {"features": "logits"}),
    ("kind: mahalanobis", {"features": "logits", "dimensions": None, "shrinkage": 0.01, **COMMON}),
    ("kind: mahalanobis, features: pixels, dimensions: 12, shrinkage: 0.3", {"features": "pixels", "dimensions": 12}),
    ("kind: onnx, role: detector, path: detector.onnx", {"role": "detector", **COMMON}),
]


@pytest.mark.parametrize(("yaml", "meaning"), KINDS, ids=[yaml.removeprefix("kind: ") for yaml, _ in KINDS])
def test_each_kind_is_read_and_rejects_its_share(tmp_path: Path, yaml: str, meaning: dict[str, Any]):
    path = given(tmp_path, yaml)
    spec = read_submission(path).spec.defenses[0]
    assert {**spec.model_dump(), **meaning} == spec.model_dump()
    whole = assembled(path)
    images, labels = training_images(read_battery("./battery.yaml", folder=tmp_path), spec.model_dump()["images"])
    # What is fitted to two thirds of the images has its threshold from the other third.
    held = images[evenly(labels.numpy(), len(labels) // 3)] if "shrinkage" in spec.model_dump() else images
    assert int(rejected(whole, held).sum()) == int(spec.model_dump()["reject"] * len(held))
    assert whole.victim.logits is not None
    assert whole.victim.logits(images, seeded()).shape == (len(images), 11)
    assert bool(rejected(whole, 1 - images).any())
    again = assembled(path).victim.probabilities(images, seeded())
    assert torch.equal(again, whole.victim.probabilities(images, seeded()))


def test_a_threshold_of_ones_own(tmp_path: Path):
    start = "kind: onnx, role: detector, path: detector.onnx, threshold: 0.3"
    images, _ = training_images(read_battery("./battery.yaml", folder=given(tmp_path, start).parent), 300)
    expected = images.flatten(1).mean(1) >= 0.3
    assert 0 < int(expected.sum()) < 300
    assert torch.equal(rejected(assembled(tmp_path / "submission.yaml"), images), expected)
    bare = changed(BATTERY, data={"kind": "npz", "path": "test.npz"}, donors_per_class=0)
    path = given(tmp_path / "bare", start, battery=bare)
    with pytest.raises(InvalidInput, match="or give `spread` beside `threshold`"):
        assembled(path)
    path = given(tmp_path / "bare", start + ", spread: 0.05", battery=bare)
    assert torch.equal(rejected(assembled(path), images), expected)


def test_an_image_meets_detectors_and_others_in_order(tmp_path: Path):
    detect = "kind: onnx, role: detector, path: detector.onnx, threshold: 0.3, spread: 0.05"
    dim = "kind: bit_depth, bits: 1"
    images, _ = training_images(read_battery("./battery.yaml", folder=given(tmp_path, dim).parent), 300)
    for order, seen in (((detect, dim), images), ((dim, detect), images.round())):
        whole = assembled(given(tmp_path, *order, "kind: energy, reject: 0.1"))
        others = rejected(assembled(given(tmp_path, dim, "kind: energy, reject: 0.1")), images)
        both = rejected(whole, images)
        assert bool((both >= (seen.flatten(1).mean(1) >= 0.3)).all())
        assert int(both.sum()) >= int((seen.flatten(1).mean(1) >= 0.3).sum())
        assert bool(others.any())
        assert whole.victim.surrogates == ("bit_depth",)


WRONG = [
    ("kind: feature_squeezing",
     "FB104 defenses[0]: Expected `bits` or `size` or both, got neither. | bits: 3, size: 2"),
    ("kind: feature_squeezing, bits: 9", "FB104 defenses[0].bits: Expected a number of at most 8, got 9. | bits: 8"),
    ("kind: max_softmax, reject: 0", "FB104 defenses[0].reject: Expected a number above 0, got 0. | reject: 0.02"),
    ("kind: max_softmax, reject: 0.9", "FB104 defenses[0].reject: Expected a number of at most 0.5, got 0.9. | "),
    ("kind: energy, threshold: 3, reject: 0.1",
     "FB104 defenses[0].threshold: Expected either `threshold` or `reject`, got both. | remove one of the two"),
    ("kind: energy, spread: 3", "FB104 defenses[0].spread: Expected `spread` beside `threshold`, got it alone. | "),
    ("kind: density, feature: logits",
     "FB103 defenses[0].feature: Expected the key `features`, got the unknown key `feature`."),
    ("kind: mahalanobis, dimensions: 3",
     "FB104 defenses[0].dimensions: Expected `dimensions` with `features: pixels` only, got them with logits."),
    ("kind: mahalanobis, covariance: own", "FB103 defenses[0].covariance: Expected keys of `defenses[0]` ("),
    ("kind: onnx, role: preprocess, path: detector.onnx, reject: 0.1",
     "FB104 defenses[0].reject: Expected `reject` with `role: detector` only, got it with preprocess. | remove it, or"),
    ("kind: onnx, role: detector, path: detecter.onnx",
     "FB108 defenses[0].path: Expected a file, got detecter.onnx, which is not there. | did you mean detector.onnx?"),
]  # fmt: skip


@pytest.mark.parametrize(("yaml", "expected"), WRONG, ids=range(len(WRONG)))
def test_one_mistake_one_problem_on_its_line(tmp_path: Path, yaml: str, expected: str):
    path = given(tmp_path, yaml)
    with pytest.raises(InvalidInput) as caught:
        read_submission(path)
    (problem,) = caught.value.problems
    found = f"{problem.code} {problem.where.key}: {problem.message} | {problem.fix}"
    assert found[: len(expected)] == expected
    assert problem.where.source == f"  - {{{yaml}}}"


SMOOTHING = "kind: randomized_smoothing, sigma: 0.1, samples: 30"
ABSTAINS = "kind: onnx, role: detector, path: detector.onnx, threshold: -1, spread: 1"
NO_TRAINING = {"data": {"kind": "npz", "path": "test.npz"}, "donors_per_class": 0}
NAMES_SOME = "name some in the battery's `data.train`, or leave this defense out"
LATE = [
    ("kind: max_softmax", NO_TRAINING, "FB104 Expected training images to fit this defense to, got none in the ",
     NAMES_SOME),
    ("kind: density, threshold: 1, spread: 1", NO_TRAINING,
     "FB104 Expected training images to fit this defense to, got none in the ", NAMES_SOME),
    ("kind: density, images: 9", {}, "FB104 Expected at least 2 training images of every class to fit density to, got ",
     "take more `images`, or a mixture that needs no classes"),
    ("kind: density, dimensions: 65", {},
     "FB104 Expected dimensions of density to be a whole number from 1 to 64, got 65.", "choose one in that range"),
    ("kind: density, shrinkage: 0, dimensions: 64", {},
     "FB104 Expected features whose covariance can be inverted for density, got a singular one.",
     "raise `shrinkage`, take more `images`, or fewer `dimensions`"),
    ("kind: onnx, role: detector, path: constant.onnx", {},
     "FB104 Expected scores that differ between clean images, got 0 for all ",
     "the detector sees nothing in them; use another one"),
    ("kind: onnx, role: preprocess, path: detector.onnx", {},
     "FB207 Expected an image of the same shape as the one put in, 64 numbers, got 1 ('y').",
     "did you mean role: detector?"),
    ("kind: onnx, role: detector, path: model.onnx", {}, "FB207 Expected 1 or 2 numbers an image, got 10 ('y').",
     "make the graph return one score an image, or two probabilities: genuine, and not"),
]  # fmt: skip


@pytest.mark.parametrize(("yaml", "battery", "expected", "fix"), LATE, ids=range(len(LATE)))
def test_what_only_shows_when_it_is_built_is_pinned_to_its_line_too(tmp_path: Path, yaml, battery, expected, fix):
    path = given(tmp_path, "kind: bit_depth, bits: 3", yaml, battery=changed(BATTERY, **battery))
    (tmp_path / "constant.onnx").write_bytes(detector(scale=0).SerializeToString())
    with pytest.raises(InvalidInput) as caught:
        assembled(path)
    (problem,) = caught.value.problems
    assert f"{problem.code} {problem.message}".startswith(expected)
    assert problem.fix == fix
    assert (problem.where.key, problem.where.source) == ("defenses[1]", f"  - {{{yaml}}}")


@pytest.mark.parametrize(
    "behind", ["kind: ensemble, models: [{path: model.onnx, output: logits}]", SMOOTHING], ids=["ensemble", "smoothing"]
)
def test_energy_of_what_has_none_is_pinned_to_its_line(tmp_path: Path, behind: str):
    with pytest.raises(InvalidInput) as caught:
        assembled(given(tmp_path, "kind: energy", behind))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.key) == ("FB104", "defenses[0]")
    assert problem.message.startswith("Expected logits whose energy differs between images, got the same energy for a")
    assert problem.fix == "use max_softmax, or a model that gives logits"


def test_a_detector_in_front_of_what_always_abstains_is_pinned_to_its_line(tmp_path: Path):
    with pytest.raises(InvalidInput) as caught:
        assembled(given(tmp_path, "kind: max_softmax", ABSTAINS))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.key) == ("FB104", "defenses[0]")
    assert problem.message == "Expected finite scores of at least 2 clean images that the model accepts, got 0 of 0."
    assert problem.fix == "look for a model or a detector that fails on the training images"


def test_energy_of_a_model_of_probabilities_is_refused(tmp_path: Path):
    # ReLU keeps the Softmax from being cut off: logits are then logarithms of probabilities.
    nodes = [helper.make_node("Softmax", ["z"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    path = given(tmp_path, "kind: energy", model=nearest_mean(nodes))
    path.write_text(path.read_text().replace("output: logits", "output: probabilities"))
    with pytest.raises(InvalidInput, match=r"as of what gives probabilities .* To fix: use max_softmax, or a mod"):
        assembled(path)


def test_an_evaluation_sees_the_rejection(tmp_path: Path):
    path = given(tmp_path, "kind: mahalanobis, reject: 0.05", "kind: max_softmax, reject: 0.3")
    done = inside("evaluate", path, "--out", tmp_path / "run", "--progress", "none")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    whole = assembled(path)
    images = read_battery("./battery.yaml", folder=tmp_path).load().pixels(CPU)
    assert record["scores"]["clean_rejection"]["k"] == int(rejected(whole, images).sum()) > 0
    assert record["attacks"]["gradient_ascent"]["mode"] == "gradient"
    assert "rejects_clean" in {flag["code"] for flag in record["flags"]}


# the graphs


def loaded(folder: Path, model: ModelProto, **changes: Any):
    path = folder / "detector.onnx"
    path.write_bytes(model.SerializeToString())
    takes: dict[str, Any] = {"layout": "nchw", "scale": 1, "channels": "same"} | changes
    return load_score_graph(path, apart({})[0], preprocess=Preprocess(**takes))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (detector(), lambda mean: mean),
        (detector("Sigmoid"), lambda mean: mean.sigmoid()),
        (detector("Softmax", 2), lambda mean: mean.sigmoid()),
        (detector("Identity", 2, 0.0), None),
    ],
    ids=["n", "sigmoid", "two", "no probabilities"],
)
def test_a_graph_gives_one_score_or_two_probabilities(tmp_path: Path, model: ModelProto, expected):
    if expected is None:
        with pytest.raises(Exception, match=r"expected two probabilities an image, got numbers from 0 whose sum"):
            loaded(tmp_path, model)
        return
    graph, images = loaded(tmp_path, model), pictures(7)
    score = expected(images.flatten(1).mean(1))
    torch.testing.assert_close(graph.run(images), score)
    assert graph.differentiable is not None
    leaf = images.clone().requires_grad_()
    answer = graph.differentiable(leaf)
    torch.testing.assert_close(answer.detach(), score)
    (slope,) = torch.autograd.grad(answer.sum(), leaf)
    wanted = torch.autograd.grad(expected(leaf.flatten(1).mean(1)).sum(), leaf)[0]
    torch.testing.assert_close(slope, wanted)


def test_a_graph_without_gradient_has_no_differentiable_form(tmp_path: Path):
    graph = loaded(tmp_path, detector("Round", scale=10))
    assert graph.differentiable is None
    images = pictures(7)
    torch.testing.assert_close(graph.run(images), (images.flatten(1).mean(1) * 10).round())


def test_scale_and_layout_are_what_the_graph_takes(tmp_path: Path):
    images = pictures(7)
    score = loaded(tmp_path, detector(), scale=255).run(images)
    torch.testing.assert_close(score, images.flatten(1).mean(1) * 255)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["t"], ["y"], axes=[1, 2, 3], keepdims=0),
    ]
    last = graph(nodes, {}, image=("N", 8, 8, 1), output={"y": (TensorProto.FLOAT, ("N",))})
    torch.testing.assert_close(loaded(tmp_path, last, layout="nhwc").run(images), images.flatten(1).mean(1))


def test_the_schema_and_the_list_know_every_kind():
    definitions = json_schema()["$defs"]
    for kind in ("FeatureSqueezing", "MaxSoftmax", "Energy", "Density", "Mahalanobis"):
        assert definitions[kind]["properties"]["reject"]["default"] == 0.02
    shown = inside("list", "defenses").stdout
    for kind in ("feature_squeezing", "max_softmax", "energy", "density", "mahalanobis"):
        assert kind in shown
