"""The images behind a record, and what they were claimed to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...attacks.entry import Entry
from ...attacks.responses.psychophysics import Properties, others
from ..asking.clean import CleanAnswers
from ..data.data import Data
from ..machine.folder import arrays
from ..running.run import EntryFailure, Results
from ..running.shards import ShardResult
from ..scores.attack_results import headline


def write_evidence(folder: Path, plan: Sequence[Entry], results: Results) -> None:
    """One npz an entry, and one for a group whose result is the best of several; rows as in the record's tasks."""
    groups: dict[str, list[Entry]] = {}
    for entry in plan:
        groups.setdefault(entry.group, []).append(entry)
    for name, members in groups.items():
        _write(folder / f"{name}.npz", members[0], headline(members, results))
    for entry in plan:
        if entry.name not in groups:
            _write(folder / f"{entry.name}.npz", entry, results[entry.name])


def _write(path: Path, entry: Entry, outcome: ShardResult | EntryFailure) -> None:
    if isinstance(outcome, EntryFailure):
        return
    rows = np.arange(len(outcome.fooled))
    none = np.full(len(rows), -1)
    claims = {"run": none, "target": none, "image": rows}
    if entry.task == "fool":
        k = len(entry.targets)
        claims = {"run": rows // k, "target": np.array(entry.targets)[rows % k], "image": none}
    arrays(
        path,
        images=outcome.images,
        attacked=outcome.attacked,
        fooled=outcome.fooled,
        label=outcome.label,
        confidence=outcome.confidence,
        **claims,
    )


def write_originals(folder: Path, data: Data, properties: Properties | None, clean: CleanAnswers) -> None:
    """The evaluation images, and the maps of the measured properties."""
    arrays(folder / "originals.npz", images=data.images, label=data.labels, index=data.indices)
    if properties is not None:
        rows = clean.right.nonzero().flatten()[: len(properties.gain)]
        image, place = rows.cpu().numpy(), others(clean.reading.label[rows]).cpu().numpy()
        arrays(
            folder / "properties.npz",
            image=image,
            other=np.where(place < 0, -1, image[place]),
            local=properties.local_map,
            spatial=properties.spatial_map,
            activation=properties.activation_map,
            cumulative=properties.cumulative,
            cumulative_random=properties.cumulative_random,
        )
