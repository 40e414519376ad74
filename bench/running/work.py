"""One shard, from its tasks to its judged result. Depends on nothing but its arguments: same device, same bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...attacks.base import BlackBox, Fool, Perturb, WhiteBox
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.expectation import expected
from ..asking.reading import hits_fool, hits_perturb
from ..errors import Unexpected
from ..machine.seeds import generator
from .before import Before, borrowed
from .drive import Hit, Meter, Tick, drive_black_box, within_limit
from .finite_difference import FiniteDifferenceOracle
from .judge import Verdicts, judge_fool, judge_perturb
from .oracle import DrivenOracle, drive_white_box
from .prepared import Prepared
from .sampled import Sample
from .shards import Shard, ShardResult
from .surrogate import Stepped, best_fool, best_perturb, granted

NOTHING = Before()


def work(
    prepared: Prepared, shard: Shard, before: Before = NOTHING, *, stop: Callable[[], bool], tick: Tick
) -> ShardResult:
    """Attack the shard's tasks and judge the final images. `before`: what the entries that it needs came to.

    Raises OverBudget, ModelFailure and Stopped; ValueError and RuntimeError where the attack itself fails.
    """
    started = time.perf_counter()
    sampling = generator(prepared.spec.name, shard.entry.name, shard.index, "sample", device=torch.device("cpu"))
    sample = Sample(prepared.victim, sampling)
    run = _Run(replace(prepared, victim=sample.watched), shard, before, stop, tick)
    values = run.fool() if shard.entry.task == "fool" else run.perturb()
    values |= sample.arrays()
    batch = prepared.ground.memory.at_once(prepared.spec.batch)
    return ShardResult(**values, seconds=np.array(time.perf_counter() - started), batch=np.array(batch))


@dataclass(frozen=True)
class _Run:
    prepared: Prepared
    shard: Shard
    before: Before
    stop: Callable[[], bool]
    tick: Tick

    def fool(self) -> dict[str, np.ndarray]:
        prepared, entry, device = self.prepared, self.shard.entry, self.prepared.victim.device
        runs, k = self.shard.stop - self.shard.start, len(entry.targets)
        targets = torch.tensor(entry.targets, dtype=torch.int64, device=device)
        # A victim that gets no clean image right has no τ; then nothing can be called fooled, and any image will do.
        tau = 2.0 if prepared.clean.tau is None else prepared.clean.tau
        task = Fool(prepared.spec.shape, targets, runs, torch.tensor(prepared.ground.data.mean).to(device))
        lent = self.before.lent(self.shard, prepared.sources, prepared.spec.shape)
        task = replace(task, levels=prepared.ground.levels, borrowed=borrowed(lent, device, runs, k))
        per_task = entry.box == "white"  # a white-box image works on one target, so each target is an owner

        def above(confidence: float) -> Hit:
            def hit(probabilities: Tensor, owners: Tensor) -> Tensor:
                hits = hits_fool(probabilities, targets, confidence)
                return hits.gather(1, (owners % k).unsqueeze(1)) if per_task else hits

            return hit

        flat = prepared.spec.judge.flat_confidence
        meter = self._meter(runs * k if per_task else runs, 1 if per_task else k, above(tau), above(flat))
        aims = targets.repeat(runs)
        if entry.box == "white" and prepared.victim.logits is None:
            finals = best_fool(prepared, entry, self.shard, meter, self._rng("victim"), task.borrowed)
        else:
            finals = self._attack(task, meter).reshape(runs * k, *prepared.spec.shape)
        verdicts = judge_fool(
            prepared.victim,
            finals,
            aims,
            tau=tau,
            flat=flat,
            draws=prepared.draws,
            how=prepared.ground.asking,
            rng=self._rng("judge"),
        )
        spent = meter.spent if per_task else meter.spent.repeat_interleave(k)
        everything = torch.ones(runs * k, dtype=torch.bool)
        values = self._values(verdicts, meter, meter.first.flatten(), spent, everything)
        return values | {"first_flat": meter.first_flat.flatten().cpu().numpy()}

    def perturb(self) -> dict[str, np.ndarray]:
        prepared, entry, device = self.prepared, self.shard.entry, self.prepared.victim.device
        block = torch.arange(self.shard.start, self.shard.stop, device=device)
        attacked = prepared.clean.accepted[block] & self.before.left(self.shard).to(device)
        if entry.after:
            attacked &= prepared.clean.right[block]  # what was wrong before counts in no row that it is asked for
        aims = prepared.clean.aims(entry, block)
        if aims is not None:
            attacked &= prepared.clean.reading.label[block] != aims  # what is there already needs no attack
        carried = self.before.carried(self.shard, prepared.spec.shape)
        there = carried.found.to(device)[attacked]
        every = block[attacked]
        rows = every[~there]
        labels = prepared.clean.reading.label[rows]
        targets = prepared.clean.aims(entry, rows)
        lent = self.before.lent(self.shard, prepared.sources, prepared.spec.shape)
        task = Perturb(
            from_bytes(prepared.clean.images[rows]),
            labels,
            from_bytes(torch.tensor(prepared.ground.data.donors).to(device)),
            torch.tensor(prepared.ground.data.mean).to(device),
            targets,
            prepared.ground.levels,
            borrowed(None if lent is None else lent[:, (rows - self.shard.start).cpu()], device, len(rows)),
        )

        def hit(probabilities: Tensor, owners: Tensor) -> Tensor:
            aims = None if targets is None else targets[owners]
            return hits_perturb(probabilities, labels[owners], aims).unsqueeze(1)

        meter = self._meter(len(rows), 1, hit)
        if len(rows) == 0:
            finals = task.images
        elif entry.box == "white" and prepared.victim.logits is None:
            stepped = self._stepping(task, meter)
            finals = best_perturb(prepared, entry, rows, labels, targets, meter, self._rng("victim"), stepped)
        else:
            finals = self._attack(task, meter)
        assert entry.limit is not None
        whole = from_bytes(carried.images.to(device)[attacked])
        whole[~there] = finals
        verdicts = judge_perturb(
            prepared.victim,
            whole,
            prepared.clean.images[every],
            prepared.clean.reading.label[every],
            prepared.clean.aims(entry, every),
            limit=entry.limit,
            draws=prepared.draws,
            how=prepared.ground.asking,
            rng=self._rng("judge"),
        )
        first, spent = carried.cost.to(device)[attacked], torch.zeros(len(every), dtype=torch.int64, device=device)
        first[~there], spent[~there] = meter.first[:, 0], meter.spent
        values = self._values(verdicts, meter, first, spent, attacked.cpu())
        return values | {"first_flat": values["first"]}

    def _stepping(self, task: Perturb, meter: Meter) -> Stepped | None:
        """The entry's attack along finite differences, on some of the block's images; None where it has none."""
        prepared, entry = self.prepared, self.shard.entry
        how = entry.finite
        if how is None:
            return None

        def stepped(left: Tensor) -> Tensor:
            oracle = FiniteDifferenceOracle(
                self._asked,
                meter,
                left,
                how,
                self._rng("finite differences"),
                self._rng("directions"),
                prepared.ground.asking,
                self.stop,
            )
            targets = None if task.targets is None else task.targets[left]
            some = replace(task, images=task.images[left], labels=task.labels[left], targets=targets)
            return cast(WhiteBox[Any], entry.attack).ascend(some, oracle, self._rng("attack"))

        return stepped

    def _attack(self, task: Fool | Perturb, meter: Meter) -> Tensor:
        finals = self._searched(task, meter)
        wanted = task.images.shape if isinstance(task, Perturb) else (task.runs, len(task.targets), *task.shape)
        if finals.shape != wanted:
            raise Unexpected(f"finals {tuple(wanted)}", tuple(finals.shape), "return one image for each task")
        return finals

    def _searched(self, task: Fool | Perturb, meter: Meter) -> Tensor:
        prepared, entry = self.prepared, self.shard.entry
        attack_rng, victim_rng = self._rng("attack"), self._rng("victim")
        if entry.box == "black":
            search = cast(BlackBox[Any], entry.attack)
            return drive_black_box(
                search,
                task,
                self._asked,
                meter,
                attack_rng=attack_rng,
                victim_rng=victim_rng,
                how=prepared.ground.asking,
                stop=self.stop,
                access=entry.access,
                within=within_limit(entry.limit, task) if entry.strays else None,
            )
        draws = prepared.spec.judge.expectation_draws if prepared.clean.randomised else 1
        how = replace(prepared.ground.asking, batch=prepared.spec.gradient_batch)
        # What a randomised victim answers depends on the entry's own stream of chance.
        apart = prepared.clean.randomised or entry.needs  # an entry that others come before has fewer images
        looks = {} if apart else prepared.looks.setdefault((self.shard.start, self.shard.stop), {})
        oracle = DrivenOracle(
            prepared.victim, meter, victim_rng, how, draws, self.stop, prepared.ground.memory, self._asked, looks
        )
        return drive_white_box(cast(WhiteBox[Any], entry.attack), task, oracle, attack_rng=attack_rng)

    @property
    def _asked(self) -> Classifier:
        """The victim as attacks are answered by it."""
        prepared = self.prepared
        return (
            expected(prepared.victim, prepared.spec.judge.query_draws) if prepared.clean.randomised else prepared.victim
        )

    def _meter(self, owners: int, tasks_per_owner: int, hit: Hit, flat: Hit | None = None) -> Meter:
        setup, device = self.shard.entry.setup, self.prepared.victim.device
        return Meter(owners, tasks_per_owner, self._budget, setup, hit, self.tick, device, flat)

    @property
    def _budget(self) -> int:
        """What each owner may spend: the entry's own, or what stands in for it."""
        prepared, entry = self.prepared, self.shard.entry
        if entry.box == "white" and prepared.victim.logits is None:
            return granted(entry, len(prepared.sources.of_entry(entry.name)) if prepared.sources is not None else 0)
        return entry.budget

    def _rng(self, purpose: str) -> torch.Generator:
        # The stream belongs to (battery, entry, shard) alone, so a bare model meets the very attacks its defense met.
        name, entry = self.prepared.spec.name, self.shard.entry.name
        return generator(name, entry, self.shard.index, purpose, device=self.prepared.victim.device)

    def _values(
        self, verdicts: Verdicts, meter: Meter, first: Tensor, spent: Tensor, attacked: Tensor
    ) -> dict[str, np.ndarray]:
        t, at = len(attacked), attacked.nonzero().flatten()

        def spread(values: Tensor, blank: float) -> np.ndarray:
            whole = torch.full((t, *values.shape[1:]), blank, dtype=values.dtype)
            whole[at] = values.cpu()
            return whole.numpy()

        refused = np.zeros(t, dtype="<U120")
        refused[at.numpy()] = [reason[:120] for reason in verdicts.refused]
        return {
            "images": spread(verdicts.images, 0),
            "attacked": attacked.numpy(),
            "fooled": spread(verdicts.fooled, False),
            "fooled_flat": spread(verdicts.fooled_flat, False),
            "label": spread(verdicts.label, -1),
            "confidence": spread(verdicts.confidence, float("nan")),
            "share": spread(verdicts.share, 0.0),
            "size": spread(verdicts.size, float("nan")),
            "first": spread(first, -1),
            "spent": spread(spent, 0),
            "refused": refused,
            "counts": np.array([meter.queries - meter.setup, meter.setup, meter.gradients], dtype=np.int64),
        }
