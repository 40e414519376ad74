"""Real third-party networks as submissions, on batteries of one's own over the real data, written into a folder."""

from __future__ import annotations

import csv
import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from model_files import DATA, TABLE
from PIL import Image

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
JUDGE = {"tau_quantile": 0.05, "flat_confidence": 0.99, "draws": 10, "expectation_draws": 16, "bootstrap": 200}
LAYOUTS = {"NCHW": "nchw", "NHWC": "nhwc", "N,784,1": "flat"}


@dataclass(frozen=True)
class Net:
    """A network of the shared folder and what was measured of it there."""

    name: str
    dataset: str
    file: Path
    right: int
    """How many of `images` it gets right."""
    images: int
    model: dict[str, Any]
    """What a submission says of it, the path left out."""


def nets() -> list[Net]:
    """All networks, none where there is no data."""
    return [_onnx(row) for row in TABLE.get("onnx", [])] + [_timm(row) for row in TABLE.get("timm", [])]


def _onnx(row: dict[str, Any]) -> Net:
    assert DATA is not None
    given: dict[str, Any] = {"name": row["input"], "layout": LAYOUTS[row["layout"].split()[0]]}
    if row["scale"] == 1:
        given["scale"] = 255
    if row["mean"] != [0]:
        given |= {"mean": row["mean"], "std": row["std"]}
    if row["channel_order"] == "BGR":
        given["channels"] = "bgr"
    if row["crop"]:
        given |= {"size": row["input_shape"][2:], "resize": max(row["crop"]), "interpolation": "bicubic"}
    model = {"kind": "onnx", "sha256": row["sha256"], "input": given, "output": row["outputs"]}
    model["output_name"] = row["output"]
    right = round(row["top1"] * row["images"])
    return Net(Path(row["file"]).stem, row["dataset"], DATA / row["file"], right, row["images"], model)


def _timm(row: dict[str, Any]) -> Net:
    assert DATA is not None
    given = {"size": [224, 224], "resize": 256, "mean": [0.5], "std": [0.5]}
    model = {"kind": "timm", "name": row["timm_model"], "sha256": row["sha256"], "args": row["timm_kwargs"]}
    right = round(row["same_224"]["top1"] * 1000)
    return Net(Path(row["file"]).stem, "imagenet", DATA / row["file"], right, 1000, model | {"input": given})


def write_submission(net: Net, folder: Path, battery: str, *, as_stored: bool = False) -> Path:
    """A folder of its own with a copy of the network and its submission.yaml; `battery` is relative to that folder.

    `as_stored`: the battery's images are the network's own input already, so nothing is said of resizing.
    """
    own = folder / net.name
    own.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(net.file, own / net.file.name)
    given = {
        k: v for k, v in net.model["input"].items() if not (as_stored and k in ("size", "resize", "interpolation"))
    }
    file = {"path" if net.model["kind"] == "onnx" else "weights": net.file.name}
    content = {"schema": 1, "name": net.name, "authors": ["Their authors"], "battery": battery}
    return _yaml(own / "submission.yaml", content | {"model": net.model | file | {"input": given}})


def write_batteries(folder: Path) -> None:
    """MNIST's data, and two batteries for each data set: `DATASET-clean.yaml` measures all images and attacks none,
    `DATASET-tiny.yaml` attacks a few of them with everything. The photographs of the tiny one are small."""
    assert DATA is not None
    _mnist(folder)
    _photo_lists(folder)
    cifar = {
        name: str(DATA / "cifar10" / file) for name, file in (("path", "test1000.npz"), ("train", "train4000.npz"))
    }
    photos = {"kind": "folder", "path": str(DATA / "imagenet1k_sample/images")}
    every = {"csv": str(DATA / "imagenet1k_sample/labels.csv"), "resize": 256}
    few = {"csv": "photos-test.csv", "resize": 128, "train": {"path": photos["path"], "csv": "photos-train.csv"}}
    mnist = {"kind": "npz", "path": "mnist-test.npz", "train": "mnist-train.npz"}
    write_battery(folder, "mnist-clean", mnist, (1, 28, 28), 10)
    write_battery(folder, "mnist-tiny", mnist, (1, 28, 28), 10, _budgets(photos=False))
    write_battery(folder, "cifar10-clean", {"kind": "npz"} | cifar, (3, 32, 32), CIFAR_CLASSES)
    write_battery(folder, "cifar10-tiny", {"kind": "npz"} | cifar, (3, 32, 32), CIFAR_CLASSES, _budgets(photos=False))
    write_battery(folder, "imagenet-clean", photos | every, (3, 256, 256), 1000)
    write_battery(folder, "imagenet-tiny", photos | few, (3, 128, 128), 1000, _budgets(photos=True))


def write_battery(
    folder: Path,
    name: str,
    data: dict[str, Any],
    shape: tuple[int, int, int],
    classes: Any,
    budgets: dict[str, Any] | None = None,
) -> None:
    """`NAME.yaml`."""
    batch = 250 if classes != 1000 else 20
    common = {"schema": 1, "name": name, "data": data, "shape": list(shape), "classes": classes}
    common |= {"batch": batch, "gradient_batch": batch, "judge": JUDGE}
    _yaml(folder / f"{name}.yaml", common | (budgets or {"attacks": {}}))


def _budgets(photos: bool) -> dict[str, Any]:
    """Everything, but little of it: the same keys as in a shipped battery."""
    evolved = {"runs": 1, "children": 10 if photos else 50, "generations": 3 if photos else 20, "runs_per_shard": 1}
    side, few = (32, 4) if photos else (6, 8)
    attacks = {
        "evolution": evolved | {"mutation_rate": 0.1, "halve_every": 1000, "eta": 15},
        "cppn": evolved,
        "deepception": {
            **{
                "images": few,
                "side": side,
                "stride": 32 if photos else 3,
                "copies": 2,
                "grid": 3,
                "keep": 4,
                "bank": 4,
            },
            **{"queries": 40, "properties": 1, "images_per_shard": 4},
        },
        "one_pixel": {
            **{"images": few, "pixels": [1, 5], "population": 10, "iterations": 3 if photos else 20, "f": 0.5},
            "images_per_shard": 4,
        },
        "fgsm": {
            **{"images": 10, "epsilon": "4/255" if photos else 0.1, "curve": ["8/255"], "images_per_shard": 10},
            "smallest": {"largest": 0.5, "coarse": 8, "bisections": 3},
        },
        "gradient_ascent": {
            **{"runs": 1, "targets": [1, 7], "steps": 20, "early": 0.03, "late": 0.1, "runs_per_shard": 1},
            **{"objectives": ["softmax", "logit"], "decays": [0, 0.01], "starts": ["1/255"]},
        },
    }
    # every control has the judge look at one image a class, which is what takes long with a thousand classes
    controls = {} if photos else {"noise": evolved, "random_cppn": evolved}
    return {"images": 20, "donors_per_class": 1, "attacks": attacks, "controls": controls}


def _mnist(folder: Path) -> None:
    assert DATA is not None
    for ours, theirs in (("test", "t10k"), ("train", "train")):
        files = (DATA / f"mnist/{theirs}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        x, y = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
        np.savez(folder / f"mnist-{ours}.npz", x=x[16:].reshape(-1, 28, 28), y=y[8:])


def photo_rows() -> list[tuple[str, int]]:
    """File and class of each photograph."""
    assert DATA is not None
    with (DATA / "imagenet1k_sample/labels.csv").open(newline="") as table:
        return [(row["file"], int(row["class_index"])) for row in csv.DictReader(table)]


def _photo_lists(folder: Path) -> None:
    """Twenty photographs to attack, and four others to take patches from."""
    rows = photo_rows()
    for name, chosen in (("test", rows[::50]), ("train", rows[1::250])):
        with (folder / f"photos-{name}.csv").open("w", newline="") as out:
            csv.writer(out).writerows([("file", "class_index"), *chosen])


def write_photos_as_measured(folder: Path, size: int, resize: int) -> str:
    """An npz of all photographs exactly as the stated accuracies were measured on, and a battery of them, whose name is
    returned: short side to `resize` (bicubic, the long side rounded to the nearest), the central `size` pixels (half a
    pixel rounded down)."""
    assert DATA is not None
    rows, pixels = photo_rows(), np.zeros((1000, size, size, 3), np.uint8)
    for i, (file, _) in enumerate(rows):
        with Image.open(DATA / "imagenet1k_sample/images" / file) as picture:
            scale = resize / min(picture.size)
            fitted = picture.convert("RGB").resize(
                (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
            )
        left, top = (fitted.width - size) // 2, (fitted.height - size) // 2
        pixels[i] = np.asarray(fitted.crop((left, top, left + size, top + size)))
    name = f"imagenet-{size}"
    np.savez(folder / f"{name}.npz", x=pixels, y=np.array([label for _, label in rows]))
    write_battery(folder, name, {"kind": "npz", "path": f"{name}.npz"}, (3, size, size), 1000)
    return name


def _yaml(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=120))
    return path
