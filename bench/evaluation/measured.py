"""One victim, the submission's or its bare model, measured with everything that a battery has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...attacks.deepception import DeepceptionSpec
from ...attacks.entry import Entry
from ...leaderboard.record.record import BareResult, Seen
from ..asking.clean import blinded, examine
from ..battery.ground import Ground
from ..battery.panel import Sources
from ..honesty import properties
from ..honesty.finals import false_at_the_end
from ..honesty.memorised import recognition
from ..honesty.statements import false_statements
from ..machine.memory import sparing
from ..running.arena import Arena
from ..running.progress import Progress, planned
from ..running.run import EntryFailure, run_entries
from ..scores import scores
from ..scores.flags import flags_of
from ..victim.assemble import Assembled


@dataclass(frozen=True)
class Measured:
    """Everything about one victim (the submission's, or its bare model)."""

    arena: Arena
    assembled: Assembled
    results: scores.Results
    record: BareResult
    """Its flags without those that need transfer."""
    properties: properties.Properties | None


@dataclass(frozen=True)
class Measuring:
    """What a run's victims are measured with."""

    ground: Ground
    sources: Sources | None
    plan: tuple[Entry, ...]
    folder: Path
    """The run's; shards lie in it."""
    beside: Mapping[str, Path]
    """Finished shards of other runs, by their files' names."""
    manifest: Mapping[str, Any]
    """Everything that determines the record."""
    workers: int
    progress: Progress

    def measure(self, phase: str, assembled: Assembled) -> Measured:
        """Attack it with every entry, question it, and score what comes out. `phase` names it on the screen."""
        ground, plan, progress, sources = self.ground, self.plan, self.progress, self.sources
        battery, spec = ground.battery, ground.spec
        whole = sparing(assembled.victim, ground.memory)
        clean = examine(whole, ground, assembled.digest)
        victim = blinded(whole, clean)
        mode = scores.Mode(victim.logits is not None, victim.no_gradient, _stand_ins(sources, plan))
        arena = Arena(ground, victim, clean, sources)
        runnable = [e for e in plan if e.box == "black" or mode.gradient or mode.granted(e)]
        images, titles = len(ground.data.labels), battery.titles
        progress.begin(phase, [planned(replace(e, budget=mode.granted(e)), images, titles[e.group]) for e in runnable])
        # The victim, not what the whole submission says, so that every defense of a model has the same bare model.
        determined_by = {**self.manifest, "submission": None, "victim": assembled.digest}
        results: dict[str, Any] = run_entries(
            arena,
            runnable,
            folder=self.folder / "shards",
            determined_by=determined_by,
            workers=self.workers,
            progress=progress,
            elsewhere=self.beside,
        )
        progress.end()
        for entry in plan:
            results.setdefault(
                entry.name,
                EntryFailure(
                    "FB502",
                    f"{mode.reason}; nothing stands in: no panel model with gradients, nor finite differences here",
                ),
            )
        groups = scores.attack_results(plan, results, clean, mode)
        name = spec.attacks.name_of(DeepceptionSpec)
        patches = None if name is None else groups[name]
        # What keeps the attack from running, such as no donors, keeps them from being measured.
        measured = properties.measure(ground, victim, clean) if patches is not None and patches.tasks else None
        if measured is not None and patches is not None and name is not None:
            groups[name] = patches.model_copy(update={"properties": properties.as_json(measured)})
        attacks = {name: groups[name] for name, _ in spec.attacks.chosen()}
        ranked = {name: titles[name] for name in spec.ranking}
        own = scores.scores_of(attacks, ranked, clean, spec.judge.bootstrap, spec.name)
        certificate = assembled.certificate
        bare = None if assembled.bare is None else assembled.bare.victim
        # A victim that was refused its gradients when it was loaded has no share of its own.
        vanishing = certificate.zero_gradient_share if clean.zero_gradient_share is None else clean.zero_gradient_share
        seen = Seen(
            classes=battery.classes,
            tau=clean.tau,
            confidence=float(clean.reading.confidence[clean.right].cpu().median()) if clean.tau is not None else None,
            randomised=clean.randomised,
            difference=clean.difference,
            zero_gradient_share=None if certificate.mismatch else vanishing,
            mismatch=certificate.reason if certificate.mismatch else None,
            false_statements=(
                *false_statements(whole, clean, ground, certified=bare is None, model=bare),
                *false_at_the_end(whole, clean, ground, results),
            ),
            recognition=recognition(whole, ground, plan, self.manifest["submission"]),
        )
        flags = flags_of(attacks, own, seen, titles)
        controls = {name: group for name, group in groups.items() if name not in attacks}
        part = BareResult(scores=own, tau=clean.tau, attacks=attacks, controls=controls, seen=seen, flags=flags)
        return Measured(arena, assembled, results, part, measured)


def _stand_ins(sources: Sources | None, plan: tuple[Entry, ...]) -> int:
    """How many panel models have images of every white-box entry."""
    counts = [len(sources.of_entry(e.name)) for e in plan if e.box == "white"] if sources is not None else []
    return min(counts, default=0)
