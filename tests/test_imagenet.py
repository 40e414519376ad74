"""ImageNet: which of its images are evaluated, and each layout in which a copy may lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from foolbench.bench.data import data as data_module
from foolbench.bench.data import imagenet
from foolbench.bench.data.data import load
from foolbench.bench.data.kinds import ImageNetData
from foolbench.bench.errors import EnvironmentFault
from PIL import Image


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a class, where there are fifty."""
    assert imagenet.PER_CLASS == 50
    monkeypatch.setattr(imagenet, "PER_CLASS", 2)


def problem_of(action):
    with pytest.raises(EnvironmentFault) as caught:
        action()
    (problem,) = caught.value.problems
    assert caught.value.exit_code == 4
    assert problem.fix
    return problem


WNIDS = [f"n{1_000_000 + 7 * i:08d}" for i in range(1000)]
IMAGENET = ImageNetData(kind="imagenet", donors=4)
ASK = {"shape": (3, 224, 224), "classes": 1000, "donors_per_class": 1}


def name_of(position: int) -> str:
    return f"ILSVRC2012_val_{position + 1:08d}.JPEG"


def class_of(position: int) -> int:
    """A validation set in which image i is of class 7 i mod 1000."""
    return 7 * position % 1000


def first_of(label: int) -> int:
    return label * pow(7, -1, 1000) % 1000


def photo(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (300, 260)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, "JPEG", quality=95)


def color_of(label: int) -> tuple[int, int, int]:
    return label // 4, 255 - label // 4, 60 * (label % 4)


def check_photos(images: np.ndarray, labels: np.ndarray) -> None:
    for image, label in zip(images, labels, strict=True):
        assert np.abs(image.astype(int) - np.array(color_of(label))[:, None, None]).max() <= 4


def flat(root: Path, table: str, images: int) -> None:
    rows = range(2000)
    if table == "val.txt":
        text = "".join(f"{name_of(i)} {class_of(i)}\n" for i in rows)
    else:
        text = "ImageId,PredictionString\n"
        text += "".join(f"{name_of(i)[:-5]},{WNIDS[class_of(i)]} 1 2 3 4 \n" for i in reversed(rows))
    root.mkdir(parents=True, exist_ok=True)
    (root / table).write_text(text)
    for turn in range(images):
        label = imagenet.evaluated_class(turn)
        photo(root / "val" / name_of(first_of(label)), color_of(label))


def test_the_classes_of_imagenet_are_even_and_any_prefix_is_spread():
    classes = [imagenet.evaluated_class(turn) for turn in range(500)]
    assert sorted(classes) == list(range(0, 1000, 2))
    assert classes[:5] == [0, 618, 236, 854, 472]
    for prefix in (20, 50, 100, 250):
        tenths = np.bincount(np.array(classes[:prefix]) // 100, minlength=10)
        assert tenths.max() - tenths.min() <= 2


def test_imagenet_with_all_images_in_one_folder_and_a_table(tmp_path: Path):
    flat(tmp_path / "imagenet", "val.txt", 6)
    for label in (1, 251, 501, 751):
        photo(tmp_path / "imagenet/val" / name_of(first_of(label)), color_of(label))
    data = load(IMAGENET, folder=tmp_path, images=6, **ASK)
    assert data.labels.tolist() == [0, 618, 236, 854, 472, 90]
    assert data.indices.tolist() == [first_of(label) for label in data.labels]
    check_photos(data.images, data.labels)
    assert np.unique(data.mean.reshape(3, -1), axis=1).T.tolist() == [pytest.approx([0.485, 0.456, 0.406])]
    # Without training images: from classes that are never evaluated, and the run is not ranked.
    assert data.donor_labels.tolist() == [1, 251, 501, 751]
    check_photos(data.donors, data.donor_labels)
    assert data.no_training is not None
    assert "validation images of classes that are not evaluated" in data.no_training


def test_imagenet_as_kaggle_packs_it_with_training_images(tmp_path: Path):
    base = tmp_path / "ILSVRC/Data/CLS-LOC"
    flat(base, "LOC_val_solution.csv", 3)
    os.replace(base / "LOC_val_solution.csv", tmp_path / "LOC_val_solution.csv")
    for label in (0, 250, 500, 750):
        photo(base / "train" / WNIDS[label] / f"{WNIDS[label]}_10026.JPEG", color_of(label + 1), (224, 500))
        photo(base / "train" / WNIDS[label] / f"{WNIDS[label]}_9.JPEG", (0, 0, 0))
    data = load(IMAGENET, folder=tmp_path, images=3, **ASK)
    assert data.labels.tolist() == [0, 618, 236]
    check_photos(data.images, data.labels)
    assert data.donor_labels.tolist() == [0, 250, 500, 750]
    check_photos(data.donors, data.donor_labels + 1)
    assert data.no_training is None
    # A tree of training images that lacks one of the four is as good as none.
    for path in (base / "train" / WNIDS[500]).iterdir():
        path.unlink()
    for label in (1, 251, 501, 751):
        photo(base / "val" / name_of(first_of(label)), color_of(label))
    assert load(IMAGENET, folder=tmp_path, images=3, **ASK).no_training is not None


def test_imagenet_in_torchvisions_folders(tmp_path: Path):
    val = tmp_path / "val"
    for label, wnid in enumerate(WNIDS):
        (val / wnid).mkdir(parents=True)
        for position in (first_of(label) + 1000, first_of(label)):
            (val / wnid / name_of(position)).touch()
        (val / wnid / "notes.txt").touch()
    for turn in range(2):
        label = imagenet.evaluated_class(turn)
        photo(val / WNIDS[label] / name_of(first_of(label)), color_of(label))
    listed = imagenet.evaluation(tmp_path)
    assert [picture.label for picture in listed[:3]] == [0, 618, 236]
    assert all(picture.file.name == name_of(first_of(picture.label)) for picture in listed)
    pixels, labels, _ = data_module._evaluation(IMAGENET, tmp_path, (3, 224, 224), 1000, 2)
    check_photos(pixels, labels)

    ask = {"folder": tmp_path, **ASK}
    (val / WNIDS[4] / name_of(first_of(4))).rename(val / WNIDS[4] / "picture.JPEG")
    problem = problem_of(lambda: load(IMAGENET, **ask))
    assert (problem.code, "of class 4," in problem.message) == ("FB408", True)
    (val / WNIDS[7]).rename(val / "other")
    assert "the folders of 1000 classes" in problem_of(lambda: load(IMAGENET, **ask)).message


def test_imagenet_tables_that_do_not_fit(tmp_path: Path):
    (tmp_path / "val").mkdir()
    ask = {"folder": tmp_path, **ASK}
    assert "val.txt or LOC_val_solution.csv" in problem_of(lambda: load(IMAGENET, **ask)).message
    # ILSVRC's own numbering, 1..1000, is another order of the classes.
    (tmp_path / "val.txt").write_text("".join(f"{name_of(i)} {class_of(i) + 1}\n" for i in range(2000)))
    assert "indices 0..999" in problem_of(lambda: load(IMAGENET, **ask)).message
    for content, told in ((b"\xff\xfe\x00bad", "'utf-8' codec can't decode"), (b"", "got none in the file")):
        (tmp_path / "val.txt").write_bytes(content)
        problem = problem_of(lambda: load(IMAGENET, **ask))
        assert (problem.code, problem.where.file) == ("FB408", tmp_path / "val.txt")
        assert told in problem.message
    (tmp_path / "val.txt").write_text("".join(f"{name_of(i)} {class_of(i)}\n" for i in range(1000)))
    problem = problem_of(lambda: load(IMAGENET, **ask))
    assert (problem.code, "got 1." in problem.message) == ("FB408", True)
    flat(tmp_path, "val.txt", 1)
    problem = problem_of(lambda: load(IMAGENET, **ask, images=2))
    assert (problem.code, (problem.where.file or tmp_path).name) == ("FB400", name_of(first_of(618)))
    assert "at most" not in problem_of(lambda: load(IMAGENET, **ask, images=501)).message
