"""`foolbench harden`: every recipe writes a submission that runs, with the same bits however often it is stopped."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import yaml
from foolbench.attacks.base import Query
from foolbench.attacks.levels import EIGHT_BITS
from foolbench.bench import evaluate
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.cli.harden_screen import Quiet
from foolbench.bench.data.data import load
from foolbench.bench.harden.adversary import fgsm, pgd
from foolbench.bench.harden.harden import harden
from foolbench.bench.harden.images import images_of
from foolbench.bench.harden.measure import MeasuredModel, Reached, of_network
from foolbench.bench.harden.options import Hardening
from foolbench.bench.submission.submission import read_submission
from foolbench.models.preprocess import Preprocess
from foolbench.models.training.harden_onnx import TrainableOnnx
from model_files import CPU, graph, pictures, seeded
from onnx import helper
from small_runs import (
    BATTERY,
    SUBMISSION,
    at_work,
    changed,
    foolbench,
    inside,
    nearest_mean,
    one_document,
    refused,
    start,
    submit,
    timeless,
    until,
)

ROOT = Path(__file__).resolve().parents[1]
PANEL = ROOT / "models" / "panel"
TINY: dict[str, Any] = {"epochs": 2, "rounds": 1, "runs": 1, "generations": 2, "noise": 20, "images": 200, "steps": 2}
HOWS = ("fooling-class", "adversarial", "detector", "density")
ONLY_FGSM = changed(BATTERY, controls={}, attacks={"fgsm": BATTERY["attacks"]["fgsm"]})


class Stopped(Exception):
    """What a test raises in the middle of a recipe."""


class StopsAfter(Quiet):
    """Lets so many steps be saved, and the next be worked on."""

    def __init__(self, steps: int):
        super().__init__()
        self.left = steps

    def finished(self, step: Any, row: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped


def files(folder: Path) -> dict[str, Any]:
    """What a recipe wrote, without seconds."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    found["training.json"] = timeless(json.loads(found["training.json"]))
    return found


def answers(content: bytes, images: torch.Tensor) -> np.ndarray:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return np.asarray(output)


def trainable(model: onnx.ModelProto, folder: Path, **given: Any) -> TrainableOnnx:
    how: dict[str, Any] = {"preprocess": Preprocess(), "output": "logits"}
    return TrainableOnnx(model, folder, shape=(1, 8, 8), device=CPU, **(how | given))


@pytest.mark.parametrize("how", HOWS)
def test_a_stopped_recipe_goes_on_to_the_bits_of_one_that_was_not(how: Any, tmp_path: Path):
    given = Hardening(how, **TINY)
    harden(None, given, tmp_path / "whole", device="cpu", told=Quiet())
    stops = 0
    while not (tmp_path / "parts" / "training.json").exists():
        try:
            # One step, then two, then one, ...
            harden(None, given, tmp_path / "parts", device="cpu", told=StopsAfter(1 + stops % 2))
        except Stopped:
            stops += 1
    assert stops >= 2 * TINY["epochs"] // 3
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("how", HOWS)
def test_each_recipe_turns_a_submission_into_one_that_is_evaluated(how: Any, tmp_path: Path):
    path = submit(tmp_path / "given", battery=ONLY_FGSM)
    out = tmp_path / "out"
    answer = inside("harden", path, "--how", how, "--out", out, "--epochs", 2, "--rounds", 1, "--runs", 1,
                    "--generations", 2, "--device", "cpu", "--json")  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    log = one_document(answer)["log"]
    given = read_submission(out / "submission.yaml")
    model = yaml.safe_load((out / "submission.yaml").read_text())["model"]
    assert len(model["sha256"]) == 64
    assert log["seed"] == 0
    assert log["start"]["trained"]
    assert (log["images"]["trained_on"], log["images"]["held_out"]) == (270, 30)
    assert model.get("reject_index") == (10 if how == "fooling-class" else None)
    kinds = {"detector": ["onnx"], "density": ["density"]}
    assert [defense.kind for defense in given.spec.defenses] == kinds.get(how, [])
    before, after = (answers((folder / "model.onnx").read_bytes(), pictures()) for folder in (path.parent, out))
    # A defense beside the model leaves it as it was; training does not.
    assert np.allclose(before, after[:, :10], atol=1e-6) == (how in kinds)
    run = evaluate(out / "submission.yaml", out=tmp_path / "run", device="cpu", workers=1)
    assert not run.failures
    assert (run.record.scores.clean_accuracy.value or 0) > 0.6
    assert (run.record.bare is not None) == (how in kinds)


def test_the_images_are_training_images_and_those_held_out_are_not_trained_on():
    battery = read_battery("digits-v1")
    data = load(battery.spec.data, folder=Path(), shape=(1, 8, 8), classes=10)
    images = images_of(battery, None, CPU)
    evaluated = {image.tobytes() for image in data.images}
    trained, held = (
        {image.tobytes() for image in (part * 255).round().byte().numpy()} for part in (images.train, images.held)
    )
    assert len(images.train) + len(images.held) == 1597
    assert len(images.held) == 159
    assert not trained & held
    assert not (trained | held) & evaluated


def test_fgsm_and_pgd_on_a_linear_network_are_what_algebra_says():
    network = torch.nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0, 0.0, 3.0], [0.0, 1.0, 0.0, 3.5]]))
    images = torch.tensor([0.5, 0.95, 0.4, 0.5]).reshape(1, 1, 2, 2)

    def logits(images: torch.Tensor) -> torch.Tensor:
        return network(images.flatten(1))

    # Away from class 0 along the sign of w1 - w0 = (-1, 3, 0, 0.5), clipped at white.
    expected = torch.tensor([0.4, 1.0, 0.4, 0.6]).reshape(1, 1, 2, 2)
    label = torch.tensor([0])
    made = fgsm(0.1).images(logits, images, label, 2, seeded())
    torch.testing.assert_close(made, expected)
    stepped = pgd(0.1, 20).images(logits, images, label, 2, seeded())
    assert float((stepped - images).abs().max()) <= 0.1 + 1e-6
    ahead = [0, 1, 3]  # the third pixel moves nothing, and stays where the random start put it
    torch.testing.assert_close(stepped.flatten()[ahead], expected.flatten()[ahead])
    assert network.weight.grad is None


def test_an_accepted_wrong_image_fools_and_a_rejected_one_does_not():
    def answer(images: torch.Tensor) -> torch.Tensor:
        """Bright: class 1; dark: class 0; in between half is rejected."""
        level = images.mean((1, 2, 3))
        sure = torch.stack([(level < 0.4).float(), (level > 0.6).float()], 1)
        return sure + (sure.sum(1, keepdim=True) == 0) * torch.tensor([0.25, 0.2])

    def logits(images: torch.Tensor) -> torch.Tensor:
        level = images.mean((1, 2, 3))
        return torch.stack([-level, level, torch.zeros_like(level)], 1)

    images = torch.tensor([0.1, 0.35, 0.3, 0.8]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    row = MeasuredModel(answer, logits, 2, EIGHT_BITS).row(
        images, torch.tensor([0, 0, 0, 0]), 0.3, seeded(), strong=False
    )
    # The last is wrong before; of three, 0.1 stays dark, 0.35 becomes bright, 0.3 is turned away.
    assert row == {"clean_accuracy": 0.75, "clean_rejected": 0.0, "fgsm_fooled": round(1 / 3, 6)}


def test_the_first_generation_in_which_a_class_is_accepted_is_found():
    watch = Reached(runs=2, classes=2, children=2, thresholds={"at_99": 0.99, "at_tau": 0.6})
    owners = torch.tensor([0, 0, 1, 1])
    images = torch.zeros(4, 1, 1, 1)
    watch(Query(images, owners), torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.2, 0.6], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]))
    watch(Query(images, owners), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0], [0.995, 0.0, 0.005]]))
    assert watch.first["at_99"].tolist() == [[2, 0], [2, 0]]
    assert watch.first["at_tau"].tolist() == [[1, 2], [2, 0]]
    assert watch.row()["at_tau"] == {"fooled": 3, "of": 4, "median_generation": 2.0}


@pytest.mark.parametrize("name", ["digits-lenet-a", "digits-resnet", "digits-mlp"])
def test_an_onnx_network_is_trained_and_written_back_into_its_own_graph(name: str, tmp_path: Path):
    model = onnx.load(PANEL / f"{name}.onnx")
    network, images = trainable(model, PANEL), pictures()
    before = answers(model.SerializeToString(), images)
    np.testing.assert_allclose(network(images).detach().numpy(), before, atol=2e-5)
    np.testing.assert_array_equal(answers(network.to_onnx(), images), before)
    assert {*network.names} == {tensor.name for tensor in model.graph.initializer}
    torch.nn.functional.cross_entropy(network(images), torch.zeros(len(images), dtype=torch.int64)).backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    after = network(images).detach().numpy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(answers(network.to_onnx(), images), after, atol=2e-5)
    wide = trainable(model, PANEL, widen=True)(images).detach().numpy()
    np.testing.assert_allclose(wide, np.c_[before, np.zeros(len(images))], atol=2e-5)


def test_only_weights_are_trained_and_a_softmax_is_looked_behind(tmp_path: Path):
    rng = np.random.default_rng(0)
    mean, weight, bias = (rng.normal(size=size).astype(np.float32) for size in ((1, 1, 8, 8), (64, 10), (10,)))
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    network = trainable(graph(nodes, {"mean": mean, "w": weight, "b": bias}), tmp_path, output="probabilities")
    assert {*network.names} == {"w", "b"}
    images = pictures()
    wide = trainable(network.model, tmp_path, output="probabilities", widen=True)
    torch.testing.assert_close(wide(images)[:, :10], network(images))
    assert wide(images)[:, 10].abs().max() == 0
    expected = (images.flatten(1) - torch.from_numpy(mean).flatten()) @ torch.from_numpy(weight) + torch.from_numpy(
        bias
    )
    torch.testing.assert_close(network(images).detach(), expected, atol=1e-4, rtol=1e-4)
    measured = of_network(network, 10, EIGHT_BITS).probabilities(images)
    np.testing.assert_allclose(answers(network.to_onnx(), images), measured.numpy(), atol=1e-5)


def test_another_recipe_finds_the_folder_taken_and_says_what_differs(tmp_path: Path):
    path = submit(tmp_path / "given", battery=ONLY_FGSM)
    given = ("harden", path, "--how", "adversarial", "--epochs", 1, "--out", tmp_path / "out", "--progress", "none")
    done = inside(*given)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"foolbench evaluate {tmp_path / 'out' / 'submission.yaml'}" in done.stdout
    assert "another one (recipe.seed: 0 there, 1 now)" in refused(inside(*given, "--seed", 1), 2, "FB406")
    more = refused(inside(*given, "--attack", "pgd", "--epochs", 5, "--epsilon", 0.25), 2, "FB406")
    assert "(recipe.attack: fgsm there, pgd now; recipe.epochs: 1 there, 5 now; recipe.epsilon: " in more
    assert "there, 0.25 now)" in more


def test_what_cannot_be_hardened_is_refused_with_what_to_do(tmp_path: Path):
    def tried(folder: str, *options: object, model: Any = None, **more: Any) -> Any:
        path = submit(tmp_path / folder, battery=ONLY_FGSM, model=model, **more)
        return inside("harden", path, "--epochs", 1, "--out", tmp_path / folder / "out", *options)

    defended = changed(SUBMISSION, defenses=[{"kind": "bit_depth", "bits": 3}])
    assert "remove `defenses`" in refused(tried("a", "--how", "adversarial", submission=defended), 2, "FB210")
    nothing = nearest_mean([helper.make_node("Relu", ["z"], ["y"])])
    message = refused(tried("b", "--how", "fooling-class", model=nothing), 2, "FB210")
    assert "--network lenet, mlp or resnet" in message
    assert "--dimensions 64" in refused(tried("c", "--how", "density", "--dimensions", 999), 2, "FB114")
    assert "fooling-class" in refused(tried("d", "--how", "fooling"), 2, "FB113")
    without = changed(ONLY_FGSM, data={"kind": "npz", "path": "test.npz"})
    path = submit(tmp_path / "e", battery=without)
    assert "data.train" in refused(inside("harden", path, "--how", "density", "--out", tmp_path / "o"), 4, "FB408")


@pytest.mark.slow
def test_ctrl_c_says_how_far_it_got_and_the_same_command_goes_on(tmp_path: Path):
    given = ("harden", "--how", "adversarial", "--epochs", 60, "--out", tmp_path, "--device", "cpu", "--json")
    with at_work(start(*given)) as process:
        until((tmp_path / "work" / "state.safetensors").exists, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "FB409"
    assert "Stopped at" in err
    assert not (tmp_path / "submission.yaml").exists()
    again = foolbench(*given)
    assert again.returncode == 0, again.stderr
    assert " of them done before" in again.stderr
    assert len(one_document(again)["log"]["steps"]) == 60


@pytest.mark.slow
def test_adversarial_images_in_training_help_against_fgsm(tmp_path: Path):
    """Goodfellow's finding, on digits."""
    fooled = {}
    for weight in (1.0, None):
        given = Hardening("adversarial", epochs=30, epsilon=0.1, clean_weight=weight)
        row = harden(None, given, tmp_path / str(weight), device="cpu", told=Quiet()).log["submission"]
        assert row["clean_accuracy"] > 0.95
        fooled[weight] = row["fgsm_fooled"]
    assert fooled[1.0] > 0.45
    assert fooled[None] < 0.6 * fooled[1.0]


@pytest.mark.slow
def test_a_detector_sees_the_images_that_it_was_trained_on_and_a_density_sees_noise(tmp_path: Path):
    rows = harden(None, Hardening("detector", epochs=30), tmp_path / "a", device="cpu", told=Quiet()).log["steps"]
    assert rows[-1]["detected"] > 0.8
    given = Hardening("density", epochs=30, runs=2, generations=20)
    log = harden(None, given, tmp_path / "b", device="cpu", told=Quiet()).log
    tried = [row for row in log["steps"] if "rejected" in row]
    best = max(tried, key=lambda row: row["mean_rejected"])
    assert log["title"] == f"density, {best['step']}"
    assert best["rejected"]["noise"] > 0.99
    assert best["clean_rejected"] < 0.06
