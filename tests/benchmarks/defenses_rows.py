"""How a row of defenses.py is measured: an evaluation along the ordinary path, read beside its bare model."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from defenses_models import Model, write_submission
from defenses_zoo import Defense
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.ground import Execution, Ground
from foolbench.bench.choices import DeviceName, Tier
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.machine.device import choose, repeatable
from foolbench.bench.machine.seeds import generator
from foolbench.bench.running.progress import Progress
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import Assembled, Subject, subject_of
from foolbench.leaderboard.record.doubts import doubted
from foolbench.leaderboard.record.record import AttackResult, BareResult, Measure, Record
from foolbench.models.base import Classifier
from real_data import ROOT
from torch import Tensor

sys.path.append(str(ROOT / "tests"))
from planted_defenses import PLANTED, Planted

Row = dict[str, Any]
RANKED = tuple(dict.fromkeys(row.entries[0] for row in read_battery("digits-v1").spec.ranking))
FALSE = {planted.name: planted for planted in PLANTED}


@dataclass(frozen=True)
class Setting:
    """How rows are measured."""

    battery: Battery | None = None
    """In place of each model's own."""
    tier: Tier = "smoke"
    device: DeviceName = "cpu"
    workers: int | None = None
    out: Path | None = None
    """The one run's folder; None: a folder of its own in `runs`, for each run, where finished shards are used."""
    progress: Progress | None = None
    timing: float = 1.0
    """For about how many seconds the overhead of a defense is measured."""

    def battery_of(self, model: Model) -> Battery:
        """The battery to measure it on. Raises FoolbenchError."""
        return self.battery or read_battery(model.battery, tier=self.tier)


def row_of_defense(defense: Defense, model: Model, setting: Setting, folder: Path) -> Row:
    """Measure one defense of one model; its submission is written into `folder`. Raises FoolbenchError."""
    battery = setting.battery_of(model)
    subject = subject_of(read_submission(write_submission(model, defense, folder)))
    assembled = subject.assemble(Ground(battery, battery.load(), choose(setting.device)))
    record = _record(subject, assembled, battery, setting, setting.workers)
    stated = {"parameters": defense.stated(model.dataset), "why": defense.why}
    stated |= {"false_alarm": doubted(record.flags) is not None}
    return _row(defense.name, model, record, overhead_ms(assembled, battery, setting.timing)) | stated


def row_of_false_defense(planted: Planted, model: Model, setting: Setting, folder: Path) -> Row:
    """Measure a planted false defense, and say whether it is caught. Raises FoolbenchError."""
    battery = setting.battery_of(model)
    ground = Ground(battery, battery.load(), choose(setting.device))
    bare = subject_of(read_submission(write_submission(model, None, folder)))
    inside = bare.assemble(ground)
    digest = sha256(f"{bare.digest} {planted.name}".encode() + _source()).hexdigest()
    victim = planted.defend(inside.victim, battery, ground.data)
    assembled = replace(inside, victim=victim, bare=inside, digest=digest)
    name = f"{model.name} behind {planted.name}"
    subject = Subject(name, {"name": name, "planted": planted.name}, digest, lambda _: assembled)
    # One worker: what a victim that counts its calls answers depends on their order.
    record = _record(subject, assembled, battery, setting, 1)
    assert record.bare is not None
    return _row(planted.name, model, record, overhead_ms(assembled, battery, setting.timing)) | {
        "planted": True,
        "caught": planted.caught(record, record.bare),
        "must_earn": sorted(planted.flags),
    }


def _source() -> bytes:
    return (ROOT / "tests" / "planted_defenses.py").read_bytes()


def _record(subject: Subject, assembled: Assembled, battery: Battery, setting: Setting, workers: int | None) -> Record:
    """Evaluate what was assembled already, so that fitting a defense is paid for once."""
    ready = replace(subject, assemble=lambda _: assembled)
    execution = Execution(setting.device, workers)
    return evaluate_subject(ready, battery, execution, out=setting.out, progress=setting.progress).record


def overhead_ms(assembled: Assembled, battery: Battery, for_about: float) -> float:
    """What the defense adds to an answer, in milliseconds an image: defended less bare, turn by turn.

    A batch is the battery's. The median of at least three turns, since a shared machine's speed drifts; of a defense
    that costs nothing it can be a little below 0.
    """
    assert assembled.bare is not None
    victim, bare = assembled.victim, assembled.bare.victim
    pixels = battery.load().pixels(victim.device)
    images = pixels[torch.arange(battery.spec.batch) % len(pixels)].contiguous()
    rng = generator(battery.spec.name, "overhead", device=victim.device)
    differences: list[float] = []
    with repeatable(victim.device):
        for first in (victim, bare):
            _seconds(first, images, rng)  # unlike all that follow
        until = time.perf_counter() + for_about
        while time.perf_counter() < until or len(differences) < 3:
            differences.append(_seconds(victim, images, rng) - _seconds(bare, images, rng))
    return round(1000 * statistics.median(differences) / len(images), 5)


def _seconds(victim: Classifier, images: Tensor, rng: torch.Generator) -> float:
    started = time.perf_counter()
    victim.probabilities(images, rng).cpu()  # waits for a GPU
    return time.perf_counter() - started


def blank_row(name: str, model: Model, setting: Setting, error: str) -> Row:
    """The row of what could not be measured."""
    battery = model.battery if setting.battery is None else setting.battery.spec.name
    nothing = dict.fromkeys(("clean_accuracy", "robust_score", "bare_robust_score", "difference", "low", "high"))
    front = {"defense": name, "model": model.name, "battery": battery} | nothing
    planted = {"planted": name in FALSE, "caught": None, "caught_by": None, "false_alarm": None}
    return front | {"flags": [], "overhead_ms": None, "tier": setting.tier} | planted | {"error": error}


def _row(name: str, model: Model, record: Record, overhead: float) -> Row:
    assert record.bare is not None
    assert record.difference is not None
    change = record.difference["robust_score"]
    return _numbers(name, model, record, record.bare, change, overhead)


def compared_row(name: str, model: Model, record: Record, bare: Record | BareResult) -> Row:
    """The row of a network of its own beside another: where nothing is paired the difference has the widest interval
    that the two scores leave."""
    if record.difference is not None:
        return _numbers(name, model, record, bare, record.difference["robust_score"], None)
    own, theirs = record.scores.robust_score, bare.scores.robust_score
    change = Measure(value=None, reason=own.reason or theirs.reason)
    ends = own.value, own.low, own.high, theirs.value, theirs.low, theirs.high
    if None not in ends:
        value, low, high, other, lowest, highest = (end or 0.0 for end in ends)
        change = Measure(value=value - other, low=low - highest, high=high - lowest)
    return _numbers(name, model, record, bare, change, None)


def _numbers(
    name: str, model: Model, record: Record, other: Record | BareResult, change: Measure, overhead: float | None
) -> Row:
    own, bare = record.scores, other.scores
    return {
        "defense": name,
        "model": model.name,
        "battery": record.battery.name,
        "clean_accuracy": own.clean_accuracy.value,
        "robust_score": own.robust_score.value,
        "bare_robust_score": bare.robust_score.value,
        "difference": change.value,
        "low": change.low,
        "high": change.high,
        "flags": sorted({flag.code for flag in record.flags}),
        "overhead_ms": overhead,
        "fooling_ratios": _ratios(record.attacks),
        "bare_fooling_ratios": _ratios(other.attacks),
        "intervals": {
            "clean_accuracy": _interval(own.clean_accuracy),
            "robust_score": _interval(own.robust_score),
            "bare_clean_accuracy": _interval(bare.clean_accuracy),
            "bare_robust_score": _interval(bare.robust_score),
        },
        "bare_clean_accuracy": bare.clean_accuracy.value,
        "clean_rejection": own.clean_rejection.value,
        "bare_flags": sorted({flag.code for flag in other.flags}),
        "tier": record.battery.tier,
        "seconds": record.provenance.seconds,
        "planted": False,
        "caught": None,
        "caught_by": None,
        "false_alarm": None,
        "error": own.robust_score.reason if own.robust_score.value is None else None,
    }


def _ratios(attacks: dict[str, AttackResult]) -> dict[str, dict[str, Any]]:
    """The fooling ratios with their intervals; null, with the reason, where one was not measured."""
    found: dict[str, dict[str, Any]] = {}
    for name in RANKED:
        if name not in attacks:
            found[name] = {"value": None, "low": None, "high": None, "mode": None, "reason": "not in the battery"}
            continue
        ratio, mode = attacks[name].fooling_ratio, attacks[name].mode
        found[name] = {"value": ratio.value, "low": ratio.low, "high": ratio.high, "mode": mode, "reason": ratio.reason}
    return found


def _interval(measure: Measure) -> list[float | None]:
    return [measure.low, measure.high]
