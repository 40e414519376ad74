"""Each meaning has one home: what is decided or computed alike everywhere is written once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from foolbench.attacks import answers as of_attacks
from foolbench.attacks.levels import EIGHT_BITS
from foolbench.models import answers, levels
from test_house import ROOT, modules
from torch import Tensor

HOMES = {
    "the accept rule": (r"1 - [\w.]+\.sum\((1|2|-1)\b", {"models/answers.py", "attacks/answers.py"}),
    "rounding to gray levels": (
        r"\* ?255\)?\.r(ound|int)|mul_?\(255|255\)\.round|rint\(\w+ \* 255",
        # JPEG has 8 bits of its own, and a nearest neighbour's file holds uint8 by its format.
        {"models/levels.py", "attacks/levels.py", "defenses/images/jpeg.py", "models/training/classical.py"},
    ),
    "writing whole or not at all": (
        r"os\.fsync|os\.replace|mkstemp",
        # Downloads are only moved: torchvision has written them.
        {"bench/machine/folder.py", "bench/data/download.py"},
    ),
    "the digest of a file": (r"file_digest\(", {"models/files.py"}),
    "gray levels as pixel values": (r"float(32|\()\) / (255|_TOP)", {"models/levels.py"}),
    "survival of a Fool attack": (r"clean\w*(\.value)? \* \(1 - ", {"leaderboard/record/survival.py"}),
    "resamples of tasks": (r"multinomial\(n|percentile\(|2\.5, 97\.5", {"leaderboard/record/bootstrap.py"}),
    "why a result is not ranked": (r"never ranked\"", {"leaderboard/record/unranked.py"}),
}
"""What is written once: a pattern of how it is written, and where it stands."""


def strayed(root: Path, pattern: str, homes: set[str]) -> list[str]:
    """Files with a line of this pattern that are none of its homes; comments and docstrings count, for they age too."""
    files = {file.relative_to(root).as_posix(): file for file in modules(root).values()}
    found = {name for name, file in files.items() if re.search(pattern, file.read_text(encoding="utf-8"))}
    return sorted(found - homes)


@pytest.mark.parametrize("meaning", HOMES)
def test_it_is_written_once(meaning: str, tmp_path: Path) -> None:
    pattern, homes = HOMES[meaning]
    assert strayed(ROOT, pattern, homes) == []
    line = next(
        line
        for name in sorted(homes)
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
    )
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "copy.py").write_text(line)
    assert strayed(tmp_path, pattern, homes) == ["bench/copy.py"]


def rows() -> Tensor:
    """Rows of probabilities: at random, with mass missing, even ones, ones on the edge of the rule, and nonsense."""
    rng = torch.Generator().manual_seed(0)
    drawn = torch.rand(2000, 4, generator=rng).pow(4)
    drawn = drawn / drawn.sum(1, keepdim=True) * torch.rand(2000, 1, generator=rng)
    edge = [[0.5, 0, 0, 0], [0.25, 0.25, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0.25] * 4, [0.2, 0.4, 0.4, 0]]
    return torch.cat([drawn, torch.tensor([*edge, [float("nan")] * 4, [0.75, 0.25, 0.25, 0]])])


def test_a_victim_accepts_where_its_largest_class_exceeds_the_rejected_mass() -> None:
    given = torch.tensor([[0.5, 0.0, 0.0], [0.51, 0.0, 0.0], [0.25, 0.25, 0.25], [0.3, 0.4, 0.3], [0.2, 0.0, 0.1]])
    assert answers.label_of(given).tolist() == [-1, 0, -1, 1, -1]
    assert answers.label_of(given, rejected=3).tolist() == [3, 0, 3, 1, 3]
    assert answers.accepts(given).tolist() == [False, True, False, True, False]
    assert answers.with_rejected(given)[:, 3].tolist() == pytest.approx([0.5, 0.49, 0.25, 0, 0.7])


def test_attacks_read_answers_as_the_judge_does() -> None:
    given = rows()
    labels, confidence = answers.labelled(given)
    assert torch.equal(of_attacks.label_of(given), labels)
    assert torch.equal(of_attacks.label_of(given.view(2, -1, 4)).flatten(), labels)
    assert torch.equal(answers.accepts(given), labels >= 0)
    assert torch.equal(confidence.nan_to_num(), given.amax(1).nan_to_num())
    assert torch.equal(
        of_attacks.rejected_mass(given).nan_to_num(), answers.rejected_mass(given).clamp_min(0).nan_to_num()
    )
    assert len(labels.unique()) == 5  # each class, and rejected


def test_attacks_round_as_the_driver_does() -> None:
    rng = torch.Generator().manual_seed(1)
    given = torch.cat([torch.rand(5000, generator=rng) * 1.2 - 0.1, (torch.arange(256) + 0.5) / 255])
    assert torch.equal(EIGHT_BITS.rounded(given), levels.rounded(given))
    assert torch.equal(EIGHT_BITS.to_bytes(given), levels.to_bytes(given))
    assert torch.equal(EIGHT_BITS.moved(given.clamp(0, 1), torch.zeros(())), levels.rounded(given.clamp(0, 1)))
    assert torch.equal(EIGHT_BITS.nearest(given.clamp(0, 1) * 255), levels.rounded(given.clamp(0, 1)))


def test_every_gray_level_of_a_file_stays_what_it_is() -> None:
    stored = torch.arange(256).to(torch.uint8)
    images = levels.from_bytes(stored)
    assert torch.equal(levels.rounded(images), images)
    assert torch.equal(levels.to_bytes(images), stored)
    assert torch.equal(levels.to_bytes(levels.rounded(images + 0.4 / 255)), stored)
    assert levels.to_bytes(torch.tensor([-0.3, 1.3, 0.5 / 255, 1.5 / 255])).tolist() == [0, 255, 0, 2]
