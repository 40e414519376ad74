"""Data sets: known digests, the split, the order, and every way in which data can be missing or wrong."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from foolbench.bench.data.data import (
    DigitsData,
    FolderData,
    FolderTraining,
    NpzData,
    data_root,
    digest_of,
    load,
    training,
)
from foolbench.bench.errors import EnvironmentFault
from PIL import Image
from sklearn.datasets import load_digits

SHARED = Path(os.environ.get("FOOLBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
real = pytest.mark.skipif(not SHARED.is_dir(), reason="FOOLBENCH_TEST_DATA names no folder of real data")
DIGITS = {"folder": Path(), "shape": (1, 8, 8), "classes": 10}
DIGITS_DIGEST = "bb394e88f8dfafa034be1fe176f65b3fdb25ac8628802bc6fe28ad6cb55096a7"


def fault(spec, **options):
    with pytest.raises(EnvironmentFault) as caught:
        load(spec, **options)
    (problem,) = caught.value.problems
    assert caught.value.exit_code == 4
    assert problem.fix
    return problem


def test_digits_are_split_as_they_always_were():
    data = load(DigitsData(kind="digits"), **DIGITS, images=200, donors_per_class=2, digest=DIGITS_DIGEST)
    x, y = load_digits(return_X_y=True)
    assert data.digest == DIGITS_DIGEST
    assert data.images.shape == (200, 1, 8, 8)
    assert data.images.dtype == np.uint8
    assert data.labels.tolist() == list(range(10)) * 20
    assert len(set(data.indices.tolist())) == 200
    np.testing.assert_array_equal(data.labels, y[data.indices])
    np.testing.assert_array_equal(data.images.reshape(200, 64), np.round(x[data.indices] * 255 / 16))
    assert data.donor_labels.tolist() == list(range(10)) * 2
    assert data.no_training is None
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0


def test_nothing_that_is_learnt_from_is_an_evaluation_image():
    for seed in (0, 7):
        spec = DigitsData(kind="digits", seed=seed)
        data = load(spec, **DIGITS, donors_per_class=3)
        train, labels = training(spec, **DIGITS)
        seen, held_out = ({image.tobytes() for image in images} for images in (train, data.images))
        assert len(train) == len(labels) == len(seen) == 1797 - 200
        assert not seen & held_out
        assert {donor.tobytes() for donor in data.donors} <= seen
        np.testing.assert_allclose(data.mean, train.mean(0) / 255, atol=1e-6)
    assert data.digest != DIGITS_DIGEST


def test_fewer_images_are_a_balanced_prefix():
    spec = DigitsData(kind="digits")
    whole, few = load(spec, **DIGITS), load(spec, **DIGITS, images=25)
    np.testing.assert_array_equal(few.indices, whole.indices[:25])
    assert np.bincount(few.labels).tolist() == [3] * 5 + [2] * 5
    problem = fault(spec, **DIGITS, images=201)
    assert problem.code == "FB400"
    assert problem.message == "Expected 201 evaluation images in scikit-learn's digits, got 200."


def test_digits_altered_or_of_another_shape():
    problem = fault(DigitsData(kind="digits", seed=1), **DIGITS, digest=DIGITS_DIGEST)
    assert problem.code == "FB401"
    assert problem.message.startswith("Expected evaluation images with the sha256 bb394e88f8df…, got ")
    problem = fault(DigitsData(kind="digits"), folder=Path(), shape=(1, 28, 28), classes=10)
    assert problem.message == "Expected shape [1, 8, 8] and 10 classes for digits, got [1, 28, 28] and 10."


LABELS = np.array([2, 0, 0, 1, 2, 0])
ORDER = [1, 3, 0, 2, 4, 5]  # first of 0, of 1, of 2; second of 0, of 2; third of 0


def pixels(n: int, c: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, c, h, w), dtype=np.uint8)


@pytest.mark.parametrize("form", ["nchw", "nhwc", "nhw"])
def test_npz_in_each_form(tmp_path, form):
    images = pixels(6, 1 if form == "nhw" else 3, 4, 5)
    x = {"nchw": images, "nhwc": images.transpose(0, 2, 3, 1), "nhw": images[:, 0]}[form]
    np.savez(tmp_path / "test.npz", x=x, y=LABELS.astype(np.uint8), index=np.arange(6))
    # The training images begin with an evaluation image: no donor may be one.
    train = np.concatenate([images[1:2], pixels(3, *images.shape[1:], seed=1)])
    np.savez(tmp_path / "train.npz", x=train, y=[0, 0, 1, 0])
    spec = NpzData(kind="npz", path="test.npz", train="train.npz")
    data = load(spec, folder=tmp_path, shape=images.shape[1:], classes=3, donors_per_class=1)
    assert data.indices.tolist() == ORDER
    assert data.labels.tolist() == [0, 1, 2, 0, 2, 0]
    np.testing.assert_array_equal(data.images, images[ORDER])
    np.testing.assert_array_equal(data.donors, train[[1, 2]])
    assert data.digest == digest_of(images[ORDER], LABELS[ORDER])
    np.testing.assert_allclose(data.mean, train.mean(0) / 255, atol=1e-6)


def test_npz_without_training_images_has_no_donors_and_says_so(tmp_path):
    np.savez(tmp_path / "test.npz", x=pixels(6, 1, 4, 4), y=LABELS)
    data = load(NpzData(kind="npz", path="test.npz"), folder=tmp_path, shape=(1, 4, 4), classes=3, donors_per_class=2)
    assert data.donors.shape == (0, 1, 4, 4)
    assert data.donor_labels.shape == (0,)
    assert data.no_training == "The battery names no training images (`data.train`)."
    assert (data.mean == 0.5).all()


BAD = [
    ({"x": pixels(6, 1, 4, 4).astype(float), "y": LABELS}, "Expected `x` of uint8, got float64."),
    ({"x": pixels(6, 1, 5, 4), "y": LABELS},
     "Expected `x` of shape (n, 4, 4, 1) or (n, 1, 4, 4) or (n, 4, 4), got (6, 1, 5, 4)."),
    ({"x": pixels(5, 1, 4, 4), "y": LABELS}, "Expected `y` of 5 whole numbers, got int64 of shape [6]."),
    ({"x": pixels(6, 1, 4, 4), "y": LABELS * 1.0}, "Expected `y` of 6 whole numbers, got float64 of shape [6]."),
    ({"x": pixels(6, 1, 4, 4), "y": LABELS + 1}, "Expected classes of 0..2, got 3 at position 0."),
    ({"x": pixels(6, 1, 4, 4), "y": LABELS - 1}, "Expected classes of 0..2, got -1 at position 1."),
    ({"x": pixels(6, 1, 4, 4)}, "Expected an .npz with `x` uint8 and `y` whole numbers, got one that cannot be read "
     "(KeyError: 'y is not a file in the archive')."),
    ({"x": np.array([{}]), "y": LABELS}, "Expected an .npz with `x` uint8 and `y` whole numbers, got one that "
     "cannot be read (ValueError: Object arrays cannot be loaded when allow_pickle=False)."),
    (b"<html>not found</html>", "Expected an .npz with `x` uint8 and `y` whole numbers, got a file of another "
     "kind, or a part of one."),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_npz(tmp_path, content, message):
    path = tmp_path / "test.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, allow_pickle=True, **content)
    problem = fault(NpzData(kind="npz", path="test.npz"), folder=tmp_path, shape=(1, 4, 4), classes=3)
    assert (problem.code, problem.where.file) == ("FB408", path)
    assert problem.message == message


def test_a_truncated_a_damaged_and_an_ambiguous_npz(tmp_path):
    path, spec = tmp_path / "test.npz", NpzData(kind="npz", path="test.npz")
    np.savez_compressed(path, x=pixels(60, 3, 3, 3), y=np.zeros(60, int))
    problem = fault(spec, folder=tmp_path, shape=(3, 3, 3), classes=3)
    assert "a shape that tells channels from pixels, got [60, 3, 3, 3]" in problem.message
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:300] + bytes(200) + whole[500:]):
        path.write_bytes(broken)
        assert fault(spec, folder=tmp_path, shape=(3, 3, 3), classes=3).code == "FB408"


def test_missing_data_says_how_to_get_it(tmp_path):
    problem = fault(NpzData(kind="npz", path="test.npz"), folder=tmp_path, shape=(1, 4, 4), classes=3)
    assert (problem.code, problem.where.file) == ("FB400", tmp_path / "test.npz")
    assert problem.message == "Expected an .npz file with `x` and `y`, got nothing there."
    assert "FOOLBENCH_DATA" in problem.fix
    np.savez(tmp_path / "test.npz", x=pixels(0, 1, 4, 4), y=LABELS[:0])
    problem = fault(NpzData(kind="npz", path="test.npz"), folder=tmp_path, shape=(1, 4, 4), classes=3)
    assert problem.message == f"Expected evaluation images in {tmp_path / 'test.npz'}, got 0."


def folder_of(tmp_path: Path, images: list[Image.Image], name: str = "labels.csv", header: str = "file") -> FolderData:
    (tmp_path / "images").mkdir(exist_ok=True)
    with (tmp_path / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([header, "class_index", "note"])
        for i, image in enumerate(images):
            image.save(tmp_path / "images" / f"{name}{i}.png")
            writer.writerow([f"{name}{i}.png", i % 2, "a, b"])
    return FolderData(kind="folder", path="images", csv=name)


def test_a_folder_of_images_is_cut_from_the_centre(tmp_path):
    left, middle, right = ((i, i, i) for i in (0, 100, 200))
    wide = Image.new("RGB", (12, 4), middle)
    wide.paste(left, (0, 0, 4, 4))
    wide.paste(right, (8, 0, 12, 4))
    spec = folder_of(tmp_path, [wide, wide.rotate(90, expand=True), wide.convert("L"), wide.convert("RGBA")])
    data = load(spec, folder=tmp_path, shape=(3, 4, 4), classes=2)
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.indices.tolist() == [0, 1, 2, 3]
    assert (data.images == 100).all()
    gray = load(spec.model_copy(update={"resize": 4}), folder=tmp_path, shape=(1, 4, 4), classes=2)
    assert gray.images.shape == (4, 1, 4, 4)
    assert (gray.images == 100).all()
    small = load(spec.model_copy(update={"resize": 8}), folder=tmp_path, shape=(3, 6, 6), classes=2, images=2)
    np.testing.assert_array_equal(small.images[1], np.rot90(small.images[0], axes=(1, 2)))
    folder_of(tmp_path, [Image.new("RGB", (9, 4), (i, 0, 255)) for i in (10, 20)], "train.csv")
    spec = spec.model_copy(update={"train": FolderTraining(path="images", csv="train.csv")})
    data = load(spec, folder=tmp_path, shape=(3, 4, 4), classes=2, donors_per_class=5)
    assert data.donor_labels.tolist() == [0, 1]
    np.testing.assert_allclose(data.mean[:, 0, 0], np.array([15, 0, 255]) / 255, atol=1e-6)


def test_a_bad_folder(tmp_path):
    options = {"folder": tmp_path, "shape": (1, 4, 4), "classes": 2}
    image = Image.new("L", (4, 4))
    problem = fault(FolderData(kind="folder", path="images", csv="labels.csv"), **options)
    assert problem.where.file == tmp_path / "images"
    assert problem.message == "Expected a folder of images, got nothing there."
    spec = folder_of(tmp_path, [image], header="picture")
    assert "Expected a header with file and class_index" in fault(spec, **options).message
    spec = folder_of(tmp_path, [image, image, image])
    problem = fault(spec, folder=tmp_path, shape=(1, 4, 4), classes=1)
    assert (problem.where.line, problem.where.file) == (3, tmp_path / "labels.csv")
    assert problem.message == "Expected a file and a class of 0..0, got 'labels.csv1.png' and '1'."
    problem = fault(spec.model_copy(update={"resize": 3}), **options)
    assert problem.message == "Expected `resize` to leave at least 4×4 pixels, got 3×3."
    first = tmp_path / "images" / "labels.csv0.png"
    Image.new("I;16", (4, 4)).save(first)
    problem = fault(spec, **options)
    assert (problem.where.file, problem.message) == (first, "Expected 8 bits a channel, got Pillow's mode I;16.")
    image.save(first)
    first.write_bytes(first.read_bytes()[:45])
    problem = fault(spec, **options)
    assert problem.where.file == first
    assert problem.message.startswith("Expected an image, got a file that cannot be read (")
    first.unlink()
    assert fault(spec, **options).code == "FB400"


def test_the_root_of_shipped_data(monkeypatch):
    monkeypatch.setenv("FOOLBENCH_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv("FOOLBENCH_DATA")
    assert data_root().name == "foolbench"


@real
def test_cifar10_as_it_is():
    spec = NpzData(kind="npz", path="cifar10/test1000.npz", train="cifar10/train4000.npz")
    data = load(spec, folder=SHARED, shape=(3, 32, 32), classes=10, images=500, donors_per_class=2)
    assert data.digest == "c7b83bbaa47b8528dbfd7b9241cfa096f7d5df76f9ecb54f790adfba7653a5ab"
    assert np.bincount(data.labels).tolist() == [50] * 10
    with np.load(SHARED / spec.path) as original:
        np.testing.assert_array_equal(data.images, original["x"][data.indices].transpose(0, 3, 1, 2))
        for label in range(10):
            own = np.flatnonzero(original["y"] == label)[:50]
            np.testing.assert_array_equal(data.indices[data.labels == label], own)


@real
def test_a_sample_of_imagenet_is_cut_as_usual():
    spec = FolderData(kind="folder", path="images", csv="labels.csv", resize=256)
    data = load(spec, folder=SHARED / "imagenet1k_sample", shape=(3, 224, 224), classes=1000, images=8)
    assert data.labels.tolist() == list(range(8))
    with (SHARED / "imagenet1k_sample" / "labels.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)][:8]
    for name, image in zip(names, data.images, strict=True):
        with Image.open(SHARED / "imagenet1k_sample" / "images" / name) as original:
            assert min(original.size) == 256
            left, top = (round((side - 224) / 2) for side in original.size)  # as torchvision rounds
            expected = np.asarray(original)[top : top + 224, left : left + 224]
        np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))
