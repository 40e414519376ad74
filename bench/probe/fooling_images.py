"""Fooling images of a finished run, for tests that go on from them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...leaderboard.record.store import EVIDENCE, RunFolder
from ..battery.battery import Battery
from ..errors import InvalidInput, Problem, Unexpected, Where, one_line

MOST = 20
"""Images taken of one attack: the first that fooled, going round the classes."""
_ATTACKS = ("cppn", "evolution")
_FIX = "name the folder of a finished run on the same battery"


@dataclass(frozen=True)
class FoolingImages:
    """Images of nothing that a victim takes for a class."""

    attack: str
    """`cppn` or `evolution`."""
    source: str
    """Where they come from, in words."""
    images: np.ndarray
    """`(n, c, h, w)` uint8."""
    targets: np.ndarray
    """`(n,)` int64: the class that each was made for."""
    reason: str | None = None
    """Why there are none, where there are none."""


def of_run(folder: Path, battery: Battery) -> tuple[FoolingImages, ...]:
    """The images of a run's CPPN and evolution attacks that fooled its own victim, up to MOST each.

    Raises InvalidInput for a folder that holds no run, no such evidence, or images of another battery's shape or
    classes.
    """
    run = RunFolder(folder)
    try:
        ref, name = run.record.battery, str(run.record.submission.get("name", "submission"))
    except Unexpected as error:
        raise _unusable(folder, [error]) from error
    if ref.shape != battery.spec.shape or len(ref.classes) != battery.classes:
        expected = f"images of {list(battery.spec.shape)} and {battery.classes} classes"
        raise _unusable(folder, [Unexpected(expected, f"{list(ref.shape)} and {len(ref.classes)}", _FIX)])
    found: list[FoolingImages] = []
    wrong: list[Unexpected] = []
    for attack in _ATTACKS:
        try:
            found += _of_attack(run, attack, name, battery.classes)
        except Unexpected as error:
            wrong.append(error)
    if not found and not wrong:
        wrong.append(Unexpected(f"evidence of {' or '.join(_ATTACKS)}", "none", _FIX))
    if wrong:
        raise _unusable(folder, wrong)
    return tuple(found)


def _unusable(folder: Path, wrong: list[Unexpected]) -> InvalidInput:
    places = [Where(error.file or folder, key="--run") for error in wrong]
    told = zip(wrong, places, strict=True)
    return InvalidInput(*(Problem("FB115", error.expected, error.got, _FIX, where) for error, where in told))


def _of_attack(run: RunFolder, attack: str, name: str, classes: int) -> Iterator[FoolingImages]:
    images = run.images(attack)
    if images is None:
        return
    path = run.path / EVIDENCE / f"{attack}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            fooled, targets = arrays["fooled"], arrays["target"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Unexpected("the arrays fooled and target", one_line(error), _FIX, file=path) from error
    fits = fooled.shape == targets.shape == images.shape[:1] and fooled.dtype == np.bool_ and targets.dtype.kind in "iu"
    if not fits or (len(targets) and not 0 <= targets.min() <= targets.max() < classes):
        raise Unexpected("a class and a verdict for each image", "others", _FIX, file=path)
    rows = fooled.nonzero()[0][:MOST]
    reason = None if len(rows) else "none of them fooled the victim they were made on"
    yield FoolingImages(attack, f"made on {name!r}", images[rows], targets[rows].astype(np.int64), reason)
