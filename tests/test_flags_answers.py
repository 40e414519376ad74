"""Flags of what a victim answers: too sure, hardly sure, by heart, or nothing at all. An honest one earns none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flagged import FGSM, SHAPE, flag, run
from foolbench.attacks.base import Fool
from foolbench.bench import evaluate
from foolbench.bench.battery.entries import entries
from foolbench.bench.honesty.questions import answers_to
from foolbench.bench.honesty.recognition import Beginnings
from foolbench.bench.machine.seeds import generator
from foolbench.bench.running.prepared import prepare
from foolbench.bench.scores import flags
from foolbench.leaderboard.board.columns import FLAGS
from foolbench.models.base import Classifier
from planted import CPU, battery, classifier, flag_codes, ground, halves, left_or_right, seeded, small
from torch import Tensor, nn


def test_an_honest_small_network_earns_none(tmp_path: Path) -> None:
    rng = seeded()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 2))
    weights = list(net.parameters())
    images, labels = halves(60, seed=3)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(torch.randn(weight.shape, generator=rng) / weight[0].numel() ** 0.5)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(torch.from_numpy(images) / 255), torch.from_numpy(labels))
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.3 * slope
    made = run(net, tmp_path, small(one_pixel={}, fgsm={}, deepception={}, gradient_ascent={"steps": 60}))
    assert made.record.scores.clean_accuracy.value == 1
    assert made.record.attacks["fgsm"].mode == "gradient"
    assert made.record.flags == []


def test_every_flag_is_explained_on_the_board() -> None:
    files = Path(flags.__file__ or "").parent.glob("*.py")
    sources = "".join(file.read_text() for file in files)
    codes = set(re.findall(r'code="(\w+)"', sources))
    assert {"masking", "stateful", "misdeclared", "underconfident"} < codes
    assert codes == set(FLAGS)


# by heart


def test_memorised(tmp_path: Path) -> None:
    """A victim that knows the first images by heart, and one that turns away all noise alike."""
    searches = small(evolution={"children": 60}) | {"cppn": None}
    planted = battery(tmp_path, *halves(8), attacks=searches, train=halves(8, seed=1))
    on, plan = ground(planted), entries(planted)
    plain = classifier(left_or_right(), SHAPE, 2)
    search = plan[0].attack.search(  # type: ignore[union-attr]
        Fool(SHAPE, torch.arange(2), 1, torch.tensor(on.data.mean)),
        generator("planted", "evolution", 0, "attack", device=CPU),
    )
    known = (next(search).images * 255).round()
    assert len(known) == 60

    def wary(turned_away: Callable[[Tensor], Tensor]) -> Classifier:
        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            return plain.probabilities(images, rng) * ~turned_away((images * 255).round()).unsqueeze(1)

        return replace(plain, probabilities=probabilities, logits=None, rejects=True)

    def by_heart(images: Tensor) -> Tensor:
        return (images.unsqueeze(1) == known).flatten(2).all(2).any(1)

    def rough(images: Tensor) -> Tensor:
        return images.diff(dim=-1).abs().mean((1, 2, 3)) > 40

    for knows, expected in ((by_heart, True), (rough, False)):
        victim = wary(knows)
        begun = Beginnings(prepare(victim, on), plan, "0" * 64)
        (answers,) = answers_to(victim, [begun.question()])
        seen = begun.recognition(answers)
        assert seen is not None
        assert (seen.own.n, seen.memorised) == (60, expected)
    assert seen.own.k == seen.fresh.k == 0  # all of it is turned away


# too little and too much confidence


@pytest.mark.parametrize(("gain", "flagged"), [(0.004, True), (2.0, False)])
def test_underconfident(tmp_path: Path, gain: float, flagged: bool) -> None:
    made = run(left_or_right(gain=gain), tmp_path)
    assert made.record.scores.clean_accuracy.value == 1
    assert flag_codes(made.record) == ({"underconfident"} if flagged else set())
    if flagged:
        assert 0.5 < flag(made, "underconfident").evidence["median_confidence"] < 0.51  # type: ignore[operator]


@pytest.mark.parametrize(("gain", "saturated"), [(8.0, False), (20.0, False), (250.0, True)])
def test_saturated(tmp_path: Path, gain: float, saturated: bool) -> None:
    made = run(left_or_right(gain=gain), tmp_path)
    assert flag_codes(made.record) == ({"saturated"} if saturated else set())
    if saturated:
        assert flag(made, "saturated").evidence == {"tau": 1.0}
        # Behind votes, which cannot be logits, there is something else to do.
        assert "votes (randomized_smoothing) are 1.0 wherever all copies agree" in flag(made, "saturated").sentence


# nothing at all


@pytest.mark.parametrize(("count", "flagged"), [(20, False), (18, True)])
def test_rejects_clean(tmp_path: Path, count: int, flagged: bool) -> None:
    """One image is turned away: of 20 that is the 5% that are tolerated, of 18 it is more."""

    class Picky(nn.Module):
        """Rejects what has a black corner."""

        def __init__(self) -> None:
            super().__init__()
            self.halves = left_or_right(columns=3)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.halves(images)
            rejection = 400 * (0.05 - images[:, 0, 7, 7])
            return torch.cat([logits[:, :2], rejection[:, None]], 1)

    images, labels = halves(count)
    images[2, 0, 7, 7] = 0
    planted = battery(tmp_path, images, labels, attacks=FGSM)
    made = evaluate(Picky(), battery=planted, out=tmp_path / "run", device="cpu", reject_index=2)
    assert (made.record.scores.clean_rejection.k, made.record.scores.clean_rejection.n) == (1, count)
    assert flag_codes(made.record) == ({"rejects_clean"} if flagged else set())
    row = made.record.attacks["fgsm"].tasks[2]
    assert row.before is row.fooled is row.label is row.confidence is None
    assert row.spent == 0
    assert made.record.attacks["fgsm"].fooling_ratio.n == 7
    assert made.record.attacks["fgsm"].robust_accuracy is not None
    assert made.record.attacks["fgsm"].robust_accuracy.n == 8
