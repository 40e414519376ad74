"""The pipeline, top to bottom: a subject and a battery in; a record, its evidence and its finished shards out."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from ...attacks.spec import Attack
from ...leaderboard.record.battery import AttackRef, BatteryRef, RankedRow
from ...leaderboard.record.record import Provenance, Record
from ...leaderboard.record.store import RECORD, dump_record
from ...leaderboard.record.unranked import unranked_reason
from ..battery.battery import Battery
from ..battery.entries import entries
from ..battery.panel import find
from ..data.data import Data
from ..machine.device import choose, default_workers, describe, host, repeatable
from ..machine.folder import atomically, claimed
from ..machine.memory import Memory, lack_told, sparing
from ..machine.provenance import commit, versions
from ..machine.seeds import seed
from ..machine.source import source_digest
from ..running.progress import Progress, Silent
from ..running.shards import cut, shards_beside
from ..scores import scores
from ..scores.flags import flags_of
from ..scores.transfer import transfer
from ..victim.assemble import Assembled, Subject, panel_classifier
from .attack_panel import attack_panel
from .door import Execution, check_out
from .evidence import write_evidence, write_originals
from .finished import Run
from .measured import Measured, Measuring
from .report import text


def evaluate_subject(
    subject: Subject,
    battery: Battery,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run a subject through a battery; see `foolbench.bench.evaluate` for the public form.

    `out` is the run's folder; finished shards found in it are used. In the default, `runs/<name>-<digest>`, so are
    those of the runs beside it: the same model behind another defense has the same bare model.
    """
    check_out(out)
    max_batch = execution.max_batch
    memory = Memory(max_batch)
    started, clock = datetime.now(UTC), time.perf_counter()
    progress, target = progress or Silent(), choose(execution.device)
    plan = entries(battery)
    with ExitStack() as stack:
        workers = execution.workers or default_workers(target)
        stack.enter_context(repeatable(target))
        stack.enter_context(lack_told())
        data = battery.load()
        whole = subject.assemble(battery, data, target, execution.backend, memory)
        manifest = _manifest(subject, battery, data, whole, target, max_batch)
        folder = out or default_folder(subject, manifest)
        stack.enter_context(claimed(folder, manifest))
        progress.say(_plan(subject, battery, target, workers, folder))
        beside = {} if out is not None else shards_beside(folder)
        where = folder / "shards"
        sources = find(battery, data, lambda: attack_panel(battery, data, target, workers, progress, where, memory))

        measuring = Measuring(battery, data, sources, plan, folder, beside, manifest, workers, progress, memory)
        full = measuring.measure("attacks", whole)
        bare = measuring.measure("attacks without the defenses", whole.bare) if whole.bare is not None else None
        cells = None
        if sources is not None:
            progress.say("transfer: the panel's images on the submission, its images on the panel")
            ranked = [e for e in plan if not e.control]
            victim = full.arena.victim
            cells = transfer(
                ranked,
                full.results,
                full.arena.clean,
                victim,
                sources,
                lambda name: sparing(panel_classifier(battery, name, data, target, memory), memory),
                battery.spec.batch,
            )
        record = _record(subject, battery, full, bare, cells, workers, target, started, clock, memory)
        write_evidence(folder / "evidence", plan, full.results)
        write_originals(folder / "evidence", data, full.properties, full.arena.clean)
        if bare is not None:
            write_evidence(folder / "evidence" / "bare", plan, bare.results)
        atomically(folder / RECORD, dump_record(record))
        atomically(folder / "report.txt", text(record, folder).encode())
    return Run(record, folder)


def _plan(subject: Subject, battery: Battery, device: torch.device, workers: int, folder: Path) -> str:
    tier = "" if battery.tier == "standard" else f" ({battery.tier} tier)"
    by = f"{workers} worker{'s' if workers > 1 else ''}"
    return f"{subject.name} on {battery.spec.name}{tier}, {describe(device)}, {by}, into {folder}"


def _manifest(
    subject: Subject, battery: Battery, data: Data, whole: Assembled, device: torch.device, max_batch: int | None
) -> dict[str, Any]:
    """Everything that determines a record, times and dates apart."""
    return {
        "submission": subject.digest,
        "battery": battery.digest,
        "tier": battery.tier,
        "data": data.digest,
        "training": data.training_digest(),
        "device": describe(device),
        "backend": whole.backend,
        "max_batch": max_batch,
        "source": source_digest("shards"),
        "versions": versions(),
    }


def default_folder(subject: Subject, manifest: Mapping[str, Any]) -> Path:
    """`runs/<name>-<digest>`."""
    slug = re.sub(r"[^a-z0-9]+", "-", subject.name.lower()).strip("-")[:48] or "submission"
    return Path("runs") / f"{slug}-{seed('run', *(f'{k}={manifest[k]}' for k in sorted(manifest))):016x}"[:-8]


def _record(
    subject: Subject,
    battery: Battery,
    full: Measured,
    bare: Measured | None,
    cells: list | None,
    workers: int,
    device: torch.device,
    started: datetime,
    clock: float,
    memory: Memory,
) -> Record:
    mine, spec = full.record, battery.spec
    difference = None
    if bare is not None:
        difference = scores.difference_of(
            mine.attacks,
            full.arena.clean,
            bare.record.attacks,
            bare.arena.clean,
            spec.ranking,
            spec.judge.bootstrap,
            spec.name,
        )
    revision, dirty = commit()
    described = BatteryRef(
        name=spec.name,
        tier=battery.tier,
        digest=_board_digest(battery, full.arena.data),
        shape=spec.shape,
        classes=list(spec.class_names),
        shipped=battery.shipped,
        attacks={name: _described(attack, battery.packages.get(name)) for name, attack in battery.attacks.items()},
        ranked=[RankedRow(name=name, title=battery.titles[name], entries=[name]) for name in spec.ranking],
    )
    reason = unranked_reason(described, mine.attacks, mine.scores, full.arena.data.no_training)
    return Record(
        schema=1,
        battery=described,
        submission=subject.as_given,
        digest=subject.digest,
        scores=mine.scores,
        tau=mine.tau,
        attacks=mine.attacks,
        controls=mine.controls,
        bare=None if bare is None else bare.record,
        difference=difference,
        transfer=cells,
        transfer_reason="the battery has no panel" if cells is None else None,
        seen=mine.seen,
        flags=flags_of(mine.attacks, mine.scores, mine.seen, battery.titles, cells),
        certificate={**full.assembled.certificate.as_json()},
        rankable=reason is None,
        unranked_reason=reason,
        provenance=Provenance(
            versions=versions(),
            device=describe(device),
            backend=full.assembled.backend,
            commit=revision,
            dirty=dirty,
            source_digest=source_digest("record"),
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - clock, 3),
            workers=workers,
            batch=memory.below(spec.batch),
            host=host(),
            seeds={"rule": "sha256(battery, entry, shard, purpose), first 63 bits", "attack": _seeds(battery)},
        ),
    )


def _described(attack: Attack[Any], package: str | None) -> AttackRef:
    return AttackRef(
        title=attack.title, sentence=attack.sentence, task=attack.task, control=attack.control, package=package
    )


def _board_digest(battery: Battery, data: Data) -> str:
    """Two data sets under one YAML are two boards; a battery that states its data's digest names them already."""
    if battery.shipped or battery.spec.digest is not None:
        return battery.digest
    return sha256(f"{battery.digest}{data.digest}".encode()).hexdigest()


def _seeds(battery: Battery) -> dict[str, Any]:
    name = battery.spec.name
    return {e.name: [seed(name, e.name, shard.index, "attack") for shard in cut(e)] for e in entries(battery)}
