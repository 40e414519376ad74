"""The readers of digits, npz files and folders, and the order in which evaluation images and donors are taken.

All of them raise EnvironmentFault: FB400 for what is not there, FB408 for what cannot be read or does not fit.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image

from ...attacks.levels import Levels
from ..errors import EnvironmentFault, Problem, Where, one_line

Shape = tuple[int, int, int]


class Digits(NamedTuple):
    """scikit-learn's digits and how they are split."""

    images: np.ndarray
    """`(1797, 1, 8, 8)` uint8."""
    labels: np.ndarray
    """`(1797,)` int64."""
    evaluation: np.ndarray
    """Positions, in the split's own random order."""
    training: np.ndarray
    """Positions of all others, ascending."""


def digits(seed: int, per_class: int) -> Digits:
    """scikit-learn's bundled 8×8 digits; `per_class` images of each class, chosen by `seed`, are for evaluation."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = np.round(x * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    # Raw PCG64 output is the part of numpy's randomness that is promised never to change between versions.
    shuffled = np.argsort(np.random.PCG64(seed).random_raw(len(y)), kind="stable")
    own = [shuffled[y[shuffled] == label] for label in range(10)]
    evaluation = np.concatenate([positions[:per_class] for positions in own])
    training = np.sort(np.concatenate([positions[per_class:] for positions in own]))
    return Digits(images, y.astype(np.int64), evaluation, training)


def in_turn(labels: np.ndarray) -> np.ndarray:
    """Positions, going round the classes: each class's first image, then each class's second, and so on."""
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(own.sum())
    return np.lexsort((labels, turn))


def donors(images: np.ndarray, labels: np.ndarray, held_out: np.ndarray, classes: int, per_class: int) -> np.ndarray:
    """Positions `(m,)` of the first `per_class` images of each class, in turn; none that is among `held_out`."""
    secret = {image.tobytes() for image in held_out}
    picked: list[list[int]] = []
    for label in range(classes):
        own = (int(i) for i in np.flatnonzero(labels == label) if images[i].tobytes() not in secret)
        picked.append([i for i, _ in zip(own, range(per_class), strict=False)])
    return np.array([own[turn] for turn in range(per_class) for own in picked if turn < len(own)], np.int64)


def hold_to(levels: Levels, images: np.ndarray, indices: np.ndarray, where: Where) -> None:
    """Raise FB408 where uint8 images `(n, c, h, w)`, at these positions of their source, have other gray levels."""
    known = np.zeros(256, np.bool_)
    known[list(levels.bytes)] = True
    for image, index in zip(images, indices, strict=True):
        if not (kept := known[image]).all():
            expected = f"evaluation images on the {levels.count} gray levels, the bytes round(255k/{levels.top})"
            fix = "levels: 256, or round the images"
            got = f"the byte {image[~kept][0]} in image {index}"
            raise EnvironmentFault(Problem("FB408", expected, got, fix, where))


def npz(path: Path, shape: Shape, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, c, h, w)` uint8 and labels `(n,)` int64 of an .npz with `x` and `y`."""
    _there(path, "an .npz file with `x` and `y`")
    form, fix = "an .npz with `x` uint8 and `y` whole numbers", "write it with numpy.savez(path, x=x, y=y)"
    if not zipfile.is_zipfile(path):
        unfit(form, "a file of another kind, or a part of one", fix, path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        unfit(form, f"one that cannot be read ({one_line(error)})", fix, path)
    if x.dtype != np.uint8:
        unfit("`x` of uint8", f"{x.dtype}", "save pixels as 0..255: x.round().astype('uint8')", path)
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) != len(x):
        got = f"{y.dtype} of shape {list(y.shape)}"
        unfit(f"`y` of {len(x)} whole numbers", got, "save one class index an image", path)
    _legal(y, classes, path)
    c, h, w = shape
    as_is, channels_last = x.shape[1:] == shape, x.shape[1:] == (h, w, c)
    if as_is and channels_last and c > 1:
        expected = "`x` to have a shape that tells channels from pixels"
        unfit(expected, f"{list(x.shape)}", "save images that are not as wide and high as they have channels", path)
    if as_is:
        images = x
    elif channels_last:
        images = x.transpose(0, 3, 1, 2)
    elif c == 1 and x.shape[1:] == (h, w):
        images = x[:, None]
    else:
        expected = f"(n, {h}, {w}, {c}) or (n, {c}, {h}, {w})" + (f" or (n, {h}, {w})" if c == 1 else "")
        unfit(f"`x` of shape {expected}", f"{x.shape}", "correct the battery's `shape` or the file", path)
    return np.ascontiguousarray(images), y.astype(np.int64)


def rows(folder: Path, table: Path, classes: int) -> list[tuple[Path, int]]:
    """The image files of a folder that a CSV lists, with their classes, in the CSV's order."""
    _there(folder, "a folder of images")
    _there(table, "a CSV with the columns file and class_index")
    try:
        with table.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            if not {"file", "class_index"} <= set(reader.fieldnames or ()):
                fix = "begin the CSV with the line file,class_index"
                unfit("a header with file and class_index", f"{reader.fieldnames}", fix, table)
            return list(_parsed(reader, folder, table, classes))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        unfit("a CSV", f"a file that cannot be read ({one_line(error)})", "save it as UTF-8 text with commas", table)


def _parsed(reader: csv.DictReader[str], folder: Path, table: Path, classes: int) -> Iterator[tuple[Path, int]]:
    for row in reader:
        try:
            name, label = row["file"], int(row["class_index"])
        except (TypeError, ValueError):
            name, label = row["file"], -1
        if not name or not 0 <= label < classes:
            got = f"{name!r} and {row['class_index']!r}"
            where = Where(table, reader.line_num)
            expected = f"a file and a class of 0..{classes - 1}"
            raise EnvironmentFault(Problem("FB408", expected, got, "correct the line", where))
        yield folder / name, label


def pictures(files: list[Path], shape: Shape, resize: int | None) -> np.ndarray:
    """Image files, fitted to `shape` -> `(n, c, h, w)` uint8."""
    pixels = np.zeros((len(files), *shape), np.uint8)
    for i, file in enumerate(files):
        _there(file, "an image")
        try:
            with Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    unfit("8 bits a channel", f"Pillow's mode {image.mode}", "save it with 8 bits", file)
                image.load()
                fitted = _fitted(image.convert("L" if shape[0] == 1 else "RGB"), shape, resize)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            unfit("an image", f"a file that cannot be read ({one_line(error)})", "fetch the file again", file)
        pixels[i] = fitted[None] if shape[0] == 1 else fitted.transpose(2, 0, 1)
    return pixels


def _fitted(image: Image.Image, shape: Shape, resize: int | None) -> np.ndarray:
    """`(h, w)` or `(h, w, 3)` uint8."""
    _, height, width = shape
    if resize is None:
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
        box = (left, top, left + width * scale, top + height * scale)
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
    # The usual evaluation transform: sizes and offsets rounded as torchvision's Resize and CenterCrop round them.
    short = min(image.size)
    size = (int(resize * image.width / short), int(resize * image.height / short))
    if size[0] < width or size[1] < height:
        unfit(f"`resize` to leave at least {height}×{width} pixels", f"{size[1]}×{size[0]}", "raise `resize`")
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def _legal(labels: np.ndarray, classes: int, path: Path) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        got = f"{labels[wrong[0]]} at position {wrong[0]}"
        unfit(f"classes of 0..{classes - 1}", got, "correct `y`, or the battery's `classes`", path)


def _there(path: Path, what: str) -> None:
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        fix = "put it there, or correct the battery's `data`; a shipped battery's data starts at FOOLBENCH_DATA"
        missing(what, "nothing there", fix, Where(path))


def missing(expected: str, got: str, fix: str, where: Where | None = None) -> NoReturn:
    """Raise FB400."""
    raise EnvironmentFault(Problem("FB400", expected, got, fix, where or Where()))


def unfit(expected: str, got: str, fix: str, file: Path | None = None) -> NoReturn:
    """Raise FB408."""
    raise EnvironmentFault(Problem("FB408", expected, got, fix, Where(file)))
