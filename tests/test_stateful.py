"""What a victim answered is asked again of one built anew: whatever remembers or looks aside is found, no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import pytest
import torch
from foolbench.bench import evaluate
from foolbench.bench.battery.battery import Battery
from foolbench.bench.battery.ground import Execution, Ground
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.scores.flags import flags_of
from foolbench.bench.victim.assemble import Assembled, Subject
from foolbench.leaderboard.record.doubts import doubted, tally
from foolbench.leaderboard.record.record import Record
from foolbench.leaderboard.record.store import RunFolder
from foolbench.models.base import Classifier
from foolbench.models.certificate import Certificate
from planted import battery, classifier, flag_codes, halves, left_or_right, small
from planted_stateful import STATEFUL
from small_runs import BATTERY, SUBMISSION, changed, submit
from torch import Tensor

ATTACKS = small(evolution={"runs": 4, "children": 50, "generations": 40}, one_pixel={"pixels": [1]}, fgsm={})
SHAPE = (1, 8, 8)


def measured(defend: Any, folder: Path) -> tuple[Record, Battery]:
    planted = battery(folder, *halves(40), attacks=ATTACKS, train=halves(8, seed=1))

    def assemble(ground: Ground) -> Assembled:
        victim = defend(classifier(left_or_right(gain=2.0), SHAPE, 2), ground.data)
        return Assembled(victim, None, Certificate(agrees=True), "torch", "victim")

    made = Subject("planted", {"name": "planted"}, "0" * 64, assemble)
    run = evaluate_subject(made, planted, Execution("cpu", 1), out=folder / "run")
    kept = RunFolder(run.folder).record
    titles = {name: attack.title for name, attack in kept.battery.attacks.items()}
    assert flags_of(kept.attacks, kept.scores, kept.seen, titles, kept.transfer) == kept.flags == run.record.flags
    return run.record, planted


@pytest.mark.parametrize("name", STATEFUL)
def test_what_remembers_or_looks_aside_is_in_doubt(name: str, tmp_path: Path) -> None:
    record, _ = measured(STATEFUL[name], tmp_path)
    flag = next(flag for flag in record.flags if flag.code == "stateful")
    assert flag.kind == "doubt"
    assert "stateful" in (doubted(record.flags) or "")
    assert "doubt" in tally(record.flags)
    if name in ("batch_mean", "evaluation_batch"):
        assert any(key.startswith("company: ") for key in flag.evidence)
    if name in ("lockout", "first_seen"):
        assert "searched: all" in flag.evidence
    if name == "repeats":  # what it turned away fools one that was not searched, and that is the verdict
        judged = flag.evidence["judged: evolution"]
        assert judged["now"] > judged["before"]  # type: ignore[index,operator]
        assert (record.attacks["evolution"].fooling_ratio.value or 0) > 0.3


def noisy(inner: Classifier, *_: object) -> Classifier:
    """Chance of its own, declared, from the generator that is handed in."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return inner.probabilities((images + 0.2 * torch.randn(images.shape, generator=rng)).clamp(0, 1), rng)

    return replace(inner, probabilities=probabilities, randomised=True, logits=None)


def last_bits(inner: Classifier, *_: object) -> Classifier:
    """Answers whose last bits move with the size of the batch, as float32's do."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return inner.probabilities(images, rng) * (1 - 1e-6 * (len(images) % 7))

    return replace(inner, probabilities=probabilities, logits=None)


@pytest.mark.parametrize("honest", [noisy, last_bits])
def test_chance_and_last_bits_are_no_memory(honest: Any, tmp_path: Path) -> None:
    record, _ = measured(honest, tmp_path)
    assert doubted(record.flags) is None
    assert record.seen.fresh is not None
    compared = record.seen.fresh.searched["all"]
    assert (compared.differ.n or 0) > 20
    assert compared.largest > 0


PACKAGE = '''
import dataclasses

SEEN = set()


def memory(inner, count=300):
    """Knows the first images by a set of the whole process."""
    def probabilities(images, rng):
        names = [row.tobytes() for row in images.mul(255).round().byte().numpy()]
        SEEN.update(names[: max(0, count - len(SEEN))])
        kept = images.new_tensor([name in SEEN for name in names])
        return inner.probabilities(images, rng) * kept[:, None]

    return dataclasses.replace(inner, probabilities=probabilities, rejects=True, logits=None)


def steady(inner):
    return inner
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site, name = tmp_path / "site", "foolbench_planted_memory"
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[foolbench.defenses]\nplanted_memory = {name}:memory\nplanted_steady = {name}:steady\n"
    )
    (site / f"{name}.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(site))
    invalidate_caches()
    yield
    sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "flagged"), [("planted_memory", True), ("planted_steady", False)])
def test_a_package_is_built_anew_in_another_process(package: None, tmp_path: Path, name: str, flagged: bool) -> None:
    """A memory that lies in a module of the process would outlive its victim."""
    given = changed(SUBMISSION) | {"defenses": [{"kind": "package", "name": name}]}
    run = evaluate(submit(tmp_path / "own", submission=given, battery=changed(BATTERY)), device="cpu", workers=1)
    fresh = run.record.seen.fresh
    assert fresh is not None
    assert (fresh.process, fresh.why, fresh.failed) == (True, None, False)
    assert ("stateful" in flag_codes(run.record)) == flagged
    if not flagged:
        assert fresh.searched["all"].largest == 0  # the same bits, whoever is asked
        assert fresh.verdicts == {}
