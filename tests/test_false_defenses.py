"""Planted false defenses are each caught with the right flag and the right score; an honest one earns no flag."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foolbench.bench import evaluate, read_submission
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.ground import Execution
from foolbench.bench.data.data import Data
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.victim.assemble import subject_of
from foolbench.bench.victim.fitting import training_images
from foolbench.leaderboard.record.record import Flag, Record
from foolbench.models.base import Classifier
from planted import flag_codes, ground, seeded, subject
from planted_defenses import PLANTED, Planted
from torch import nn

SUBMISSION = Path(__file__).resolve().parents[1] / "submissions" / "digits-lenet" / "submission.yaml"
SMALL: dict[str, dict[str, Any]] = {
    "evolution": {"runs": 3, "generations": 40},
    "cppn": {"runs": 3, "generations": 20},
    "deepception": {"images": 40, "properties": 1},
    "one_pixel": {"images": 40, "pixels": (1,), "iterations": 15, "exact": None},
    "fgsm": {"images": 100},
    "gradient_ascent": {"runs": 3, "steps": 80, "decays": (0,), "adam": None, "borrowed": None},
}


def smaller(panel: bool) -> Battery:
    """digits-v1 on a twentieth of the work, with 100 images."""
    whole = read_battery("digits-v1")
    attacks: dict[str, Any] = {name: None for name, _ in whole.spec.attacks.chosen()}
    attacks |= {n: getattr(whole.spec.attacks, n).model_copy(update=change) for n, change in SMALL.items()}
    there = {row: tuple(name for name in row.entries if name in SMALL) for row in whole.spec.ranked or ()}
    # Without the control that is left out here, CPPN has no lift.
    kept = {
        row: {"entries": entries, "control": row.control if row.control == "noise" else None}
        for row, entries in there.items()
    }
    ranked = tuple(row.model_copy(update=change) for row, change in kept.items())
    noise = whole.spec.controls.noise
    assert noise is not None
    controls = whole.spec.controls.model_copy(
        update={"noise": noise.model_copy(update={"generations": 5}), "random_cppn": None}
    )
    judge = whole.spec.judge.model_copy(update={"expectation_draws": 4, "query_draws": 2})
    changes = {
        "images": 100,
        "ranked": ranked,
        "judge": judge,
        "digest": None,
        "attacks": whole.spec.attacks.model_copy(update=attacks),
    }
    spec = whole.spec.model_copy(update=changes | {"controls": controls})
    return replace(whole, spec=spec if panel else spec.model_copy(update={"panel": None}))


@dataclass(frozen=True)
class Bare:
    """The model by itself."""

    classifier: Classifier
    data: Data
    record: Record


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    planned = smaller(panel=False)
    on = ground(planned)
    given = subject_of(read_submission(SUBMISSION))
    victim = given.assemble(on).victim
    run = evaluate_subject(given, planned, Execution("cpu", 1), out=tmp_path_factory.mktemp("bare"))
    assert run.record.scores.robust_score.value is not None
    return Bare(victim, on.data, run.record)


def measured(planted: Planted, bare: Bare, folder: Path) -> Record:
    battery = smaller(panel="surrogate" in planted.flags)
    victim = planted.defend(bare.classifier, battery, bare.data)
    return evaluate_subject(subject(victim), battery, Execution("cpu", 1), out=folder).record


def flag(record: Record, code: str) -> Flag:
    return next(f for f in record.flags if f.code == code)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_false_defense_is_caught(planted: Planted, bare: Bare, tmp_path: Path) -> None:
    record = measured(planted, bare, tmp_path)
    assert planted.flags <= flag_codes(record)
    assert planted.caught(record, bare.record), record.scores.robust_score
    own, theirs = record.attacks, bare.record.attacks
    match planted.name:
        case "staircase":
            fgsm = own["fgsm"]
            assert fgsm.mode == "surrogate"
            assert "finite differences (at most 2,000 queries an image)" in (fgsm.mode_reason or "")
            assert (fgsm.fooling_ratio.value or 0) > 0.5
        case "large noise":
            shares = {row.share for row in own["fgsm"].tasks}
            assert len(shares) > 4
            assert all(row.fooled == ((row.share or 0) > 0.5) for row in own["fgsm"].tasks)
        case "logits / 10,000":
            for name in ("evolution", "cppn", "gradient_ascent"):
                mine, other = own[name].fooling_ratio, theirs[name].fooling_ratio
                assert mine.low <= other.high, name  # type: ignore[operator]
                assert other.low <= mine.high, name  # type: ignore[operator]
                flat = own[name].fooling_ratio_99
                assert flat is not None
                assert flat.value == 0  # the reading that is void
        case "one-hot answers":
            assert record.tau == 1
            assert flag(record, "zero_gradient").evidence == {"share": 1.0}
        case "rejects everything":
            assert record.scores.clean_rejection.value == 1
        case "recognises the noise images":
            assert record.controls["noise"].fooling_ratio.value == 0  # it has what it wants,
            assert (bare.record.controls["noise"].fooling_ratio.value or 0) > 0.3  # and it is no merit
            evidence = flag(record, "recognition").evidence
            assert evidence["own"] < evidence["fresh"]  # type: ignore[operator]
        case "parity of calls":
            assert flag(record, "misdeclared").evidence.keys() == {"deterministic"}
            assert record.scores.clean_accuracy.value == 0  # right on half of the draws, never on more


def test_an_honest_adversarially_trained_network_earns_no_flag(tmp_path: Path) -> None:
    battery = smaller(panel=True)
    made = evaluate(hardened(battery), battery=battery, out=tmp_path, device="cpu", workers=1)
    assert (made.record.scores.clean_accuracy.value or 0) > 0.9
    assert made.record.attacks["fgsm"].mode == "gradient"
    assert made.record.flags == []


def hardened(battery: Battery, epsilon: float = 0.2, epochs: int = 12) -> nn.Module:
    """FGSM adversarial training from a random start (Wong, Rice & Kolter 2020), which keeps one step from being
    memorised; smooth units, so that no gradient is exactly 0."""
    rng = seeded(1)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.GELU(),
        nn.Linear(64, 10),
    )  # fmt: skip
    with torch.no_grad():
        for weight in net.parameters():
            fan = weight[0].numel() if weight.dim() > 1 else 1e6
            weight.copy_(torch.randn(weight.shape, generator=rng) / fan**0.5)
    x, y = training_images(battery, 2000)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=rng).split(64):
            images, labels = x[rows], y[rows]
            start = images + epsilon * (2 * torch.rand(images.shape, generator=rng) - 1)
            leaf = start.clamp(0, 1).requires_grad_()
            (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(leaf), labels), leaf)
            moved = leaf.detach() + 1.25 * epsilon * slope.sign()
            moved = torch.clamp(torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon), 0, 1)
            both = torch.cat([images, moved])
            loss = nn.functional.cross_entropy(net(both), labels.repeat(2))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()
