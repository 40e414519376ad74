"""A probe's folder: `probe.json` and its pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import torch

from ...attacks.responses.repeated_instance import removed
from ...leaderboard.record.store import PROBE, PROBE_RECORD, RunFolder
from ...leaderboard.site.figures import MappedImage, added_chart, maps_figure, removal_figure, removed_chart
from ...leaderboard.site.maps import Frame, Map, scales
from ...models.levels import from_bytes
from ..errors import InvalidInput, Problem, Where
from ..machine.folder import atomically
from .probe import Probe, Removal
from .record import ProbeRecord, record_of

MOTIFS = 6
"""Images of an attack whose removals are drawn, at most: the first ones with a motif."""
_NAME = re.compile(r"[a-z0-9_-]+\.png")


def default_folder(probe: Probe, run: Path | None = None) -> Path:
    """`probe` in the folder of the submission's own run, whose page shows it; else `runs/probe-<name>-<digest>`."""
    if run is not None and RunFolder(run).record.digest == probe.subject.digest:
        return run / PROBE
    slug = re.sub(r"[^a-z0-9]+", "-", probe.subject.name.lower()).strip("-")[:48] or "submission"
    return Path("runs") / f"probe-{slug}-{probe.subject.digest[:8]}"


def check_folder(folder: Path) -> list[str]:
    """Names of the pictures that an earlier probe left there.

    Raises InvalidInput for a folder that holds anything else.
    """
    if not folder.exists():
        return []
    try:
        files = json.loads((folder / PROBE_RECORD).read_bytes())["files"]
        old = [name for name in files if isinstance(name, str) and _NAME.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        old = []
        if not folder.is_dir() or any(folder.iterdir()):
            expected = f"{folder} to be empty, or to hold a probe"
            fix = "choose another folder with --out"
            raise InvalidInput(Problem("FB406", expected, "something else in it", fix, Where(key="--out"))) from None
    return old


def write_probe(probe: Probe, folder: Path) -> ProbeRecord:
    """Write the record and all pictures; pictures of an earlier probe in the folder go. Equal probes, equal bytes.

    Raises InvalidInput as `check_folder` does, EnvironmentFault where it cannot be written.
    """
    old = check_folder(folder)
    files = {**_maps(probe), **_curves(probe)}
    for removal in probe.removals:
        files |= _motifs(removal, probe)
    for name, data in files.items():
        atomically(folder / name, data)
    record = record_of(probe, list(files))
    text = record.model_dump_json(by_alias=True, indent=1)
    atomically(folder / PROBE_RECORD, (text + "\n").encode())
    for name in set(old) - set(files):
        (folder / name).unlink(missing_ok=True)
    return record


def _maps(probe: Probe) -> dict[str, bytes]:
    p, settings = probe.properties, probe.settings
    _, height, width = probe.ground.spec.shape
    frame = Frame(height, width, settings.side, settings.stride)
    scale = scales([p.local_map, p.spatial_map], [p.activation_map])
    names = probe.ground.spec.class_names
    files = {}
    for i, row in enumerate(probe.rows.tolist()):
        label, truth = int(probe.label[i]), int(probe.ground.data.labels[row])
        verdict = f"the victim says {names[label]!r} with p = {_plain(probe.confidence[i])}"
        if label != truth:
            verdict += f" (it is {names[truth]!r})"
        if not probe.accepted[i]:
            verdict += ", and rejects it"
        notes = (
            f"p = p({names[label]!r}) in all maps",
            f"p {_plain(p.local_map[i].min())} to {_plain(p.local_map[i].max())}",
            f"p {_plain(p.spatial_map[i].min())} to {_plain(p.spatial_map[i].max())}",
            _of_changes(p.activation_map[i], p.threshold[i]),
        )
        mapped = MappedImage(
            probe.ground.data.images[row],
            probe.ground.data.images[other] if (other := int(probe.other[i])) >= 0 else probe.ground.data.donors[0],
            p.local_map[i],
            p.spatial_map[i],
            p.activation_map[i],
            float(p.threshold[i]),
        )
        files[f"maps-{row:05d}.png"] = maps_figure(mapped, frame, scale, f"Image {row}: {verdict}", notes)
    return files


def _of_changes(changes: Map, threshold: np.floating) -> str:
    if np.isnan(threshold):
        return "struck: not measured, p at the floor"
    limit = _plain(float(threshold))
    return f"dots: over {limit}; struck: unmeasured" if np.isnan(changes).any() else f"dots: beyond chance, +-{limit}"


def _curves(probe: Probe) -> dict[str, bytes]:
    drawn = {"added.png": added_chart(probe.properties.cumulative, probe.properties.cumulative_random)}
    for removal in probe.removals:
        found = removal.removals
        if found is not None and (found.copies > 0).any():
            rows = found.copies > 0
            control = found.control[rows].mean(1)
            drawn[f"removed-{removal.given.attack}.png"] = removed_chart(found.curve[rows], control)
    return {name: data for name, data in drawn.items() if data is not None}


def _motifs(removal: Removal, probe: Probe) -> dict[str, bytes]:
    given, found, levels = removal.given, removal.removals, probe.ground.levels
    if found is None:
        return {}
    files = {}
    for i in np.flatnonzero(found.copies)[:MOTIFS].tolist():
        k, side = int(found.copies[i]), int(found.side[i])
        corners = found.corners[i, :k]
        whole = from_bytes(torch.tensor(given.images[i]))
        left = levels.to_bytes(removed(whole, torch.tensor(corners)[None], side, levels)[0]).numpy()
        labels = ["p " + _plain(p) for p in found.curve[i, : k + 1]]
        name = probe.ground.spec.class_names[int(given.targets[i])]
        title = f"{given.attack} image {i}, made for {name!r}: {k} copies of a motif of side {side}, removed one by one"
        file = f"motif-{given.attack}-{i:02d}.png"
        files[file] = removal_figure([given.images[i], *left], labels, corners, side, title)
    return files


def _plain(value: float) -> str:
    """A number that Pillow's own font can draw; close to 1 with the digits that tell it from 1."""
    return f"{float(value):.{4 if 0.99 < value < 1 else 3}g}"
