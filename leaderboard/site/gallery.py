"""The pictures behind the numbers: a fixed, seeded sample of successes and failures, published without loss.

Pictures under 64 pixels are published at their own size as PNG and enlarged by the page, pixel by pixel. Larger ones
become previews of 96 pixels, which may not fool: the images that count are the run's evidence.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from PIL import Image

from ...bench.errors import Unexpected
from ..record.battery import BatteryRef
from ..record.record import AttackResult, TaskRow
from ..record.store import RunFolder
from ..record.words import confidence, printable

SUCCESSES = 6
FAILURES = 2
PREVIEW = 96
_LOSSLESS_BELOW = 64


@dataclass(frozen=True)
class Picture:
    """One image file and what it shows."""

    file: str
    """Relative to the entry's page."""
    alt: str
    label: str
    """Under the picture: "original", "adversarial", "difference ×10"."""


@dataclass(frozen=True)
class Exhibit:
    """One task: its pictures and the sentence under them."""

    pictures: tuple[Picture, ...]
    caption: str
    fooled: bool


@dataclass(frozen=True)
class Wall:
    """All exhibits of one attack."""

    attack: str
    title: str
    shown: str
    """Which were drawn from how many."""
    exhibits: tuple[Exhibit, ...]
    preview: bool


def encode(image: np.ndarray) -> tuple[bytes, str]:
    """`(c, h, w)` uint8 with 1 or 3 channels -> the file's bytes and its suffix. Same image, same bytes."""
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    picture, out = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    if max(image.shape[1:]) < _LOSSLESS_BELOW:
        picture.save(out, "PNG", optimize=True)
        return out.getvalue(), "png"
    picture.thumbnail((PREVIEW, PREVIEW), Image.Resampling.LANCZOS)
    picture.convert("RGB").save(out, "WEBP", quality=82, method=4)
    return out.getvalue(), "webp"


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Ten times the change around middle gray, uint8: gray is unchanged, lighter is brighter, clipped at the ends."""
    change = after.astype(np.int32) - before.astype(np.int32)
    return np.clip(128 + 10 * change, 0, 255).astype(np.uint8)


def sample(attack: AttackResult, name: str, digest: str) -> list[int]:
    """Positions of the tasks shown: up to 6 successes, then up to 2 failures, drawn without replacement from a stream
    that derives from the submission's digest and the attack's name alone."""
    seed = int.from_bytes(sha256(f"gallery:{digest}:{name}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for fooled, most in ((True, SUCCESSES), (False, FAILURES)):
        positions = [i for i, row in enumerate(attack.tasks) if row.fooled is fooled and (row.counts or fooled)]
        drawn = rng.permutation(len(positions))[:most]
        chosen += sorted(positions[i] for i in drawn)
    return chosen


def _class(names: list[str], label: int | None) -> str:
    if label is None:
        return "rejected"
    return f"“{printable(names[label], 40)}”" if 0 <= label < len(names) else f"class {label}"


def caption(attack: AttackResult, title: str, row: TaskRow, classes: list[str]) -> str:
    """What happened under the attack of this title, in one line, such as "“3” → “8”, 99.3 %, FGSM, ε = 0.2"."""
    own = printable(attack.title, 60)
    setting = title if attack.task != "perturb" or own == "1 pixel" else f"{title}, {own}"
    sure = f", {confidence(row.confidence)}" if row.confidence is not None else ""
    if row.refused:
        return f"refused by the judge: {printable(row.refused)}; {setting}"
    if attack.task == "fool":
        if row.fooled:
            return f"no natural image → {_class(classes, row.target)}{sure}, {setting}"
        said = "rejected" if row.label is None else f"the victim said {_class(classes, row.label)}"
        return f"aimed at {_class(classes, row.target)}{sure} for it, {said}, {setting}"
    if row.fooled:
        return f"{_class(classes, row.truth)} → {_class(classes, row.label)}{sure}, {setting}"
    if row.label is None:
        return f"{_class(classes, row.truth)} → rejected, not fooled, {setting}"
    return f"{_class(classes, row.truth)} → still {_class(classes, row.label)}{sure}, {setting}"


def walls(run: RunFolder, battery: BatteryRef) -> tuple[list[Wall], dict[str, bytes]]:
    """The gallery of one entry and its files by relative path, with the battery's titles: ranked attacks first, then
    others, then controls. An attack without evidence has no wall.

    Raises ValueError where evidence and record do not have the same number of tasks.
    """
    made: list[Wall] = []
    files: dict[str, bytes] = {}
    originals, found = run.images("originals"), {**run.record.attacks, **run.record.controls}
    for name in (*battery.counted, *battery.unranked, *battery.controls):
        attack, finals = found.get(name), run.images(name)
        if attack is None or finals is None:
            continue
        if len(finals) != len(attack.tasks):
            raise Unexpected(
                f"{len(attack.tasks)} images of {name}, one a task", len(finals), "run again", file=run.path
            )
        title = printable(battery.attacks[name].title, 60)
        exhibits = tuple(
            _exhibit(files, name, title, attack, i, finals[i], originals, battery.classes)
            for i in sample(attack, name, run.record.digest)
        )
        if exhibits:
            hits = sum(e.fooled for e in exhibits)
            of = sum(row.fooled is True for row in attack.tasks)
            kept = sum(row.fooled is False and row.counts for row in attack.tasks)
            shown = f"{hits} of {of:,} successes and {len(exhibits) - hits} of {kept:,} failures"
            preview = max(finals.shape[2:]) >= _LOSSLESS_BELOW
            made.append(Wall(name, title, shown, exhibits, preview))
    return made, files


def _exhibit(
    files: dict[str, bytes],
    name: str,
    title: str,
    attack: AttackResult,
    position: int,
    final: np.ndarray,
    originals: np.ndarray | None,
    classes: list[str],
) -> Exhibit:
    row = attack.tasks[position]
    told = caption(attack, title, row, classes)
    shown: list[tuple[str, np.ndarray, str, str]] = []
    if attack.task == "perturb" and originals is not None and row.image is not None and row.image < len(originals):
        before = originals[row.image]
        shown.append((f"original-{row.image}", before, "original", f"Original image, {_class(classes, row.truth)}"))
        shown.append((f"{name}-{position}", final, "adversarial", f"Adversarial image: {told}"))
        ten = f"Ten times the change: {told}"
        shown.append((f"{name}-{position}-x10", difference(before, final), "difference × 10", ten))
    else:
        shown.append((f"{name}-{position}", final, "found image", f"Found image: {told}"))
    pictures = []
    for stem, image, label, alt in shown:
        data, suffix = encode(image)
        files[f"gallery/{stem}.{suffix}"] = data
        pictures.append(Picture(f"gallery/{stem}.{suffix}", alt, label))
    return Exhibit(tuple(pictures), told, row.fooled is True)
