"""A success that was found is kept: what an attack returns fools, if anything that it asked about did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foolbench.attacks.base import Fool
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.deepception import margins, targeted_margins
from foolbench.attacks.evolution import Evolution
from foolbench.attacks.evolving.map_elites import contest, empty_cells, standings
from foolbench.attacks.gradient_ascent import AdamAscent, GradientAscent
from foolbench.attacks.noise import Noise
from foolbench.attacks.random_cppn import RandomCppn
from foolbench.bench.asking.reading import hits_fool
from foolbench.bench.battery.ground import Asking
from foolbench.bench.running.drive import Meter, drive_black_box
from foolbench.bench.running.judge import judge_fool
from foolbench.bench.running.oracle import DrivenOracle, drive_white_box
from foolbench.models.base import Classifier
from torch import Tensor

CPU = torch.device("cpu")
SHAPE = (1, 6, 6)
TARGETS = torch.arange(3)
TAU = 0.35


def overtaken(images: Tensor) -> Tensor:
    """`(n, 4)` probabilities, by one pixel's brightness b: that of class 0 rises with it, and beyond 0.89 the second
    column is likelier still. So class 0 is likeliest where it is no longer the answer."""
    b = images[:, 0, 2, 3]
    own, other = 0.3 + 0.15 * b, 0.2 + 0.6 * (b - 0.5).relu()
    rest = (1 - own - other) / 2
    return torch.stack([own, other, rest, rest], 1)


def victim(rejects: bool) -> Classifier:
    """What overtakes class 0 is class 1 or, where it `rejects`, "none of these"."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return overtaken(images)[:, [0, 2, 3, 1] if rejects else [0, 1, 2, 3]].log()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return logits(images, rng).softmax(1)[:, : 3 if rejects else 4]

    return Classifier(SHAPE, 3 if rejects else 4, CPU, probabilities, logits, rejects=rejects)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def attacked(attack: Any, model: Classifier, runs: int = 2) -> tuple[Meter, list[bool], Tensor, list[Tensor]]:
    """What the driver saw, what the judge says, the finals, and every image of which the driver saw the answer."""
    task = Fool(SHAPE, TARGETS, runs, torch.full(SHAPE, 0.4))
    white = hasattr(attack, "ascend")
    seen: list[Tensor] = []

    def hit(probabilities: Tensor, owners: Tensor) -> Tensor:
        seen.append(probabilities)
        hits = hits_fool(probabilities, TARGETS, TAU)
        return hits.gather(1, (owners % 3)[:, None]) if white else hits

    meter = Meter(runs * 3 if white else runs, 1 if white else 3, 10_000, 0, hit, lambda *_: None, CPU)
    if white:
        oracle = DrivenOracle(model, meter, seeded(1), Asking(64), 1, lambda: False)
        finals = drive_white_box(attack, task, oracle, attack_rng=seeded(0))
    else:
        how, never = Asking(64), lambda: False
        one, two = seeded(0), seeded(1)
        finals = drive_black_box(attack, task, model, meter, attack_rng=one, victim_rng=two, how=how, stop=never)
    finals = finals.reshape(-1, *SHAPE)
    how = Asking(64)
    judged = judge_fool(model, finals, TARGETS.repeat(runs), tau=TAU, flat=0.99, draws=1, how=how, rng=seeded(2))
    return meter, judged.fooled.tolist(), finals, seen


ATTACKS = {
    "evolution": Evolution(children=20, generations=30),
    "cppn": Cppn(children=20, generations=30),
    "noise": Noise(children=20, generations=10),
    "random_cppn": RandomCppn(children=20, generations=10),
    "softmax": GradientAscent("softmax", (0.2,), steps=80),
    "logit": GradientAscent("logit", (0.2,), steps=80),
    "adam": AdamAscent((0.2,), 80, 0.05),
}


@pytest.mark.parametrize("rejects", [False, True], ids=["another class", "rejected"])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_judge_confirms_what_the_driver_saw(name: str, rejects: bool) -> None:
    model = victim(rejects)
    meter, judged, finals, seen = attacked(ATTACKS[name], model)
    assert [bool(first >= 0) for first in meter.first.flatten()] == judged
    assert meter.fooled == sum(judged) > 0
    # The trap was met: of all that was asked, what class 0 is likeliest for fools nobody.
    answers = torch.cat(seen)
    trap = answers[answers[:, 0].argmax()]
    assert not bool(hits_fool(trap[None], TARGETS, TAU)[0, 0])
    final = model.probabilities(finals[:1], seeded(3))
    assert judged[0]
    assert float(final[0, 0]) < float(trap[0])


def test_an_image_with_the_label_stands_above_every_one_without() -> None:
    """Labels first, then confidence, to the last bit of it; what a cell has no label for goes by confidence alone."""
    tiny = torch.finfo(torch.float32).tiny
    answers = torch.tensor(
        [
            [0.45, 0.46, 0.00],  # class 1, by a little
            [0.34, 0.33, 0.32],  # class 0
            [0.34, 0.33, 0.00],  # class 0, and 0.33 rejected
            [0.40, 0.10, 0.00],  # rejected by a half
            [1.00, tiny, 0.00],
            [0.50, 0.50, 0.00],  # a tie: the first
        ]
    )
    standing = standings(answers, torch.tensor([0, 1]))
    assert standing[:, 0].argsort(descending=True).tolist() == [4, 5, 1, 2, 0, 3]
    assert standing[:, 1].argsort(descending=True).tolist() == [0, 5, 1, 2, 3, 4]
    assert float(standing[4, 1]) == tiny
    near = torch.tensor([[1 - 2**-24, 0.0], [1.0, 0.0]])
    assert float(standings(near, torch.tensor([0])).diff(dim=0)) > 0
    held = contest(empty_cells(1, 1, CPU), standing[None, 1:2, :1]).standing
    assert len(contest(held, standing[None, :1, :1]).cell) == 0  # the surer image has another label


def test_a_tie_that_fools_has_a_margin_below_0() -> None:
    """Of classes that tie the first is the label: whoever stands behind it has been changed, whoever before it not."""
    tie, labels = torch.tensor([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2]]), torch.tensor([1, 0])
    assert [bool(margin < 0) for margin in margins(tie, labels)] == [True, False]
    assert [bool(margin < 0) for margin in targeted_margins(tie, labels)] == [False, True]
    half = torch.tensor([[0.5, 0.0, 0.0]])  # as much rejected as accepted: rejected
    assert not bool(margins(half, torch.tensor([1])) < 0)
