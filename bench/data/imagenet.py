"""ImageNet-1k's validation set: a fixed list of its images, found in any of the usual layouts of the original files.

The set may not be passed on, so it is never fetched. The list is a rule that names the same images in every copy: class
indices are the usual ones (position of the WordNet id among the 1000 in alphabetical order), files go by their number.
All functions raise EnvironmentFault: FB400 for what is not there, FB408 for what is no whole copy.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ..errors import Where, one_line
from .readers import missing, unfit

CLASSES = 1000
PER_CLASS = 50
EVALUATED = 500
STEP = 309
"""Prime to 500, and about 500 times the golden section: any prefix of the list is spread over all classes."""

BASES = ("imagenet", "imagenet/ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC", ".")
"""Where, in the folder of data, `val` and `train` may stand: torchvision's layout, and that of the Kaggle archive."""
LABELS = ("val.txt", "LOC_val_solution.csv")
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
_WNID = re.compile(r"n\d{8}")


class Picture(NamedTuple):
    """One image."""

    file: Path
    label: int
    position: int
    """In the validation set, counted from 0; -1 for a training image."""


class Validation(NamedTuple):
    """A whole copy of the validation set."""

    base: Path
    by_class: list[list[Picture]]
    """Ascending by number."""
    wnids: list[str] | None
    """By class, where this copy names them."""


def evaluated_class(turn: int) -> int:
    """The class of evaluation image `turn` (0..499): an even one, no class twice."""
    return 2 * (STEP * turn % EVALUATED)


def evaluation(root: Path, place: int = 0) -> list[Picture]:
    """The evaluation images: of each class with an even index the image with the lowest number, classes spread; or of
    the same classes, in the same order, that at another place by number."""
    by_class = validation(root).by_class
    return [by_class[evaluated_class(turn)][place] for turn in range(EVALUATED)]


def donors(root: Path, count: int) -> tuple[list[Picture], str | None]:
    """One image of each of `count` evenly spaced classes for attacks to learn from, and whether that is a makeshift.

    They are the training images whose names come first. Without a training set: of the class with the next odd index
    the first validation image, since no image of an odd class is evaluated; then the reason is given too.
    """
    copy = validation(root)
    classes = [CLASSES * i // count for i in range(count)]
    chosen = _training(copy, classes)
    if chosen is not None:
        return chosen, None
    reason = (
        f"ImageNet's training images are not at {copy.base / 'train'}: patches come from validation images of classes "
        "that are not evaluated."
    )
    return [copy.by_class[label | 1][0] for label in classes], reason


def _training(copy: Validation, classes: list[int]) -> list[Picture] | None:
    folder = copy.base / "train"
    wnids = copy.wnids
    if wnids is None and folder.is_dir():
        wnids = sorted(path.name for path in folder.iterdir() if _WNID.fullmatch(path.name))
    if wnids is None or len(wnids) != CLASSES:
        return None
    chosen = []
    for label in classes:
        own = folder / wnids[label]
        names = [p for p in own.iterdir() if p.suffix.lower() in (".jpeg", ".jpg")] if own.is_dir() else []
        if not names:
            return None
        chosen.append(Picture(min(names), label, -1))
    return chosen


def validation(root: Path) -> Validation:
    """Find the validation set: `val` with a folder for each class, or with all images and a table of their classes."""
    base = next((root / place for place in BASES if (root / place / "val").is_dir()), None)
    if base is None:
        fix = (
            "get ILSVRC2012_img_val.tar from image-net.org (or Kaggle), unpack it there, a folder for each class or "
            f"all in one with {' or '.join(LABELS)} beside it; or let FOOLBENCH_DATA name the folder above it"
        )
        missing("ImageNet's validation images", "nothing there", fix, Where(root / "imagenet" / "val"))
    val = base / "val"
    folders = sorted(path.name for path in val.iterdir() if _WNID.fullmatch(path.name))
    if folders:
        if len(folders) != CLASSES:
            unfit(f"the folders of {CLASSES} classes", f"{len(folders)}", "unpack the set again", val)
        by_class = [_pictures(list((val / wnid).iterdir()), label) for label, wnid in enumerate(folders)]
        return _whole(Validation(base, by_class, folders))
    table = next(
        (path for f in (val, base, root, root / "imagenet") for n in LABELS if (path := f / n).is_file()), None
    )
    if table is None:
        fix = "sort the images into folders named by WordNet id, or add one of these tables"
        missing(f"folders of classes in it, or {' or '.join(LABELS)} beside it", "neither", fix, Where(val))
    return _whole(_flat(base, table))


def _flat(base: Path, table: Path) -> Validation:
    """Caffe's val.txt (`NAME INDEX`), or Kaggle's CSV (`NAME,WNID x y x y …` under a header)."""
    form = "lines such as `ILSVRC2012_val_00000001.JPEG 65`, or Kaggle's CSV"
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        unfit(form, f"a file that cannot be read ({one_line(error)})", "fetch the table again", table)
    words = [line.replace(",", " ").split()[:2] for line in text.splitlines()]
    rows = [(w[0].removesuffix(".JPEG"), w[1]) for w in words if len(w) == 2 and w[0].startswith("ILSVRC2012_val_")]
    if not rows:
        unfit(form, "none in the file", "fetch the table again", table)
    wnids = sorted({label for _, label in rows if _WNID.fullmatch(label)})
    index = {wnid: i for i, wnid in enumerate(wnids)} or {str(i): i for i in range(CLASSES)}
    if len(index) != CLASSES or any(label not in index for _, label in rows):
        expected = f"the WordNet ids of {CLASSES} classes, or indices 0..{CLASSES - 1}"
        unfit(expected, "others", "fetch the table again", table)
    files: list[list[Path]] = [[] for _ in range(CLASSES)]
    for name, label in rows:
        files[index[label]].append(base / "val" / f"{name}.JPEG")
    return Validation(base, [_pictures(own, label) for label, own in enumerate(files)], wnids or None)


def _pictures(files: list[Path], label: int) -> list[Picture]:
    named = [(file, match) for file in files if (match := _NAME.fullmatch(file.name))]
    return sorted((Picture(file, label, int(match[1]) - 1) for file, match in named), key=lambda p: p.position)


def _whole(copy: Validation) -> Validation:
    for label, own in enumerate(copy.by_class):
        if len(own) != PER_CLASS:
            expected = f"{PER_CLASS} images ILSVRC2012_val_*.JPEG of class {label}"
            fix = "unpack the set again: which images are evaluated is decided by their numbers"
            unfit(expected, f"{len(own)}", fix, copy.base / "val")
    return copy
