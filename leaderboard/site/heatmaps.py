"""An entry's response maps: what the properties' evidence shows of a few images, and the repetition curves of all."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...bench.errors import Unexpected, one_line
from ..record.store import EVIDENCE, RunFolder
from ..record.words import DASH, NBSP, printable, quantity
from .gallery import Picture
from .maps import Frame, Map, Scales, drawn, enlarged, outlined, pale, scales
from .ramps import Pixels, cividis, signed
from .repetition import quartiles, repetition_curves

EXAMPLES = 4
_LEAST = 176
"""Pixels that a panel has at least along its longer side."""
_PHOTOGRAPH = 64
"""Images of at least this many pixels are themselves shown with loss: to be recognised, not to be judged."""
_MAPS = ("local", "spatial", "activation")
_CURVES = ("cumulative", "cumulative_random")


@dataclass(frozen=True)
class Maps:
    """`evidence/properties.npz`, checked; see attacks/responses/psychophysics.py for what was measured."""

    image: NDArray[np.int64]
    """`(n,)` rows of `originals`."""
    other: NDArray[np.int64]
    """`(n,)` the rows of the images that `activation` was measured on; -1 where that was a donor, or is not told."""
    local: Map
    """`(n, rows, columns)`, as are the next two."""
    spatial: Map
    activation: Map
    """NaN where not measured."""
    cumulative: Map
    """`(n, copies)`, as is the next; NaN where no further copy fitted."""
    cumulative_random: Map


@dataclass(frozen=True)
class Example:
    """One image with its maps."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Bar:
    """A colour bar and what its ends mean."""

    title: str
    picture: Picture
    low: str
    high: str


@dataclass(frozen=True)
class PatchMaps:
    """The section of an entry's page."""

    shown: str
    """Which were drawn from how many."""
    examples: tuple[Example, ...]
    width: int
    """Of a panel, pixels."""
    height: int
    bars: tuple[Bar, ...]
    head: tuple[str, ...]
    """The table twin's columns after the image."""
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    charts: dict[str, str]
    """Theme -> SVG of the repetition curves."""
    copies: tuple[str, ...]
    curves: tuple[tuple[str, tuple[str, ...]], ...]
    """The chart's table twin: a line's name, and its median and quartiles at each number of copies."""


def read_maps(run: RunFolder, images: int, frame: Frame) -> Maps | None:
    """The run's measured maps; None where it holds none.

    Raises ValueError where the file is not that: other arrays, other shapes than windows of this frame, numbers that
    are no probabilities or infinite changes, rows of `image` or `other` at or above `images`. Pickled arrays are
    never loaded.
    """
    path = run.path / EVIDENCE / "properties.npz"
    if not path.is_file():
        return None
    image, other, values = _arrays(path)
    _check_rows(path, image, other, images)
    _check_values(path, values, len(image), frame)
    return Maps(image.astype(np.int64), other.astype(np.int64), **values)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Which image, which other one, and the maps and curves by name."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            image = arrays["image"]
            other = arrays["other"] if "other" in arrays else np.full(len(image), -1)
            return image, other, {name: arrays[name] for name in (*_MAPS, *_CURVES)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Unexpected("an npz with the properties' arrays", one_line(error), "run again", file=path) from error


def _check_rows(path: Path, image: np.ndarray, other: np.ndarray, images: int) -> None:
    if image.ndim != 1 or image.dtype.kind not in "iu" or (len(image) and not 0 <= image.min() <= image.max() < images):
        raise _unfit(path, f"rows of {images} images", f"{image.dtype} {image.shape}")
    if other.shape != image.shape or other.dtype.kind not in "iu" or not ((other >= -1) & (other < images)).all():
        raise _unfit(path, f"the other image of each, of {images}, or -1", f"{other.dtype} {other.shape}")


def _check_values(path: Path, values: dict[str, np.ndarray], count: int, frame: Frame) -> None:
    maps, curves = (count, *frame.windows), (count, *values["cumulative"].shape[-1:])
    wanted = dict.fromkeys(_MAPS, maps) | dict.fromkeys(_CURVES, curves)
    for name, shape in wanted.items():
        if values[name].dtype != np.float32 or values[name].shape != shape or 0 in shape[1:]:
            raise _unfit(path, f"float32 {name} of shape {shape}", f"{values[name].dtype} {values[name].shape}")
    shares = [values[name] for name in ("local", "spatial")] + [v[~np.isnan(v)] for v in (values[c] for c in _CURVES)]
    if not all(bool(((v >= 0) & (v <= 1.001)).all()) for v in shares) or np.isinf(values["activation"]).any():
        raise _unfit(path, "probabilities and changes that are not infinite", "others")


def _unfit(path: Path, expected: str, got: str) -> Unexpected:
    return Unexpected(expected, got, "run again", file=path)


def example_rows(count: int, digest: str) -> list[int]:
    """Up to EXAMPLES of `count` rows, ascending, from a stream that derives from the submission's digest alone."""
    seed = int.from_bytes(sha256(f"maps:{digest}".encode()).digest()[:8], "big")
    return sorted(np.random.default_rng(seed).permutation(count)[:EXAMPLES].tolist())


def patch_maps(run: RunFolder) -> tuple[PatchMaps | None, dict[str, bytes]]:
    """The section and its files by path relative to the page; None for a run without maps or without originals."""
    attack, originals = run.record.attacks.get("deepception"), run.images("originals")
    if attack is None or originals is None:
        return None, {}
    side, stride = (attack.parameters.get(name) for name in ("side", "stride"))
    if not isinstance(side, int) or not isinstance(stride, int) or min(side, stride) < 1:
        return None, {}
    frame = Frame(originals.shape[2], originals.shape[3], side, stride)
    maps = read_maps(run, len(originals), frame)
    if maps is None or not len(maps.image):
        return None, {}
    rows = example_rows(len(maps.image), run.record.digest)
    scale = scales([maps.local[rows], maps.spatial[rows]], [maps.activation[rows]])
    files: dict[str, bytes] = {}
    names = [_name(run, int(maps.image[row])) for row in rows]
    examples = tuple(
        _example(files, name, originals, maps, row, frame, scale) for name, row in zip(names, rows, strict=True)
    )
    copies = maps.cumulative.shape[1]
    head = (
        "p of a window alone, weakest to strongest",
        "p of the strongest patch, over positions",
        "Δ ln p on another image, over positions",
        f"p with 1 to {copies} copies, best positions",
        "the same, random positions",
    )
    twin = tuple((name, _numbers(maps, row)) for name, row in zip(names, rows, strict=True))
    curves = []
    for name, values in (("best positions", maps.cumulative), ("random positions", maps.cumulative_random)):
        steps = {step.copies: step for step in quartiles(values, 1)}
        told = [
            f"{quantity(s.middle)} ({quantity(s.low)} to {quantity(s.high)})" if (s := steps.get(k)) else DASH
            for k in range(1, copies + 1)
        ]
        curves.append((name, tuple(told)))
    shown = f"{len(rows)} of {len(maps.image):,} images"
    section = PatchMaps(
        shown,
        examples,
        frame.width * frame.zoom(_LEAST),
        frame.height * frame.zoom(_LEAST),
        _bars(files, scale, bool(np.isnan(maps.activation[rows]).any())),
        head,
        twin,
        repetition_curves(maps.cumulative, maps.cumulative_random),
        tuple(map(str, range(1, copies + 1))),
        tuple(curves),
    )
    return section, files


def _name(run: RunFolder, image: int) -> str:
    """ "image 12, “3”", with the class that the image shows where the record says so."""
    classes = run.record.battery.classes
    known = {t.image: t.truth for a in run.record.attacks.values() if a.task == "perturb" for t in a.tasks}
    truth = known.get(image)
    shows = f", “{printable(classes[truth], 40)}”" if truth is not None and 0 <= truth < len(classes) else ""
    return f"image{NBSP}{image}{shows}"


def _example(
    files: dict[str, bytes], name: str, originals: Pixels, maps: Maps, row: int, frame: Frame, scale: Scales
) -> Example:
    zoom = frame.zoom(_LEAST)
    picture = enlarged(originals[maps.image[row]], zoom)
    photograph = max(frame.height, frame.width) >= _PHOTOGRAPH
    other, ground = int(maps.other[row]), pale(picture)
    other_ground = np.full_like(picture, 225) if other < 0 else pale(enlarged(originals[other], zoom))
    there = f"image{NBSP}{other}" if other >= 0 else "another image"
    local, spatial, activation = maps.local[row], maps.spatial[row], maps.activation[row]
    best = np.unravel_index(int(local.argmax()), local.shape)
    top, left = (int(at) * frame.stride for at in best)
    at = f"row {top}, column {left}"
    panels = [
        ("image", outlined(picture, top * zoom, left * zoom, frame.side * zoom), "image",
         f"{name}; its strongest window, {frame.side} pixels wide, is outlined at {at}"),
        ("local", drawn(scale.response(local), frame, zoom, ground), "local",
         f"Local map of {name}: p from {quantity(float(local.min()))} to {quantity(float(local.max()))}, at {at}"),
        ("spatial", drawn(scale.response(spatial), frame, zoom, ground), "spatial",
         f"Spatial map of {name}: p from {quantity(float(spatial.min()))} to {quantity(float(spatial.max()))}"),
        ("activation", drawn(scale.activation(activation), frame, zoom, other_ground, np.isnan(activation)),
         f"activation–inhibition, {there}",
         f"Activation map of {name}, on {there}: change of ln p {_changes(activation)}"),
    ]  # fmt: skip
    pictures = []
    for key, pixels, label, alt in panels:
        data, suffix = _encoded(pixels, photograph, key == "image")
        file = f"maps/{int(maps.image[row])}-{key}.{suffix}"
        files[file] = data
        pictures.append(Picture(file, alt, label))
    return Example(name, tuple(pictures))


def _numbers(maps: Maps, row: int) -> tuple[str, ...]:
    local, spatial, activation = maps.local[row], maps.spatial[row], maps.activation[row]
    curves = (maps.cumulative[row], maps.cumulative_random[row])
    return (
        f"{quantity(float(local.min()))} to {quantity(float(local.max()))}",
        f"{quantity(float(spatial.min()))} to {quantity(float(spatial.max()))}",
        _changes(activation).removeprefix("from "),
        *(", ".join(quantity(float(p)) for p in curve if not np.isnan(p)) for curve in curves),
    )


def _changes(activation: Map) -> str:
    there = activation[~np.isnan(activation)]
    if not there.size:
        return "not measured: p is at the floor, whatever is put there"
    ends = " to ".join(quantity(float(value)).replace("-", "−") for value in (there.min(), there.max()))
    unseen = activation.size - there.size
    return f"from {ends}" + (f" (not measured at {unseen:,} of {activation.size:,} positions)" if unseen else "")


def _bars(files: dict[str, bytes], scale: Scales, unmeasured: bool) -> tuple[Bar, ...]:
    share = np.broadcast_to(np.linspace(0, 1, 176), (14, 176))
    files["maps/bar-p.png"] = _encoded(cividis(share), False)[0]
    files["maps/bar-change.png"] = _encoded(signed(2 * share - 1), False)[0]
    response = Picture("maps/bar-p.png", "Colour bar from dark blue through gray to yellow, logarithmic", "")
    change = Picture("maps/bar-change.png", "Colour bar from purple through white to orange", "")
    most = quantity(scale.change)
    struck = " (struck through: not measured)" if unmeasured else ""
    return (
        Bar("Local and spatial: p of the image’s class", response, quantity(scale.low), quantity(scale.high)),
        Bar(f"Activation–inhibition: change of ln p{struck}", change, f"−{most}", f"+{most}"),
    )


def _encoded(pixels: Pixels, photograph: bool, lossy: bool = False) -> tuple[bytes, str]:
    """Colours that are read from a scale lose nothing."""
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    if photograph:
        if lossy:
            picture.thumbnail((2 * _LEAST, 2 * _LEAST), Image.Resampling.LANCZOS)
        picture.save(out, "WEBP", quality=82, method=4, lossless=not lossy)
        return out.getvalue(), "webp"
    picture.save(out, "PNG", optimize=True)
    return out.getvalue(), "png"
