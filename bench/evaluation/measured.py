"""One victim, the submission's or its bare model, measured with everything that a battery has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...attacks.deepception import DeepceptionSpec
from ...attacks.entry import Entry
from ...leaderboard.record.record import AttackResult, BareResult, Seen
from ...leaderboard.record.rows import RankedRow
from ...models.base import Classifier
from ..asking.clean import CleanAnswers
from ..battery.ground import Ground
from ..battery.panel import Sources
from ..battery.rows import passes
from ..honesty import properties
from ..honesty.another import AskedAnew, judged_by_another
from ..honesty.final_images import false_on_final_images
from ..honesty.statements import false_statements
from ..machine.memory import sparing
from ..running.prepared import Prepared, prepare
from ..running.progress import Progress, planned
from ..running.run import NEEDLESS, EntryFailure, Results, run_entries
from ..running.surrogate import borrows_fooling
from ..scores.attack_results import Mode, attack_results, grouped
from ..scores.flags import flags_of
from ..scores.rows import Lost, lost_of
from ..scores.scores import Control, Row, Scoring
from ..victim.assemble import Assembled


@dataclass(frozen=True)
class MeasuredVictim:
    """Everything about one victim (the submission's, or its bare model)."""

    prepared: Prepared
    assembled: Assembled
    results: Results
    record: BareResult
    """Its flags without those that need transfer."""
    scoring: Scoring
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

    def measure(self, phase: str, assembled: Assembled, anew: AskedAnew) -> MeasuredVictim:
        """Attack it with every entry, question it, and score what comes out. `phase` names it on the screen; `anew`
        builds the same victim once more and asks it."""
        ground, plan, spec, titles = self.ground, self.plan, self.ground.spec, self.ground.battery.titles
        whole = sparing(assembled.victim, ground.memory)
        prepared = prepare(whole, ground, self.sources, assembled.digest)
        clean, without = prepared.clean, prepared.victim.no_gradient
        mode = Mode(prepared.victim.logits is not None, without, _stand_ins(self.sources, plan))
        searched = self._attacked(phase, assembled.digest, prepared, mode)
        self.progress.say("a victim built anew is asked again, and judges")
        another = judged_by_another(prepared, self.plan, searched, anew, assembled.digest)
        results = another.results
        groups = attack_results(plan, results, clean, mode)
        measured = self._properties(prepared, groups)
        attacks = {name: groups[name] for name, _ in spec.attacks.chosen()}
        scoring = self._scoring(results, clean, mode)
        own = scoring.scores()
        seen = replace(
            self._seen(assembled, whole, clean, results),
            fresh=another.fresh,
            known=another.known,
            recognition=another.recognition,
            informative=another.informative,
        )
        flags = flags_of(attacks, own, seen, titles)
        controls = {name: group for name, group in groups.items() if name not in attacks}
        rows = scoring.results()
        part = BareResult(
            scores=own, tau=clean.tau, rows=rows, attacks=attacks, controls=controls, seen=seen, flags=flags
        )
        return MeasuredVictim(prepared, assembled, results, part, scoring, measured)

    def _scoring(self, results: Results, clean: CleanAnswers, mode: Mode) -> Scoring:
        """The battery's ranked rows, and their controls over the same kind of tasks."""
        spec, titles, groups = self.ground.spec, self.ground.battery.titles, grouped(self.plan)

        def lost(row: RankedRow) -> Lost | str:
            return lost_of(row, groups, results, clean, self.ground.levels, gradient=mode.gradient)

        rows = []
        for ranked in spec.ranking:
            control = None
            if ranked.control is not None:
                name = ranked.control
                alone = ranked.model_copy(update={"entries": [name]})
                control = Control(titles[name], lost(alone), passes(groups[name][0]))
            fool = groups[ranked.entries[0]][0].task == "fool"
            rows.append(Row(ranked, fool, lost(ranked), control))
        return Scoring(rows, clean, spec.judge.bootstrap, spec.name)

    def _attacked(self, phase: str, digest: str, prepared: Prepared, mode: Mode) -> Results:
        """What every entry of the plan came to against the victim of this digest."""
        images, titles = len(self.ground.data.labels), self.ground.battery.titles
        needless = {e.name: why for e in self.plan if (why := prepared.needless(e)) is not None}
        due = [e for e in self.plan if e.name not in needless]
        runnable = [e for e in due if e.box == "black" or mode.gradient or mode.granted(e)]
        granted = [replace(e, budget=mode.granted(e)) for e in runnable]
        self.progress.begin(phase, [planned(e, images, titles[e.group]) for e in granted])
        results = run_entries(
            prepared,
            runnable,
            folder=self.folder / "shards",
            # The victim, not what the whole submission says, so that every defense of a model has the same bare model.
            determined_by={**self.manifest, "submission": None, "victim": digest},
            workers=self.workers,
            progress=self.progress,
            elsewhere=self.beside,
        )
        self.progress.end()
        nothing = f"{mode.reason}; nothing stands in: no panel model with gradients, nor finite differences here"
        others = {name: EntryFailure(NEEDLESS, f"not run: {why}") for name, why in needless.items()}
        others |= {e.name: EntryFailure("FB502", nothing) for e in due if e.name not in results}
        return {e.name: others.get(e.name) or results[e.name] for e in self.plan}

    def _properties(self, prepared: Prepared, groups: dict[str, AttackResult]) -> properties.Properties | None:
        """The four properties, which the result of the attack by patches gets too; None where that did not run, since
        what keeps it from running, such as no donors, keeps them from being measured."""
        name = self.ground.spec.attacks.name_of(DeepceptionSpec)
        if name is None or not groups[name].tasks:
            return None
        measured = properties.measure(self.ground, prepared.victim, prepared.clean)
        groups[name] = groups[name].model_copy(update={"properties": properties.as_json(measured)})
        return measured

    def _seen(self, assembled: Assembled, whole: Classifier, clean: CleanAnswers, results: Results) -> Seen:
        """What was seen of the victim beside the attacks."""
        ground, certificate = self.ground, assembled.certificate
        bare = None if assembled.bare is None else assembled.bare.victim
        # A victim that was refused its gradients when it was loaded has no share of its own.
        vanishing = certificate.zero_gradient_share if clean.zero_gradient_share is None else clean.zero_gradient_share
        return Seen(
            classes=ground.battery.classes,
            tau=clean.tau,
            confidence=float(clean.reading.confidence[clean.right].cpu().median()) if clean.tau is not None else None,
            randomised=clean.randomised,
            difference=clean.difference,
            zero_gradient_share=None if certificate.mismatch else vanishing,
            mismatch=certificate.reason if certificate.mismatch else None,
            false_statements=(
                *false_statements(whole, clean, ground, certified=bare is None, model=bare),
                *false_on_final_images(whole, clean, ground, results),
            ),
            surrogates=whole.surrogates,
            declares=tuple(what for what in ("randomised", "rejects") if getattr(whole, what)),
        )


def _stand_ins(sources: Sources | None, plan: tuple[Entry, ...]) -> int:
    """How many panel models have images of every white-box entry that they are attacked with."""
    white = [e for e in plan if e.box == "white" and not borrows_fooling(e)]
    counts = [len(sources.of_entry(e.name)) for e in white] if sources is not None else []
    return min(counts, default=0)
