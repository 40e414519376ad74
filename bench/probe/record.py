"""`probe.json`: what a probe found, as data that other programs can read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ...attacks.responses.psychophysics import UNMEASURED
from ...attacks.responses.repeated_instance import Removals
from ..machine.device import describe
from .probe import Probe, Removal

SCHEMA: Literal[1] = 1
Grid = list[list[float]]
"""One value a window position, row by row from the top left."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProbedImage(_Model):
    """One evaluation image; see attacks/responses/psychophysics.py for the numbers."""

    image: int
    """Its position in the battery."""
    index: int
    """Its position in the data set."""
    truth: int
    label: int
    """The victim's largest class: the one whose probability p everything below is about."""
    accepted: bool
    confidence: float
    other: int | None
    """The position of the image that activation was measured on; null for the battery's first donor."""
    numbers: dict[str, float | None]
    """local_ratio, local_range, spatial_range, threshold, activators, inhibitors, correlation, gain, and the last two
    with `_random`; null where not defined."""
    reason: str | None
    """Why threshold, activators and inhibitors are null, where they are."""
    local: Grid
    spatial: Grid
    activation: list[list[float | None]]
    """null where p is at the floor (see settings) with the patch and without it."""
    cumulative: list[float]
    """p with 1, 2, ... copies at the best positions, as many as fitted."""
    cumulative_random: list[float]


class RemovedImage(_Model):
    """One fooling image; see attacks/responses/repeated_instance.py."""

    target: int
    copies: int
    """Instances found, the motif itself included; 0 where nothing repeats."""
    chance: int
    """Instances found with the image's pixels in random order."""
    side: int
    corners: list[tuple[int, int]]
    """Row and column of each, in the order of removal; the motif itself is the last."""
    similarity: list[float]
    explained: float
    confidence: list[float]
    """Of the whole image, then after each removal."""
    control: list[list[float]]
    """The same with random windows, one list a draw."""


class RepeatedInstances(_Model):
    """The repeated-instance test on one attack's images."""

    attack: str
    source: str
    """Where the images come from."""
    reason: str | None
    """Why there are no images, where there are none."""
    settings: dict[str, Any]
    summary: dict[str, Any] | None
    images: list[RemovedImage]


class ProbeRecord(_Model):
    """A whole probe."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    digest: str
    """Of the submission."""
    battery: str
    battery_digest: str
    data_digest: str
    device: str
    backend: str
    batch: int | None
    """Images asked about at once, at most, where that was fewer than the battery's batch."""
    settings: dict[str, Any]
    """Of the four properties."""
    images: list[ProbedImage]
    summary: dict[str, Any]
    """Over the images: medians, quartiles and counts."""
    repeated_instances: list[RepeatedInstances]
    files: list[str]
    """The pictures beside this file."""


_NUMBERS = ("local_ratio", "local_range", "spatial_range", "threshold", "activators", "inhibitors")
_NUMBERS += ("correlation", "correlation_random", "gain", "gain_random")


def record_of(probe: Probe, files: list[str]) -> ProbeRecord:
    """The record of a probe whose pictures have these names."""
    return ProbeRecord(
        schema=SCHEMA,
        name=probe.subject.name,
        digest=probe.subject.digest,
        battery=probe.ground.spec.name,
        battery_digest=probe.ground.battery.digest,
        data_digest=probe.ground.data.digest,
        device=describe(probe.ground.device),
        backend=probe.backend,
        batch=probe.batch,
        settings=asdict(probe.settings),
        images=[_image(probe, i) for i in range(len(probe.rows))],
        summary=probe.properties.summary(),
        repeated_instances=[_repeated(r) for r in probe.removals],
        files=files,
    )


def _image(probe: Probe, i: int) -> ProbedImage:
    p, row = probe.properties, int(probe.rows[i])
    return ProbedImage(
        image=row,
        index=int(probe.ground.data.indices[row]),
        truth=int(probe.ground.data.labels[row]),
        label=int(probe.label[i]),
        accepted=bool(probe.accepted[i]),
        confidence=float(probe.confidence[i]),
        other=other if (other := int(probe.other[i])) >= 0 else None,
        numbers={name: None if np.isnan(x := float(getattr(p, name)[i])) else x for name in _NUMBERS},
        reason=UNMEASURED if np.isnan(p.activators[i]) else None,
        local=p.local_map[i].tolist(),
        spatial=p.spatial_map[i].tolist(),
        activation=[[None if np.isnan(a) else a for a in row] for row in p.activation_map[i].tolist()],
        cumulative=_there(p.cumulative[i]),
        cumulative_random=_there(p.cumulative_random[i]),
    )


def _repeated(removal: Removal) -> RepeatedInstances:
    given, found = removal.given, removal.removals
    return RepeatedInstances(
        attack=given.attack,
        source=given.source,
        reason=given.reason,
        settings=asdict(removal.test),
        summary=None if found is None else found.summary(),
        images=[] if found is None else [_removed(found, i, int(t)) for i, t in enumerate(given.targets)],
    )


def _removed(found: Removals, i: int, target: int) -> RemovedImage:
    k = int(found.copies[i])
    return RemovedImage(
        target=target,
        copies=k,
        chance=int(found.chance[i]),
        side=int(found.side[i]),
        corners=[(int(row), int(column)) for row, column in found.corners[i, :k]],
        similarity=_there(found.similarity[i]),
        explained=float(found.explained[i]),
        confidence=_there(found.curve[i]),
        control=[_there(draw) for draw in found.control[i]] if k else [],
    )


def _there(values: np.ndarray) -> list[float]:
    return values[~np.isnan(values)].tolist()
