"""The committed models: what they are, how good they are, and that their recipes make them again."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx2fx
import onnxruntime as ort
import pytest
import safetensors.torch
import timm
import torch
import yaml
from foolbench.attacks.base import Query
from foolbench.attacks.levels import EIGHT_BITS
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.data.data import load, training
from foolbench.bench.data.kinds import DigitsData
from foolbench.bench.harden import recipes
from foolbench.bench.harden.fooling_class import FoolingClass, evolved
from foolbench.models.training import classical
from foolbench.models.training.export import export
from foolbench.models.training.networks import LeNet5, Mlp, SmallResNet, initialised
from foolbench.models.training.train import Training, fit, move
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
PANEL = ROOT / "models" / "panel"
SUBMISSIONS = ROOT / "submissions"
FLOORS = {
    "digits-lenet-a": 0.97,
    "digits-lenet-b": 0.97,
    "digits-mlp": 0.97,
    "digits-resnet": 0.97,
    "digits-logistic": 0.95,
    "digits-svm": 0.95,
    "digits-knn": 0.97,
    "digits-forest": 0.94,
}
"""The panel, and the clean accuracy that each of it has at least."""


DIGITS = DigitsData(kind="digits")


def digits():
    return load(DIGITS, folder=Path(), shape=recipes.SHAPE, classes=recipes.CLASSES)


def pixels(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def train_arrays() -> tuple[np.ndarray, np.ndarray]:
    images, labels = training(DIGITS, folder=Path(), shape=recipes.SHAPE, classes=recipes.CLASSES)
    return pixels(images), labels


def answers(content: bytes, images: np.ndarray) -> np.ndarray:
    (output,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"input": images})
    return np.asarray(output)


def accuracy(content: bytes) -> float:
    data = digits()
    return float((answers(content, pixels(data.images)).argmax(1) == data.labels).mean())


def test_the_recipes_train_on_the_data_of_digits_v1_without_its_evaluation_images():
    spec = read_battery("digits-v1").spec
    assert (spec.data, spec.shape, len(spec.class_names)) == (DIGITS, recipes.SHAPE, recipes.CLASSES)
    evaluation = {image.tobytes() for image in digits().images}
    seen, _ = training(DIGITS, folder=Path(), shape=recipes.SHAPE, classes=recipes.CLASSES)
    assert len(evaluation) == 200
    assert len(seen) == 1597
    assert not evaluation & {image.tobytes() for image in seen}


def test_the_committed_panel_is_what_its_recipe_makes_and_small():
    files = {path.name: path.read_bytes() for path in PANEL.glob("digits-*.onnx")}
    assert set(files) == set(recipes.RECIPES["digits-panel"].files) == {f"{name}.onnx" for name in FLOORS}
    assert max(map(len, files.values())) < 1_000_000
    assert sum(map(len, files.values())) < 1_500_000
    assert len(set(files.values())) == len(files)


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_each_panel_model_is_as_good_as_stated_and_takes_any_batch(name: str, floor: float):
    content = (PANEL / f"{name}.onnx").read_bytes()
    model = onnx.load_model_from_string(content)
    assert accuracy(content) >= floor
    assert next((o.domain, o.version) for o in model.opset_import) == ("", 17)
    assert [i.name for i in model.graph.input] == ["input"]
    assert answers(content, np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
    if model.graph.output[0].name == "probabilities":
        noise = np.random.default_rng(0).random((50, 1, 8, 8), np.float32)
        np.testing.assert_allclose(answers(content, noise).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(FLOORS) - {"digits-forest"}))
def test_panel_models_convert_to_torch_and_agree(name: str):
    model = onnx.load(PANEL / f"{name}.onnx")
    images = torch.from_numpy(pixels(digits().images)).requires_grad_()
    converted = onnx2fx.convert(model)(images)
    expected = answers(model.SerializeToString(), images.detach().numpy())
    np.testing.assert_allclose(converted.detach().numpy(), expected, atol=2e-5)
    assert converted.requires_grad == (name != "digits-knn")


SUBMITTED = {
    "digits-lenet": 0.97,
    "digits-lenet-bit-depth": 0.97,
    "digits-lenet-fooling-class": 0.95,
    "digits-resnet": 0.97,
    "digits-forest": 0.94,
}


@pytest.mark.parametrize(("name", "floor"), SUBMITTED.items())
def test_each_submission_names_its_own_small_file_of_the_stated_accuracy(name: str, floor: float):
    model = yaml.safe_load((SUBMISSIONS / name / "submission.yaml").read_text(encoding="utf-8"))["model"]
    (file,) = recipes.RECIPES[name].files
    assert file == model.get("path", model.get("weights"))
    content = (SUBMISSIONS / name / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == model["sha256"]
    assert len(content) < 1_000_000
    assert f"foolbench train {name} " in (SUBMISSIONS / name / "README.md").read_text(encoding="utf-8")
    if model["kind"] == "onnx":
        assert accuracy(content) >= floor
        return
    network = timm.create_model(model["name"], num_classes=10, in_chans=1, **model["args"]).eval()
    network.load_state_dict(safetensors.torch.load(content))
    data = digits()
    enlarged = nn.functional.interpolate(
        torch.from_numpy(pixels(data.images)), model["input"]["size"], mode="bilinear", antialias=True
    )
    with torch.no_grad():
        assert (network(enlarged).argmax(1).numpy() == data.labels).mean() >= floor


def test_example_submissions_and_the_panel_share_no_network_but_the_two_lenets_meant_to():
    lenet, squeezed = (SUBMISSIONS / name / "lenet.onnx" for name in ("digits-lenet", "digits-lenet-bit-depth"))
    assert lenet.read_bytes() == squeezed.read_bytes()
    panel = {path.read_bytes() for path in PANEL.glob("*.onnx")}
    assert not panel & {path.read_bytes() for path in SUBMISSIONS.glob("*/*.onnx")}


def test_the_fooling_class_turns_fresh_noise_away_and_keeps_the_digits():
    content = (SUBMISSIONS / "digits-lenet-fooling-class" / "lenet.onnx").read_bytes()
    noise = np.random.default_rng(20150607).random((2000, 1, 8, 8), np.float32)
    assert (answers(content, noise).argmax(1) == 10).mean() >= 0.9
    assert accuracy(content) >= 0.95
    assert (answers(content, pixels(digits().images)).argmax(1) == 10).mean() <= 0.02


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_stream_and_the_threads():
    images, labels = (torch.from_numpy(array[:200]) for array in train_arrays())

    def lenet(seed: int) -> bytes:
        rng = torch.Generator().manual_seed(seed)
        network = initialised(LeNet5, rng)
        fit(network, images, labels, Training(epochs=2), rng)
        return export(network, shape=(1, 8, 8), classes=10, title="LeNet-5")

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = lenet(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert lenet(5) == first
    assert lenet(6) != first


@pytest.mark.parametrize("name", ["digits-forest", "digits-panel"])
def test_a_recipe_makes_the_same_bytes_twice_and_restores_the_threads(name: str, tmp_path: Path):
    recipe = recipes.RECIPES[name]
    quick = {
        file: content
        for file, content in recipe.files.items()
        if any(kind in file for kind in ("forest", "logistic", "svm", "knn"))
    }
    threads = torch.get_num_threads()
    made = [recipes.Recipe(recipe.title, 1, quick).make(tmp_path / folder) for folder in ("a", "b")]
    assert torch.get_num_threads() == threads
    folders = [path if path.is_dir() else path.parent for path in made]
    for file in quick:
        first, second = (folder / file for folder in folders)
        assert first.read_bytes() == second.read_bytes()
        committed = (PANEL if name == "digits-panel" else SUBMISSIONS / name) / file
        theirs = answers(committed.read_bytes(), pixels(digits().images))
        ours = answers(first.read_bytes(), pixels(digits().images))
        assert (theirs.argmax(1) == ours.argmax(1)).mean() >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-lenet", "digits-resnet"])
def test_a_network_recipe_makes_equal_bytes_twice_and_the_committed_predictions(name: str, tmp_path: Path):
    first, second = (recipes.train(name, tmp_path / folder).read_bytes() for folder in ("a", "b"))
    assert first == second
    committed = (SUBMISSIONS / name / next(iter(recipes.RECIPES[name].files))).read_bytes()
    if name == "digits-resnet":
        state, theirs = safetensors.torch.load(first), safetensors.torch.load(committed)
        assert {key: value.shape for key, value in state.items()} == {key: v.shape for key, v in theirs.items()}
        return
    images = pixels(digits().images)
    # On another machine the last bits differ and grow in training: a few near-ties may fall otherwise.
    assert (answers(first, images).argmax(1) == answers(committed, images).argmax(1)).mean() >= 0.98
    assert accuracy(first) >= 0.97


@pytest.mark.parametrize(("build", "classes"), [(LeNet5, 10), (lambda: LeNet5(11), 11), (Mlp, 10), (SmallResNet, 10)])
def test_export_computes_what_the_network_does(build, classes: int):
    rng = torch.Generator().manual_seed(3)
    network = initialised(build, rng)
    images = torch.rand(64, 1, 8, 8, generator=rng)
    network.train()
    network(images)  # so that batch norm has statistics to fold
    with pytest.raises(ValueError, match="evaluation mode"):
        export(network, shape=(1, 8, 8), classes=classes, title="")
    network.eval()
    content = export(network, shape=(1, 8, 8), classes=classes, title="")
    with torch.no_grad():
        np.testing.assert_allclose(answers(content, images.numpy()), network(images).numpy(), atol=2e-5)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load_model_from_string(content).graph.node}


def test_export_refuses_a_layer_it_does_not_know():
    with pytest.raises(ValueError, match="GELU"):
        export(nn.Sequential(nn.Flatten(), nn.GELU()).eval(), shape=(1, 8, 8), classes=64, title="")
    with pytest.raises(ValueError, match="PReLU"):
        initialised(nn.PReLU, torch.Generator())


def test_the_forest_and_the_neighbours_give_scikit_learns_probabilities():
    images, labels = train_arrays()
    held_out = pixels(digits().images)
    flat, asked = images.reshape(len(images), -1), held_out.reshape(len(held_out), -1)

    forest = RandomForestClassifier(7, max_leaf_nodes=20, random_state=4).fit(flat, labels)
    ours = answers(classical.random_forest(images, labels, classical.Forest(7, 20), seed=4), held_out)
    np.testing.assert_allclose(ours, forest.predict_proba(asked), atol=1e-6)
    # Exactly on a threshold, and one float32 above it: the threshold itself is a float64.
    tree = forest.estimators_[0].tree_
    below = np.float32(tree.threshold[0])
    for value in (np.nextafter(below, np.float32(-1)), below, np.nextafter(below, np.float32(2))):
        edge = held_out[:20].copy()
        edge.reshape(20, -1)[:, tree.feature[0]] = value
        ours = answers(classical.random_forest(images, labels, classical.Forest(7, 20), seed=4), edge)
        np.testing.assert_allclose(ours, forest.predict_proba(edge.reshape(20, -1)), atol=1e-6)

    neighbours = KNeighborsClassifier(5, algorithm="brute").fit(flat, labels)
    ours = answers(classical.nearest_neighbours(images, labels), held_out)
    assert (np.abs(ours - neighbours.predict_proba(asked)).max(1) < 1e-6).mean() >= 0.99
    with pytest.raises(ValueError, match="8 bits"):
        classical.nearest_neighbours(images * np.float32(0.99), labels)


def test_moving_stays_close_and_nothing_moves_at_zero():
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    still = Training(turn=0.0, zoom=0.0, shift=0.0)
    torch.testing.assert_close(move(images, still, torch.Generator().manual_seed(1)), images)
    dot = torch.zeros(1000, 1, 9, 9)
    dot[:, :, 4, 4] = 1.0
    shifted = move(dot, Training(turn=0.0, zoom=0.0, shift=1.0), torch.Generator().manual_seed(1))
    assert shifted.sum((1, 2, 3)).sub(1).abs().max() < 1e-4
    assert shifted[:, :, 3:6, 3:6].sum((1, 2, 3)).sub(1).abs().max() < 1e-4
    assert (shifted.mean(0)[0] > 0).sum() == 9


def test_evolved_answers_in_8_bits_and_flattens_the_finals():
    asked = []

    def search():
        answer = yield Query(torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, dtype=torch.int64))
        asked.append(answer)
        return torch.full((3, 10, 1, 8, 8), 0.3)

    class Mean(nn.Module):
        def forward(self, images):
            return torch.stack([images.mean((1, 2, 3)), torch.zeros(len(images))], 1)

    finals = evolved(search(), Mean(), EIGHT_BITS)
    assert finals.shape == (30, 1, 8, 8)
    assert torch.equal(finals, torch.full_like(finals, 76 / 255))
    expected = torch.tensor([[128 / 255, 0.0]]).softmax(1).expand(2, 2)
    torch.testing.assert_close(asked[0], expected)


def test_the_fooling_class_grows_by_every_round_and_each_network_is_new():
    seen = []

    def train(images: torch.Tensor, labels: torch.Tensor, classes: int) -> nn.Module:
        seen.append((len(images), int((labels == 10).sum()), classes))
        return initialised(lambda: Mlp(classes), torch.Generator().manual_seed(len(seen)))

    images, labels = (torch.from_numpy(array[:50]) for array in train_arrays())
    setting = FoolingClass(rounds=2, runs=1, generations=2, noise=5)
    network = setting.train(images, labels, 10, train, torch.Generator().manual_seed(0))
    # A round adds 10 classes x 2 encodings x (first and last generation).
    assert seen == [(50, 0, 10), (95, 45, 11), (135, 85, 11)]
    assert network(images).shape == (50, 11)


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5])
def test_a_training_of_few_steps(batches: int) -> None:
    """Four of them once divided by zero: a quarter of the cycle is one step, and the schedule counts from 0."""
    images, labels = torch.zeros(64 * batches, 1, 2, 2), torch.zeros(64 * batches, dtype=torch.int64)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    before = network(images[:1])[0, 0].item()
    fit(network, images, labels, Training(epochs=1), torch.Generator().manual_seed(0))
    assert network(images[:1])[0, 0].item() > before
