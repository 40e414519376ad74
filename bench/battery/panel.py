"""The panel's own evidence: what the battery's attacks made of its reference models. Attacked once, then kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from platformdirs import user_cache_path

from ...attacks.entry import Entry
from ..data.data import Data
from ..errors import EnvironmentFault, Problem, one_line
from ..machine.folder import atomically
from ..machine.npz import packed
from .battery import Battery
from .entries import entries

ROWS = ("attacked", "fooled", "label", "confidence")
"""What is kept of each task beside its image."""


@dataclass(frozen=True)
class SourceImages:
    """One panel model's final images for one entry, a row a task, as in ShardResult."""

    model: str
    images: np.ndarray
    """`(t, c, h, w)` uint8."""
    attacked: np.ndarray
    fooled: np.ndarray
    label: np.ndarray
    """`(t,)`: what the panel model itself says of the image; -1: rejected."""
    confidence: np.ndarray


@dataclass(frozen=True)
class Member:
    """A panel model on the clean evaluation images."""

    name: str
    label: np.ndarray
    """`(n,)`."""
    tau: float | None
    """None where it gets no clean image right."""


@dataclass(frozen=True)
class Sources:
    """All evidence of a panel."""

    members: tuple[Member, ...]
    images: dict[tuple[str, str], SourceImages]
    """By (model, entry). A white-box entry is there only for models with gradients of their own."""

    def of_entry(self, entry: str) -> list[SourceImages]:
        """The images of every panel model that has some for this entry."""
        return [self.images[m.name, entry] for m in self.members if (m.name, entry) in self.images]

    def to_bytes(self, battery: Battery, data: Data) -> bytes:
        """As an npz. Where an entry changes evaluation images, the difference (uint8, modulo 256) is kept, which
        compresses several times better than the images do."""
        changes = {entry.name for entry in entries(battery) if entry.task == "perturb"}
        arrays: dict[str, np.ndarray] = {"members": np.array([m.name for m in self.members])}
        for m in self.members:
            arrays[f"{m.name}/label"] = m.label.astype(np.int16)
            arrays[f"{m.name}/tau"] = np.array(np.nan if m.tau is None else m.tau)
        for (model, entry), s in self.images.items():
            if entry in changes:
                arrays[f"{model}/{entry}/change"] = s.images - data.images[: len(s.images)]
            else:
                arrays[f"{model}/{entry}/images"] = s.images
            for name in ROWS:
                arrays[f"{model}/{entry}/{name}"] = getattr(s, name)
        return packed(arrays, small=True)


def sources_from_bytes(raw: bytes, evaluation: np.ndarray) -> Sources:
    """Read an npz that `to_bytes` wrote for the same evaluation images, or for more of which these are the first.

    Raises ValueError, KeyError, zipfile.BadZipFile where it is none.
    """
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:

        def source(model: str, entry: str) -> SourceImages:
            at = f"{model}/{entry}"
            rows = [arrays[f"{at}/{name}"] for name in ROWS]
            if f"{at}/change" in arrays:
                # The smoke tier has but the first of the evaluation images, and so the first of what was made of them.
                change = arrays[f"{at}/change"][: len(evaluation)]
                images, rows = change + evaluation[: len(change)], [row[: len(evaluation)] for row in rows]
            else:
                images = arrays[f"{at}/images"]
            attacked, fooled, label, confidence = rows
            return SourceImages(model, images, attacked, fooled, label, confidence)

        names = [str(name) for name in arrays["members"]]
        taus = {n: float(arrays[f"{n}/tau"]) for n in names}
        members = tuple(
            Member(n, arrays[f"{n}/label"].astype(np.int64), None if np.isnan(taus[n]) else taus[n]) for n in names
        )
        keys = sorted({(model, entry) for model, entry, _ in (k.split("/") for k in arrays.files if k.count("/") == 2)})
        return Sources(members, {key: source(*key) for key in keys})


def wanted(plan: Iterable[Entry]) -> list[Entry]:
    """The entries that panel models are attacked with: each attack's headline, and every white-box setting, but none
    that looks at what others came to, and none by labels alone, since panel models give their probabilities."""
    seen: set[str] = set()
    chosen = []
    for entry in plan:
        if entry.box == "white" or entry.group not in seen:
            chosen.append(entry)
        seen.add(entry.group)
    return [
        entry
        for entry in chosen
        if not entry.control and not entry.after and not entry.borrows and entry.access == "scores"
    ]


def find(battery: Battery, data: Data, make: Callable[[], Sources]) -> Sources | None:
    """The panel's evidence: the file that the battery names, else a cached one, else made now and cached.

    None where the battery has no panel. Raises EnvironmentFault where the named file is missing or altered.
    """
    if battery.spec.panel is None:
        return None
    if (raw := named(battery)) is not None:
        return sources_from_bytes(raw, data.images)
    path = user_cache_path("foolbench") / "panels" / f"{battery.spec.name}-{_cache_digest(battery, data)}.npz"
    try:
        return sources_from_bytes(path.read_bytes(), data.images)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        sources = make()
    with contextlib.suppress(EnvironmentFault):  # a cache that cannot be written costs time, not results
        atomically(path, sources.to_bytes(battery, data))
    return sources


def named(battery: Battery) -> bytes | None:
    """The file of evidence that the battery's panel names, if it names one.

    Raises EnvironmentFault where it is missing or altered.
    """
    panel = battery.spec.panel
    if panel is None or panel.evidence is None:
        return None
    path = battery.folder / panel.evidence
    try:
        raw = path.read_bytes()
    except OSError as error:
        own = f"write it with `foolbench panel {battery.source.path.name} --out {panel.evidence}`, without this line"
        fix = "install foolbench again" if battery.shipped else own
        where = battery.where("panel", "evidence")
        raise EnvironmentFault(Problem("FB400", "the panel's evidence", one_line(error), fix, where)) from error
    got = hashlib.sha256(raw).hexdigest()
    if panel.sha256 is not None and got != panel.sha256:
        fix = "restore the file: results against another panel are not comparable"
        where = battery.where("panel", "sha256")
        raise EnvironmentFault(Problem("FB401", f"sha256 {panel.sha256[:16]}…", f"{got[:16]}…", fix, where))
    return raw


def _cache_digest(battery: Battery, data: Data) -> str:
    from ..machine.provenance import versions
    from ..machine.source import source_digest

    what = [battery.digest, data.digest, data.training_digest(), source_digest("shards"), versions()]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
