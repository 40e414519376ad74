"""One pixel, exactly: held to trying everything one by one, and what the search missed told in the record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from foolbench.attacks.answers import label_of
from foolbench.attacks.base import Perturb
from foolbench.attacks.every_pixel import EveryPixel, grid
from foolbench.attacks.levels import EIGHT_BITS, Levels
from foolbench.attacks.one_pixel import ATTACK
from foolbench.attacks.spec import BatteryFacts
from foolbench.bench import evaluate
from foolbench.bench.errors import Unexpected
from foolbench.bench.evaluation.pipeline import Run
from foolbench.bench.evaluation.report import text
from foolbench.leaderboard.record.describe import missed_of
from foolbench.leaderboard.site.entry import attacked
from planted import FatalPixel, battery, halves, small
from torch import Tensor

DIGITS = Levels(17)
Net = Callable[[Tensor], Tensor]


def searched(net: Net, task: Perturb, values: int) -> tuple[Tensor, Tensor]:
    """The finals, and how many queries each image cost."""
    search = EveryPixel(values).search(task, torch.Generator())
    spent = torch.zeros(len(task.images), dtype=torch.int64)
    try:
        query = next(search)
        while True:
            spent += torch.bincount(query.owners, minlength=len(spent))
            query = search.send(net(query.images))
    except StopIteration as finished:
        return finished.value, spent


def task_of(net: Net, channels: int, levels: Levels, count: int = 6) -> Perturb:
    rng = torch.Generator().manual_seed(4)
    images = levels.rounded(torch.rand(count, channels, 4, 5, generator=rng))
    return Perturb(images, net(images).argmax(1), images, images.mean(0), levels=levels)


@pytest.mark.parametrize(("channels", "levels", "values"), [(1, DIGITS, 17), (1, EIGHT_BITS, 3), (3, EIGHT_BITS, 2)])
def test_it_finds_what_trying_everything_one_by_one_finds(channels: int, levels: Levels, values: int) -> None:
    rng = torch.Generator().manual_seed(channels)
    weight = torch.randn(3, channels * 20, generator=rng)

    def net(images: Tensor) -> Tensor:
        """A linear network that rejects what it is not sure of: a fourth logit of 2."""
        scores = images.flatten(1) @ weight.T
        return torch.cat([2 * scores, torch.full((len(images), 1), 2.0)], 1).softmax(1)[:, :3]

    task = task_of(net, channels, levels)
    finals, spent = searched(net, task, values)
    colours = [levels.nearest(torch.tensor(255.0 * i / (values - 1))).item() for i in range(values)]
    for image, label, final, cost in zip(task.images, task.labels, finals, spent, strict=True):
        tried = []
        for row, column, colour in product(range(4), range(5), product(colours, repeat=channels)):
            one = image.clone()
            one[:, row, column] = torch.tensor(colour)
            tried.append(one)
        answers = net(torch.stack(tried))
        labels = label_of(answers)
        fooled = (labels >= 0) & (labels != label)
        found = label_of(net(final[None]))[0]
        assert bool(fooled.any()) is bool(found >= 0 and found != label)
        assert int(((final - image).abs().amax(0) > 0).sum()) <= 1
        rows = 20 * len(colours) ** channels // 4
        first = int(fooled.nonzero()[0]) // rows if bool(fooled.any()) else 3
        assert int(cost) == (first + 1) * rows
        if not bool(fooled.any()):
            wrong = answers.sum(1) - answers[:, label]
            assert float(net(final[None]).sum() - net(final[None])[0, label]) == pytest.approx(
                float(wrong.max()), rel=1e-4
            )
    assert torch.equal(levels.rounded(finals), finals)


def test_the_grid_has_black_white_and_the_data_s_own_levels() -> None:
    assert grid(17, 1, DIGITS)[:, 0].tolist() == DIGITS.at(torch.arange(17)).tolist()
    assert sorted(grid(2, 3, EIGHT_BITS).tolist()) == sorted([list(map(float, c)) for c in product((0, 1), repeat=3)])
    nine = grid(9, 1, EIGHT_BITS)[:, 0] * 255
    assert nine.tolist() == pytest.approx([0, 32, 64, 96, 128, 159, 191, 223, 255])


EXACT = {"images": 8, "values": 17, "images_per_shard": 4}


@pytest.mark.parametrize(
    ("change", "at"), [({"values": 18}, ("exact", "values")), ({"images": 9}, ("exact", "images"))]
)
def test_what_a_battery_cannot_ask_is_refused(change: dict[str, int], at: tuple[str, str]) -> None:
    spec = ATTACK.spec.model_validate({**ATTACK.example, "images": 8, "exact": EXACT | change})
    with pytest.raises(Unexpected) as refused:
        ATTACK.plan(spec, BatteryFacts((1, 8, 8), 10, 0, DIGITS))
    assert refused.value.at == at


def attacked_by(folder: Path, one_pixel: dict[str, Any]) -> Run:
    """Halves of which class 2 is one fatal pixel, under this search."""
    planted = battery(folder, *halves(8), attacks=small(one_pixel=one_pixel), classes=3)
    return evaluate(FatalPixel(3, 5), battery=planted, out=folder / "run", device="cpu")


def test_what_the_search_missed_stands_in_record_report_and_page(tmp_path: Path) -> None:
    """One of 64 pixels is fatal: a handful of guesses misses it on some images; asking about each does not."""
    few = {"pixels": [1], "population": 4, "iterations": 1, "exact": {"images": 6, "values": 3, "images_per_shard": 4}}
    made = attacked_by(tmp_path, few)
    attack = made.record.attacks["one_pixel"]
    exact = attack.variants["one_pixel_exact"]
    assert (exact.fooling_ratio.k, exact.fooling_ratio.n) == (6, 6)
    lost = sum(not row.fooled for row in attack.tasks[:6])
    assert attack.missed is not None
    assert (attack.missed.k, attack.missed.n) == (lost, 6)
    assert lost > 0
    words = f"missed {lost} of the 6 images that 1 pixel, every place × 3 gray levels fools"
    assert missed_of(attack) == words
    assert words in " ".join(text(made.record, tmp_path).split())
    (row,) = [row for row in attacked(made.record, made.record.battery) if row.attack is attack]
    assert row.missed == words

    plain = attacked_by(tmp_path / "plain", {"pixels": [1]})
    assert plain.record.attacks["one_pixel"].missed is None
    assert missed_of(plain.record.attacks["one_pixel"]) is None
