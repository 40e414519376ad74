"""What was measured, as a Record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from ...attacks.spec import Attack
from ...leaderboard.record.battery import AttackRef, BatteryRef
from ...leaderboard.record.record import Provenance, Record, TransferCell
from ...leaderboard.record.unranked import unranked_reason
from ..battery.battery import Battery
from ..battery.entries import entries
from ..battery.ground import Ground
from ..machine.device import describe, host
from ..machine.provenance import commit, versions
from ..machine.seeds import seed
from ..machine.source import source_digest
from ..running.shards import cut
from ..scores.flags import flags_of
from ..scores.scores import difference_of
from ..victim.assemble import Subject
from .measured import MeasuredVictim


@dataclass(frozen=True)
class Started:
    """When a run began."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)


def record_of(
    subject: Subject,
    full: MeasuredVictim,
    bare: MeasuredVictim | None,
    cells: list[TransferCell] | None,
    workers: int,
    started: Started,
) -> Record:
    """The record of a subject.

    Args:
        subject: what was evaluated.
        full: what was measured of it.
        bare: the same of its model without the defenses; None where it has none.
        cells: transfer from and to the panel; None where the battery has no panel.
        workers: shards that were worked on side by side.
        started: when the run began.
    """
    ground, mine = full.prepared.ground, full.record
    battery = _battery(ground)
    flags = flags_of(mine.attacks, mine.scores, mine.seen, ground.battery.titles, cells)
    reason = unranked_reason(battery, mine.rows, mine.attacks, mine.scores, flags, ground.data.no_training)
    return Record(
        schema=1,
        battery=battery,
        submission=subject.as_given,
        digest=subject.digest,
        scores=mine.scores,
        tau=mine.tau,
        rows=mine.rows,
        attacks=mine.attacks,
        controls=mine.controls,
        bare=None if bare is None else bare.record,
        difference=None if bare is None else difference_of(full.scoring, bare.scoring),
        transfer=cells,
        transfer_reason="the battery has no panel" if cells is None else None,
        seen=mine.seen,
        flags=flags,
        certificate={**full.assembled.certificate.as_json()},
        rankable=reason is None,
        unranked_reason=reason,
        provenance=_provenance(ground, full.assembled.backend, workers, started),
    )


def _battery(ground: Ground) -> BatteryRef:
    battery, spec = ground.battery, ground.spec
    return BatteryRef(
        name=spec.name,
        tier=battery.tier,
        digest=_board_digest(ground),
        shape=spec.shape,
        classes=list(spec.class_names),
        shipped=battery.shipped,
        attacks={name: _described(attack, battery.packages.get(name)) for name, attack in battery.attacks.items()},
        ranked=list(spec.ranking),
    )


def _described(attack: Attack[Any], package: str | None) -> AttackRef:
    return AttackRef(
        title=attack.title, sentence=attack.sentence, task=attack.task, control=attack.control, package=package
    )


def _board_digest(ground: Ground) -> str:
    """Two data sets under one YAML are two boards; a battery that states its data's digest names them already."""
    battery = ground.battery
    if battery.shipped or battery.spec.digest is not None:
        return battery.digest
    return sha256(f"{battery.digest}{ground.data.digest}".encode()).hexdigest()


def _provenance(ground: Ground, backend: str, workers: int, started: Started) -> Provenance:
    revision, dirty = commit()
    return Provenance(
        versions=versions(),
        device=describe(ground.device),
        backend=backend,
        commit=revision,
        dirty=dirty,
        source_digest=source_digest("record"),
        started=started.at.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - started.clock, 3),
        workers=workers,
        batch=ground.memory.below(ground.spec.batch),
        host=host(),
        seeds={"rule": "sha256(battery, entry, shard, purpose), first 63 bits", "attack": _seeds(ground.battery)},
    )


def _seeds(battery: Battery) -> dict[str, Any]:
    name = battery.spec.name
    return {e.name: [seed(name, e.name, shard.index, "attack") for shard in cut(e)] for e in entries(battery)}
