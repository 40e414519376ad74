"""The pipeline, top to bottom: a subject and a battery in; a record, its evidence and its finished shards out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...leaderboard.record.record import Record, TransferCell
from ...leaderboard.record.store import RECORD, dump_record
from ..battery.battery import Battery
from ..battery.entries import entries
from ..battery.ground import Execution, Ground
from ..battery.panel import Sources, find
from ..honesty.anew import asked_anew, bare_anew
from ..machine.device import describe
from ..machine.folder import atomically, claimed
from ..machine.memory import sparing
from ..machine.provenance import versions
from ..machine.seeds import seed
from ..machine.source import source_digest
from ..running.progress import Progress, Silent
from ..running.shards import shards_beside
from ..scores.transfer import transfer
from ..victim.assemble import Assembled, Subject, panel_classifier
from .attack_panel import attack_panel
from .door import check_out
from .evidence import write_evidence, write_originals
from .finished import Run
from .measured import MeasuredVictim, Measuring
from .record import Started, record_of
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
    started, progress = Started(), progress or Silent()
    with execution.on(battery) as ground:
        workers = execution.workers_on(ground.device)
        whole = subject.assemble(ground)
        manifest = _manifest(subject, ground, whole, execution.max_batch)
        folder = out or default_folder(subject, manifest)
        with claimed(folder, manifest):
            progress.say(_plan(subject, ground, workers, folder))
            beside = {} if out is not None else shards_beside(folder)
            sources = find(battery, ground.data, lambda: attack_panel(ground, workers, progress, folder / "shards"))
            measuring = Measuring(ground, sources, entries(battery), folder, beside, manifest, workers, progress)
            full = measuring.measure("attacks", whole, partial(asked_anew, subject, ground))
            bare = None
            if whole.bare is not None:
                bare = measuring.measure(
                    "attacks without the defenses", whole.bare, partial(bare_anew, subject, ground)
                )
            cells = None if sources is None else _transferred(full, sources, progress)
            record = record_of(subject, full, bare, cells, workers, started)
            _write(folder, record, full, bare)
    return Run(record, folder)


def _plan(subject: Subject, ground: Ground, workers: int, folder: Path) -> str:
    tier = "" if ground.battery.tier == "standard" else f" ({ground.battery.tier} tier)"
    by = f"{workers} worker{'s' if workers > 1 else ''}"
    return f"{subject.name} on {ground.spec.name}{tier}, {describe(ground.device)}, {by}, into {folder}"


def _manifest(subject: Subject, ground: Ground, whole: Assembled, max_batch: int | None) -> dict[str, Any]:
    """Everything that determines a record, times and dates apart."""
    return {
        "submission": subject.digest,
        "battery": ground.battery.digest,
        "tier": ground.battery.tier,
        "data": ground.data.digest,
        "training": ground.data.training_digest(),
        "device": describe(ground.device),
        "backend": whole.backend,
        "max_batch": max_batch,
        "source": source_digest("shards"),
        "versions": versions(),
    }


def default_folder(subject: Subject, manifest: Mapping[str, Any]) -> Path:
    """`runs/<name>-<digest>`."""
    slug = re.sub(r"[^a-z0-9]+", "-", subject.name.lower()).strip("-")[:48] or "submission"
    return Path("runs") / f"{slug}-{seed('run', *(f'{k}={manifest[k]}' for k in sorted(manifest))):016x}"[:-8]


def _transferred(full: MeasuredVictim, sources: Sources, progress: Progress) -> list[TransferCell]:
    """Each attack's images of one model, tried on the other."""
    progress.say("transfer: the panel's images on the submission, its images on the panel")
    ground = full.prepared.ground
    return transfer(
        [entry for entry in entries(ground.battery) if not entry.control],
        full.results,
        full.prepared.clean,
        full.prepared.victim,
        sources,
        lambda name: sparing(panel_classifier(ground, name), ground.memory),
        ground.asking,
    )


def _write(folder: Path, record: Record, full: MeasuredVictim, bare: MeasuredVictim | None) -> None:
    """The evidence first: a record in a folder says that all of it is there."""
    ground = full.prepared.ground
    write_evidence(folder / "evidence", entries(ground.battery), full.results)
    write_originals(folder / "evidence", ground.data, full.properties, full.prepared.clean)
    if bare is not None:
        write_evidence(folder / "evidence" / "bare", entries(ground.battery), bare.results)
    atomically(folder / RECORD, dump_record(record))
    atomically(folder / "report.txt", text(record, folder).encode())
