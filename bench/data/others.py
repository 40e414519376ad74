"""Images of the same data set that are no evaluation images: what a victim that knows the battery does not know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .data import Data, held_out, training
from .kinds import DataSpec

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Others:
    """Images and where they come from."""

    images: np.ndarray
    """`(n, c, h, w)` uint8."""
    labels: np.ndarray
    """`(n,)` int64."""
    are: str
    """In words: held-out images, or training images; where n is 0, why there are none."""


def others(
    spec: DataSpec,
    data: Data,
    *,
    folder: Path,
    shape: tuple[int, int, int],
    classes: int,
    count: int,
    rng: np.random.Generator,
) -> Others:
    """`count` images, or all where there are fewer, as often of each class as the evaluation images are, as far as
    that goes. `data` are the evaluation images; the other arguments those of `load`.

    They are drawn from what the source holds out and the battery does not evaluate; training images, which honest
    networks fit no worse, where that is less than a quarter of `count`. Raises EnvironmentFault.
    """
    import numpy as np

    known = {image.tobytes() for image in data.images}
    for are, read in (("held-out images", held_out), ("training images", training)):
        images, labels = read(spec, folder=folder, shape=shape, classes=classes)
        new = np.array([image.tobytes() not in known for image in images], dtype=bool)
        chosen = _drawn(labels, np.flatnonzero(new), data.labels[:count], rng)
        if 4 * len(chosen) >= count:
            return Others(images[chosen], labels[chosen], are)
    none = np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64)
    return Others(*none, "the battery's data hold no other images")


def _drawn(labels: np.ndarray, from_: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions, of each class as many as `wanted` has of it or as there are."""
    import numpy as np

    order = rng.permutation(from_)
    parts = [order[labels[order] == label][: int((wanted == label).sum())] for label in np.unique(wanted)]
    return np.concatenate([from_[:0], *parts])
