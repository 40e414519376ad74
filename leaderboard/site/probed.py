"""An entry's repeated-instance test: what `foolbench probe --run` left in the run's folder, checked.

The folder is a stranger's: nothing of it reaches a page but numbers within their bounds, words that are escaped, and
pictures that were decoded and encoded again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...bench.errors import Unexpected, one_line
from ..record.store import PROBE, PROBE_RECORD, RunFolder
from ..record.words import DASH, confidence, plural, printable, quantity
from .repetition import quartiles, removal_curves

REPEATED = (
    ("repeats", "images in which a motif repeats"),
    ("repeats_by_chance", "the same images with their pixels in random order: what the search finds in nothing"),
    ("copies", "copies of the motif in an image that has one, itself included"),
    ("confidence", "confidence of the whole images that have one"),
    ("falls", "images whose confidence falls when all copies but the motif are removed"),
    ("falls_control", "the same, on average, for equally many random windows"),
    ("falls_more", "images that lose more by the copies than by random windows"),
    ("fall", "confidence lost by removing the copies but the motif"),
    ("fall_control", "confidence lost by removing equally many random windows"),
    ("fall_all", "confidence lost when the motif goes too"),
    ("changed", "root mean square change of the pixels, copies"),
    ("changed_control", "the same, random windows"),
    ("clear", "share of the random windows that touch no copy"),
)
"""The summary's numbers and what they say."""
PICTURES = 3
"""Of an attack's images with a motif, at most: the first ones."""
_MOST_BYTES = 64 * 1024**2
_MOST_PIXELS = 16 * 1024**2
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Curve = Annotated[list[Annotated[float, Field(ge=0, le=1.001)]], Field(max_length=1000)]


class _Model(BaseModel):
    """What is shown of `probe.json`; bench/probe/record.py has all of it."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Number(_Model):
    """A share `k` of `n`, or a median with quartiles over `n` images."""

    k: Count | None = None
    median: float | None = None
    q25: float | None = None
    q75: float | None = None
    n: Count


class _Removed(_Model):
    copies: Count
    confidence: Curve
    control: list[Curve] = Field(max_length=1000)


class _Repeated(_Model):
    attack: Literal["cppn", "evolution"]
    source: str
    reason: str | None
    summary: dict[str, _Number | Count] | None
    images: list[_Removed] = Field(max_length=1000)


class _Probe(_Model):
    schema_version: Literal[1] = Field(alias="schema")
    digest: str
    battery: str
    battery_digest: str
    repeated_instances: list[_Repeated] = Field(max_length=2)


@dataclass(frozen=True)
class Removal:
    """A picture of one image and what is left of it after each removal."""

    file: str
    """Relative to the entry's page."""
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class RepeatedTest:
    """The test on one attack's images, for the entry's page."""

    attack: str
    title: str
    source: str
    """How many images, and where they come from."""
    reason: str | None
    """Why nothing was measured, where nothing was."""
    rows: tuple[tuple[str, str], ...]
    """What a number says, and the number."""
    charts: dict[str, str]
    """Theme -> SVG of the confidence after each removal; empty where nothing repeats."""
    steps: tuple[str, ...]
    curves: tuple[tuple[str, tuple[str, ...]], ...]
    """The chart's table twin: a line's name, and its median and quartiles after each removal."""
    pictures: tuple[Removal, ...]


def repeated_tests(run: RunFolder) -> tuple[tuple[RepeatedTest, ...], dict[str, bytes]]:
    """The tests and their pictures by path relative to the page; none for a run without a probe.

    Raises ValueError for a probe that cannot be read, or that is of another submission or battery than the run.
    """
    path = run.path / PROBE / PROBE_RECORD
    if not path.is_file():
        return (), {}
    probe = _read(path)
    battery = run.record.battery
    # A probe takes the standard tier, whose digest is another than the smoke tier's.
    same = battery.tier == "smoke" or probe.battery_digest == battery.digest
    if probe.digest != run.record.digest or probe.battery != battery.name or not same:
        raise Unexpected("a probe of the run's own submission and battery", "another", "probe again", file=path)
    files: dict[str, bytes] = {}
    titles = {name: printable(attack.title, 60) for name, attack in battery.attacks.items()}
    tests = probe.repeated_instances
    return tuple(_test(found, titles.get(found.attack, found.attack), path.parent, files) for found in tests), files


def _read(path: Path) -> _Probe:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Unexpected(f"a probe under {_MOST_BYTES:,} bytes", "more", "probe again", file=path)
        probe = _Probe.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Unexpected("a probe", error.strerror, "probe again", file=path) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "probe"
        raise Unexpected("a probe of schema 1", f"{where}: {first['msg']}", "probe again", file=path) from error
    if len({found.attack for found in probe.repeated_instances}) < len(probe.repeated_instances):
        raise Unexpected("one test of each attack", "two", "probe again", file=path)
    lengths = ((i, draw) for found in probe.repeated_instances for i in found.images for draw in i.control)
    if not all(len(draw) == len(image.confidence) for image, draw in lengths):
        raise Unexpected("curves of equal length for each image", "others", "probe again", file=path)
    return probe


def _test(found: _Repeated, title: str, folder: Path, files: dict[str, bytes]) -> RepeatedTest:
    having = [image for image in found.images if image.copies and image.confidence and image.control]
    removed = _rows([np.array(image.confidence) for image in having])
    control = _rows([np.array(image.control).mean(0) for image in having])
    curves = []
    steps = tuple(map(str, range(removed.shape[1])))
    for name, values in (("copies of the motif", removed), ("random windows", control)):
        cells = [f"{quantity(s.middle)} ({quantity(s.low)} to {quantity(s.high)})" for s in quartiles(values, 0)]
        curves.append((name, tuple(cells)))
    summary, told = found.summary or {}, REPEATED if having else REPEATED[:2]
    return RepeatedTest(
        found.attack,
        title,
        f"{plural(len(found.images), 'image')}, {printable(found.source, 80)}",
        (found.reason or "no images") if found.summary is None else None,
        tuple((says, _told(number)) for key, says in told if isinstance(number := summary.get(key), _Number)),
        removal_curves(removed, control),
        steps,
        tuple(curves) if having else (),
        tuple(_pictures(found, title, folder, files)),
    )


def _rows(curves: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Curves of different lengths below one another, NaN at the end of the shorter ones."""
    longest = max((len(curve) for curve in curves), default=0)
    rows = np.full((len(curves), longest), np.nan, np.float32)
    for row, curve in zip(rows, curves, strict=True):
        row[: len(curve)] = curve
    return rows


def _told(number: _Number) -> str:
    if number.k is not None:
        return f"{number.k:,} of {number.n:,}" if number.n else DASH
    if number.median is None:
        return DASH
    low, middle, high = (quantity(x).replace("-", "−") for x in (number.q25, number.median, number.q75))
    return f"median {middle}, quartiles {low} to {high}"


def _pictures(found: _Repeated, title: str, folder: Path, files: dict[str, bytes]) -> list[Removal]:
    made = []
    for i, image in enumerate(found.images):
        name = f"motif-{found.attack}-{i:02d}.png"
        if not image.copies or not image.confidence or not (folder / name).is_file() or len(made) == PICTURES:
            continue
        files[f"{PROBE}/{name}"], (width, height) = _again(folder / name)
        first, last = (confidence(min(1.0, image.confidence[at])) for at in (0, -1))
        alt = f"{title} image {i}: {image.copies} copies of its motif outlined, and what is left after "
        made.append(Removal(f"{PROBE}/{name}", f"{alt}each removal; confidence from {first} to {last}", width, height))
    return made


def _again(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A PNG as another one of the same pixels, without whatever else the file held."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise Unexpected("a picture of the probe", f"{picture.width} × {picture.height} pixels", "probe again")
            out, pixels = io.BytesIO(), picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unexpected("a picture of the probe", one_line(error), "probe again", file=path) from error
    pixels.save(out, "PNG", optimize=True)
    return out.getvalue(), pixels.size
