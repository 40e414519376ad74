"""Attack a battery's panel: slow, done once for a battery, and the same code that attacks a submission."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..battery.battery import read_battery
from ..battery.entries import entries
from ..battery.ground import Execution, Ground
from ..battery.panel import Member, SourceImages, Sources, wanted
from ..errors import InvalidInput, Problem, Where
from ..machine.folder import atomically
from ..machine.memory import sparing
from ..machine.provenance import versions
from ..machine.source import source_digest
from ..running.prepared import prepare
from ..running.progress import Progress, planned
from ..running.run import run_entries
from ..running.shards import ShardResult
from ..victim.assemble import panel_member


def build(battery: str, out: Path, execution: Execution, progress: Progress) -> str:
    """Write the evidence of a battery's panel to an npz. Returns its sha256; raises InvalidInput without a panel."""
    read = read_battery(battery)
    if read.spec.panel is None:
        got = f"{read.spec.name}, which has none"
        fix, where = "add `panel:` with its models", Where(key="panel")
        raise InvalidInput(Problem("FB105", "a battery with a panel", got, fix, where))
    with execution.on(read) as ground:
        sources = attack_panel(ground, execution.workers_on(ground.device), progress, None)
    content = sources.to_bytes(read, ground.data)
    atomically(out, content)
    return hashlib.sha256(content).hexdigest()


def attack_panel(ground: Ground, workers: int, progress: Progress, folder: Path | None) -> Sources:
    """Run each attack's headline setting, and every white-box one, against each panel model.

    Finished shards are kept in `folder`, where there is one.
    """
    battery, data = ground.battery, ground.data
    members, images = [], {}
    assert battery.spec.panel is not None
    for spec in battery.spec.panel.models:
        loaded = panel_member(ground, spec)
        prepared = prepare(sparing(loaded.classifier, ground.memory), ground)
        victim, clean = prepared.victim, prepared.clean
        plan = [e for e in wanted(entries(battery)) if e.box == "black" or victim.logits is not None]
        progress.begin(f"panel: {spec.title}", [planned(e, len(data.labels), battery.titles[e.group]) for e in plan])
        determined_by = {
            "panel": spec.sha256,
            "battery": battery.digest,
            "data": data.digest,
            "training": data.training_digest(),
            "source": source_digest("shards"),
            "versions": versions(),
        }
        results = run_entries(
            prepared,
            plan,
            folder=folder,
            determined_by=determined_by,
            workers=workers,
            progress=progress,
        )
        progress.end()
        members.append(Member(spec.name, clean.reading.label.cpu().numpy(), clean.tau))
        for name, outcome in results.items():
            if isinstance(outcome, ShardResult):
                images[spec.name, name] = SourceImages(
                    spec.name, outcome.images, outcome.attacked, outcome.fooled, outcome.label, outcome.confidence
                )
    return Sources(tuple(members), images)
