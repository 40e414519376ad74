"""The data of a battery: the images that attacks, judge and recipes are given.

Named sets (scikit-learn's bundled digits, MNIST, CIFAR-10, ImageNet), and a user's own as an npz or as a folder of
images with a CSV. The readers are in datasets.py, sources.py and imagenet.py and imported on use: naming a data set
must not cost the import of numpy.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import EnvironmentFault, Problem, Where
from .kinds import DataSpec, DigitsData, FolderData, ImageNetData, NpzData, TorchvisionData
from .kinds import FolderTraining as FolderTraining

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .readers import Digits


@dataclass(frozen=True)
class Data:
    """A battery's images. All arrays are read-only."""

    images: np.ndarray
    """`(n, c, h, w)` uint8: evaluation images, going round the classes 0, 1, …, so that any prefix is balanced."""
    labels: np.ndarray
    """`(n,)` int64."""
    indices: np.ndarray
    """`(n,)` int64: each image's position in its source."""
    mean: np.ndarray
    """`(c, h, w)` float32 in [0, 1]: mean of the training images; mid-gray where there are none; of ImageNet the
    published mean colour."""
    donors: np.ndarray
    """`(m, c, h, w)` uint8: the first training images of each class, going round the classes; none of them is an
    evaluation image."""
    donor_labels: np.ndarray
    """`(m,)` int64."""
    no_training: str | None
    """Where there are no training images, the reason, in a sentence. There are no donors then and the mean is gray; or,
    of ImageNet, the donors are others than the battery means and the mean is as ever."""
    digest: str
    """sha256 of the evaluation images' shape, pixels and labels."""

    def pixels(self, device: torch.device) -> torch.Tensor:
        """The evaluation images as a Classifier takes them: `(n, c, h, w)` float32 in [0, 1] on the device."""
        import torch

        from ...models.levels import from_bytes

        return from_bytes(torch.tensor(self.images).to(device))

    def training_digest(self) -> str:
        """sha256 of what attacks are given of the training images: the mean image and the donors."""
        return hashlib.sha256(self.mean.tobytes() + digest_of(self.donors, self.donor_labels).encode()).hexdigest()


def data_root() -> Path:
    """Where the data of shipped batteries lies: FOOLBENCH_DATA, else the user's own data folder for foolbench."""
    from platformdirs import user_data_path

    given = os.environ.get("FOOLBENCH_DATA")
    return Path(given).expanduser() if given else user_data_path("foolbench", appauthor=False)


def load(
    spec: DataSpec,
    *,
    folder: Path,
    shape: tuple[int, int, int],
    classes: int,
    images: int | None = None,
    donors_per_class: int = 0,
    digest: str | None = None,
    counted: Where | None = None,
) -> Data:
    """Load a battery's data.

    `folder` is where relative paths start, `shape` the battery's (c, h, w), `images` how many evaluation images to take
    (all by default), `counted` where the battery says so, `digest` what `Data.digest` must be. The evaluation images
    are taken in the order of the source, class by class in turn; a class that has no more is passed over.

    Raises EnvironmentFault: FB400 for data that is not there (or too few images), FB401 where the digest differs, FB407
    where a download that was asked for fails, FB408 for data that cannot be read or does not fit the battery.
    """
    import numpy as np

    from . import readers as datasets

    evaluation, labels, indices = _evaluation(spec, folder, shape, classes, images, counted)
    got = digest_of(evaluation, labels)
    if digest is not None and got != digest:
        where = Where(folder / spec.path if isinstance(spec, NpzData | FolderData) else None)
        expected = f"evaluation images with the sha256 {digest[:12]}…"
        fix = f"fetch the original data again; if the battery itself was changed, digest: {got}"
        raise EnvironmentFault(Problem("FB401", expected, f"{got[:12]}…", fix, where))
    train, train_labels, reason = _training(spec, folder, shape, classes)
    mean = np.full(shape, 0.5, np.float32)
    if isinstance(spec, ImageNetData):
        mean[:] = np.array(spec.mean)[:, None, None]
    elif len(train):
        mean = (train.mean(0, dtype=np.float64) / 255).astype(np.float32)
    kept = datasets.donors(train, train_labels, evaluation, classes, donors_per_class)
    donors, donor_labels = train[kept], train_labels[kept]
    for array in (evaluation, labels, indices, mean, donors, donor_labels):
        array.flags.writeable = False
    return Data(evaluation, labels, indices, mean, donors, donor_labels, reason, got)


def _evaluation(
    spec: DataSpec,
    folder: Path,
    shape: tuple[int, int, int],
    classes: int,
    images: int | None,
    counted: Where | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import numpy as np

    from . import readers as datasets

    def chosen(labels: np.ndarray, source: str) -> np.ndarray:
        order = datasets.in_turn(labels)
        if not len(order) or (images or 0) > len(order):
            if images is None or not len(order):
                datasets.missing(f"evaluation images in {source}", "0", "add images")
            fix = f"images: {len(order)}, or add evaluation images"
            datasets.missing(f"{images} evaluation images in {source}", f"{len(order)}", fix, counted)
        return order[:images]

    if isinstance(spec, FolderData):
        rows = datasets.rows(folder / spec.path, folder / spec.csv, classes)
        every = np.array([label for _, label in rows], np.int64)
        order = chosen(every, str(folder / spec.csv))
        return datasets.pictures([rows[i][0] for i in order], shape, spec.resize), every[order], order
    if isinstance(spec, ImageNetData):
        from . import imagenet

        _fits(spec.kind, shape, classes, (3, *shape[1:]), imagenet.CLASSES)
        listed = imagenet.evaluation(folder)
        if (images or 0) > len(listed):
            fix = f"images: {len(listed)}"
            datasets.missing(f"{images} evaluation images of ImageNet", f"{len(listed)}", fix, counted)
        listed = listed[:images]
        pixels = datasets.pictures([picture.file for picture in listed], shape, spec.resize)
        return pixels, np.array([p.label for p in listed], np.int64), np.array([p.position for p in listed], np.int64)
    if isinstance(spec, NpzData):
        x, y = datasets.npz(folder / spec.path, shape, classes)
        order = chosen(y, str(folder / spec.path))
    elif isinstance(spec, TorchvisionData):
        x, y = _split(spec, "test", folder, shape, classes)
        order = chosen(y, f"the test images of {spec.kind}")
    else:
        x, y, held_out, _ = _digits(spec, shape, classes)
        order = held_out[chosen(y[held_out], "scikit-learn's digits")]
    return x[order], y[order], order


def held_out(
    spec: DataSpec, *, folder: Path, shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """All images `(n, c, h, w)` uint8 and labels `(n,)` int64 that evaluation images are taken from, those too; of
    ImageNet the second of each class that is evaluated. Raises EnvironmentFault like `load`.
    """
    import numpy as np

    from . import readers as datasets

    if isinstance(spec, FolderData):
        rows = datasets.rows(folder / spec.path, folder / spec.csv, classes)
        pixels = datasets.pictures([file for file, _ in rows], shape, spec.resize)
        return pixels, np.array([label for _, label in rows], np.int64)
    if isinstance(spec, ImageNetData):
        from . import imagenet

        listed = imagenet.evaluation(folder, 1)
        pixels = datasets.pictures([picture.file for picture in listed], shape, spec.resize)
        return pixels, np.array([picture.label for picture in listed], np.int64)
    if isinstance(spec, NpzData):
        return datasets.npz(folder / spec.path, shape, classes)
    if isinstance(spec, TorchvisionData):
        return _split(spec, "test", folder, shape, classes)
    x, y, kept, _ = _digits(spec, shape, classes)
    return x[kept], y[kept]


def training(
    spec: DataSpec, *, folder: Path, shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """All training images `(n, c, h, w)` uint8 and labels `(n,)` int64; n is 0 where the battery names none.

    What recipes train panels and submissions on. Raises EnvironmentFault like `load`.
    """
    return _training(spec, folder, shape, classes)[:2]


def _training(
    spec: DataSpec, folder: Path, shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """The training images, and what `Data.no_training` says."""
    import numpy as np

    from . import readers as datasets

    if isinstance(spec, DigitsData):
        x, y, _, rest = _digits(spec, shape, classes)
        return x[rest], y[rest], None
    if isinstance(spec, TorchvisionData):
        x, y = _split(spec, "train", folder, shape, classes)
        if spec.train_sha256 is not None and (got := digest_of(x, y)) != spec.train_sha256:
            expected = f"training images with the sha256 {spec.train_sha256[:12]}…"
            fix = f"fetch the original data again; if the battery itself was changed, train_sha256: {got}"
            raise EnvironmentFault(Problem("FB401", expected, f"{got[:12]}…", fix))
        return x, y, None
    if isinstance(spec, ImageNetData):
        from . import imagenet

        chosen, reason = imagenet.donors(folder, spec.donors)
        pixels = datasets.pictures([picture.file for picture in chosen], shape, spec.resize)
        return pixels, np.array([picture.label for picture in chosen], np.int64), reason
    if isinstance(spec, NpzData) and spec.train is not None:
        return *datasets.npz(folder / spec.train, shape, classes), None
    if isinstance(spec, FolderData) and spec.train is not None:
        rows = datasets.rows(folder / spec.train.path, folder / spec.train.csv, classes)
        pixels = datasets.pictures([file for file, _ in rows], shape, spec.resize)
        return pixels, np.array([label for _, label in rows], np.int64), None
    nothing = np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64)
    return *nothing, "The battery names no training images (`data.train`)."


def _split(
    spec: TorchvisionData, split: Literal["test", "train"], folder: Path, shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    from . import torchvision_sets as sources

    source = sources.SOURCES[spec.kind]
    _fits(spec.kind, shape, classes, source.shape, source.classes)
    return sources.first_images(spec.kind, split, spec.test if split == "test" else spec.train, folder)


def _digits(spec: DigitsData, shape: tuple[int, int, int], classes: int) -> Digits:
    from . import readers as datasets

    _fits(spec.kind, shape, classes, (1, 8, 8), 10)
    return datasets.digits(spec.seed, spec.per_class)


def _fits(kind: str, shape: tuple[int, int, int], classes: int, own: tuple[int, int, int], own_classes: int) -> None:
    if (shape, classes) != (own, own_classes):
        expected = f"shape {list(own)} and {own_classes} classes for {kind}"
        raise EnvironmentFault(Problem("FB408", expected, f"{list(shape)} and {classes}", f"shape: {list(own)}"))


def digest_of(images: np.ndarray, labels: np.ndarray) -> str:
    """sha256 of images' shape, pixels and labels: what a battery's `digest` states.

    `images` uint8 `(n, c, h, w)`, `labels` `(n,)`.
    """
    digest = hashlib.sha256(f"{list(images.shape)}\n".encode())
    digest.update(images.tobytes())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()
