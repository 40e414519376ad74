"""What the digest of the code covers: all that can move a number of a run, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from foolbench import attacks
from foolbench.bench.machine.provenance import MOVES_NO_NUMBER, digest_of, moving
from test_house import PACKAGES, ROOT, imports, modules

ROOTS = {"bench.running.run", "bench.evaluation.measured", "bench.evaluation.pipeline"}
"""From here all that makes a shard's result or a record's number is imported; and the attacks, by their names."""
STILL = {
    # words for what is wrong, and the reading of them: values that were read stand in digests of their own
    "bench.choices", "bench.errors", "bench.reading", "models.choices",
    # told of numbers, and writing them down
    "bench.evaluation.api", "bench.evaluation.door", "bench.evaluation.evidence", "bench.evaluation.finished",
    "bench.evaluation.notebook", "bench.evaluation.report", "bench.machine.folder", "bench.machine.npz",
    "bench.machine.provenance", "bench.running.progress", "bench.data.download",
    # the record's form
    "bench", "leaderboard", "leaderboard.record", "leaderboard.record.battery", "leaderboard.record.measure",
    "leaderboard.record.record", "leaderboard.record.store", "leaderboard.record.unranked", "leaderboard.record.words",
}  # fmt: skip
"""What they import and what yet moves no number. Whoever adds to it must be sure."""


def reached() -> set[str]:
    """Every module that a run imports, lazily or not, with the packages that hold it."""
    graph = imports(ROOT)
    found: set[str] = set()
    left = [*ROOTS, *(f"attacks.{name}" for name in attacks.NAMES)]
    while left:
        name = left.pop()
        if name in graph and name not in found:
            found.add(name)
            left += [*graph[name], name.rpartition(".")[0]]
    return found


def covered() -> set[str]:
    files = set(moving(ROOT))
    return {name for name, file in modules(ROOT).items() if file in files}


def test_it_covers_what_a_run_imports_and_nothing_else():
    left_out = {name for name in reached() - covered() if not name.startswith("bench.reading.")}
    assert left_out - STILL == set(), "these can move a number and are not covered"
    assert STILL - reached() == set(), "these are no longer imported"
    assert covered() - reached() == set(), "these cannot move a number: no run imports them"


def test_what_is_left_out_is_there():
    assert [name for name in MOVES_NO_NUMBER if not (ROOT / name).exists()] == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.onnx", "*.npz", "*.pyc"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "moves"),
    [
        ("bench/cli/app.py", False),
        ("bench/evaluation/report.py", False),
        ("bench/reading/wording.py", False),
        ("leaderboard/site/pages.py", False),
        ("attacks/evolution.py", True),
        ("attacks/evolving/color.py", True),
        ("bench/running/judge.py", True),
        ("bench/scores/scores.py", True),
        ("leaderboard/record/survival.py", True),
        ("defenses/images/jpeg.py", True),
        ("models/onnx/load.py", True),
    ],
)
def test_an_edit_counts_where_it_can_move_a_number(copy: Path, file: str, moves: bool):
    before = digest_of(copy)
    (copy / file).write_text((copy / file).read_text() + "# a word more\n")
    assert (digest_of(copy) != before) is moves


def test_a_new_file_counts_until_it_is_said_that_it_does_not(copy: Path):
    before = digest_of(copy)
    (copy / "attacks" / "new.py").touch()
    assert digest_of(copy) != before
