"""MNIST and CIFAR-10: the layouts they may lie in, what is fetched, what is said of missing and of altered data."""

from __future__ import annotations

import gzip
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.data.data import load
from foolbench.bench.data.kinds import TorchvisionData
from foolbench.bench.data.torchvision_sets import cifar_batch
from foolbench.bench.errors import EnvironmentFault

REAL = Path(os.environ.get("FOOLBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="FOOLBENCH_TEST_DATA names no folder of real data")
TIERS = ("standard", "smoke")


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOOLBENCH_DOWNLOAD", raising=False)


def problem_of(action):
    with pytest.raises(EnvironmentFault) as caught:
        action()
    (problem,) = caught.value.problems
    assert caught.value.exit_code == 4
    assert problem.fix
    return problem


# Where the files may lie


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Twenty test and thirty training images."""
    rng, folder = np.random.default_rng(seed), folder
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for stem, count in (("t10k", 20), ("train", 30)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            content, name = idx_bytes(array), f"{stem}-{kind}-ubyte"
            path = folder / (name + ".gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
        made.append(images)
    return made[0], made[1]


MNIST = TorchvisionData(kind="mnist", test=20, train=30)


@pytest.mark.parametrize(("place", "packed"), [("MNIST/raw", False), ("MNIST/raw", True), ("mnist", True)])
def test_mnist_in_torchvisions_layout_or_as_it_is_distributed(tmp_path: Path, place: str, packed: bool):
    test, train = write_mnist(tmp_path / place, packed)
    data = load(MNIST, folder=tmp_path, shape=(1, 28, 28), classes=10, donors_per_class=1)
    np.testing.assert_array_equal(data.images[:, 0], test)
    np.testing.assert_array_equal(data.donors[:, 0], train[:10])
    path = next((tmp_path / place).glob("t10k-images*"))
    whole = path.read_bytes()
    for broken in (whole[:-9], b"<html>not found</html>", whole[:3], b""):
        path.write_bytes(broken)
        problem = problem_of(lambda: load(MNIST, folder=tmp_path, shape=(1, 28, 28), classes=10))
        assert (problem.code, problem.where.file) == ("FB408", path)


def write_cifar(folder: Path, test: tuple[np.ndarray, np.ndarray], train: tuple[np.ndarray, np.ndarray]) -> None:
    """In torchvision's layout: the training images in five files of equal size."""
    folder.mkdir(parents=True)
    parts = {
        f"data_batch_{i + 1}": (x, y) for i, (x, y) in enumerate(zip(*(np.split(a, 5) for a in train), strict=True))
    }
    for name, (x, y) in {"test_batch": test, **parts}.items():
        rows = x.transpose(0, 3, 1, 2).reshape(len(x), 3072)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": y.tolist(), "batch_label": name}, protocol=2))


@real
@pytest.mark.parametrize("place", ["cifar-10-batches-py", "cifar10/cifar-10-batches-py"])
def test_cifar10_is_the_same_from_torchvisions_batches_as_from_its_first_images(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
):
    with np.load(REAL / "cifar10/test1000.npz") as test, np.load(REAL / "cifar10/train4000.npz") as train:
        write_cifar(tmp_path / place, (test["x"], test["y"]), (train["x"], train["y"]))
    for tier in TIERS:
        battery = read_battery("cifar10-v1", tier=tier)  # pyright: ignore[reportArgumentType]
        monkeypatch.setenv("FOOLBENCH_DATA", str(REAL))
        parts = battery.load()
        monkeypatch.setenv("FOOLBENCH_DATA", str(tmp_path))
        batches = battery.load()
        assert parts.digest == batches.digest == battery.spec.digest
        assert parts.training_digest() == batches.training_digest()
        np.testing.assert_array_equal(parts.indices, batches.indices)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    path = tmp_path / "test_batch"
    for content in (pickle.dumps({"data": Evil(), "labels": [1]}), b"", b"<html>", pickle.dumps([1, 2])):
        path.write_bytes(content)
        assert problem_of(lambda: cifar_batch(path)).code == "FB408"
    path.write_bytes(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]}))
    assert "a class of 0..9" in problem_of(lambda: cifar_batch(path)).message
    assert not ran.exists()


# What is missing, altered or to be fetched


@pytest.mark.parametrize(
    ("name", "place", "way"),
    [
        ("mnist-v1", "MNIST/raw", "FOOLBENCH_DOWNLOAD=1"),
        ("cifar10-v1", "cifar-10-batches-py", "FOOLBENCH_DOWNLOAD=1"),
        ("imagenet-v1", "imagenet/val", "ILSVRC2012_img_val.tar"),
    ],
)
def test_missing_data_says_where_it_should_be_and_how_to_get_it(
    name: str, place: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOLBENCH_DATA", str(tmp_path))
    problem = problem_of(read_battery(name).load)
    assert problem.code == "FB400"
    assert str(tmp_path / place) in f"{problem.where}{problem.message}"
    assert way in problem.fix
    assert "FOOLBENCH_DATA" in problem.fix
    assert list(tmp_path.iterdir()) == []


def test_too_few_first_images_are_told_as_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10" / "test1000.npz"
    np.savez(path, x=np.zeros((300, 32, 32, 3), np.uint8), y=np.zeros(300, np.int64))
    monkeypatch.setenv("FOOLBENCH_DATA", str(tmp_path))
    problem = problem_of(read_battery("cifar10-v1").load)
    assert problem.code == "FB408"
    assert (problem.where.file, problem.expected) == (path, "at least 1000 test images")
    assert problem.got == "300, and no larger file"
    assert "cifar-10-batches-py" in problem.fix
    # Where downloads are wanted, it is no reason against one.
    fetched: list[str] = []
    monkeypatch.setattr("foolbench.bench.data.torchvision_sets.fetch", lambda name, title, root: fetched.append(name))
    monkeypatch.setenv("FOOLBENCH_DOWNLOAD", "1")
    assert problem_of(read_battery("cifar10-v1").load).code == "FB400"
    assert fetched == ["cifar10"]


@real
def test_altered_data_is_noticed_in_the_images_and_in_what_attacks_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cifar10").mkdir()
    monkeypatch.setenv("FOOLBENCH_DATA", str(tmp_path))
    for altered in ("test1000.npz", "train4000.npz"):
        for name in ("test1000.npz", "train4000.npz"):
            with np.load(REAL / "cifar10" / name) as archive:
                x, y = archive["x"], archive["y"]
            if name == altered:
                x[3, 0, 0, 0] ^= 1  # in the smoke tier too
            np.savez(tmp_path / "cifar10" / name, x=x, y=y)
        for tier in TIERS:
            problem = problem_of(read_battery("cifar10-v1", tier=tier).load)  # pyright: ignore[reportArgumentType]
            assert problem.code == "FB401"
            assert ("training images" in problem.message) == (altered == "train4000.npz")


def test_nothing_is_fetched_unasked_and_what_is_fetched_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked: list[str] = []

    def fake(root: str, download: bool) -> None:
        asked.append(root)
        print("Downloading")
        write_mnist(Path(root) / "MNIST" / "raw", packed=False)
        if len(asked) == 1:
            # As torchvision says it, over several lines.
            tried = "Tried https://mirror.example/mnist/, got:\n<urlopen error [Errno -2] Name or service not known>\n"
            raise RuntimeError(f"Error downloading train-images-idx3-ubyte.gz:\n{tried}")

    loaders = SimpleNamespace(datasets=SimpleNamespace(MNIST=fake, CIFAR10=None))
    monkeypatch.setitem(sys.modules, "torchvision", loaders)  # pyright: ignore[reportArgumentType]
    root = tmp_path / "data"
    ask = {"folder": root, "shape": (1, 28, 28), "classes": 10}
    assert problem_of(lambda: load(MNIST, **ask)).code == "FB400"
    assert asked == []
    monkeypatch.setenv("FOOLBENCH_DOWNLOAD", "1")
    problem = problem_of(lambda: load(MNIST, **ask))
    assert problem.code == "FB407"
    assert "Error downloading train-images-idx3-ubyte.gz: Tried" in problem.message
    assert problem.message.endswith("<urlopen error [Errno -2] Name or service not known>.")
    assert list(root.iterdir()) == []
    assert len(load(MNIST, **ask).labels) == 20
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    load(MNIST, **ask)
    assert len(asked) == 2
    assert capsys.readouterr().out == ""
