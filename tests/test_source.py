"""The digest of the code covers what can move a number, and nothing else."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import get_args

import pytest
from foolbench.attacks import NAMES
from foolbench.bench.machine.source import MOVES_NOTHING, Numbers, moving, source_digest
from test_house import PACKAGES, ROOT, imports, modules

ALL: tuple[Numbers, ...] = get_args(Numbers)
FROM: dict[Numbers, set[str]] = {
    "shards": {"bench.running.work", "bench.asking.clean", "bench.victim.assemble", "bench.battery.panel"},
    "record": {"bench.scores.scores", "bench.scores.flags", "bench.evaluation.measured", "bench.honesty.statements"},
    "hardened": {"bench.harden.harden", "models.training.train", "attacks.evolution"},
}
"""Where numbers of each kind are made, as anyone would say who reads the tree."""


def names(of: Numbers) -> set[str]:
    """Dotted names of the modules that the digest covers."""
    files = {file: name for name, file in modules(ROOT).items()}
    return {files[file] for file in moving(of, ROOT)}


def stopped(name: str) -> bool:
    return any(name == stop or name.startswith(f"{stop}.") for stop in MOVES_NOTHING)


@pytest.mark.parametrize("of", ALL)
def test_it_covers_all_that_is_imported_where_numbers_are_made(of: Numbers) -> None:
    graph, covered = imports(ROOT), names(of)
    assert FROM[of] <= covered
    wanted, left = set(), list(FROM[of])
    while left:
        name = left.pop()
        if name in graph and name not in wanted and not stopped(name):
            wanted.add(name)
            left += graph[name]
    assert wanted <= covered


def test_it_covers_every_attack_and_no_screen() -> None:
    assert {f"attacks.{name}" for name in NAMES} <= names("shards")
    for of in ALL:
        rooms = {".".join(name.split(".")[:2]) for name in names(of)}
        assert not rooms & {"bench.cli", "bench.probe", "bench.reading", "leaderboard.site", "leaderboard.board"}
    assert not {name for name in names("shards") if name.split(".")[-1] in ("checks", "toy", "report", "scores")}
    assert names("shards") < names("record")


def test_every_stop_is_on_the_way() -> None:
    """What is not reached needs no exception, and what is no module is a slip of the pen."""
    graph = imports(ROOT)
    reached = {other for of in ALL for name in names(of) for other in graph[name]}
    rooms = {".".join(name.split(".")[:2]) for name in graph}
    assert MOVES_NOTHING.keys() <= graph.keys() | rooms
    assert [stop for stop in MOVES_NOTHING if not any(o == stop or o.startswith(f"{stop}.") for o in reached)] == []


def test_nothing_hides_from_the_walk() -> None:
    """Modules that are imported by a name put together while the code runs: the table of attacks, and the door."""
    found = set()
    for name, file in modules(ROOT).items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith(
                ("import_module", "__import__")
            ):
                found.add(name)
    assert found == {"attacks", "bench"}


def edited(tmp_path: Path, path: str) -> dict[Numbers, bool]:
    """Whether a line more in a file changes each digest."""
    found = []
    for line in ("", "\n# a line more\n"):
        root = tmp_path / f"{len(found)}"
        for package in PACKAGES:
            shutil.copytree(
                ROOT / package, root / package, ignore=shutil.ignore_patterns("*.onnx", "*.npz", "__pycache__")
            )
        with open(root / path, "a", encoding="utf-8") as file:
            file.write(line)
        found.append({of: source_digest(of, root) for of in ALL})
    return {of: found[0][of] != found[1][of] for of in ALL}


@pytest.mark.parametrize(
    ("path", "moves"),
    [
        ("bench/cli/app.py", set()),
        ("bench/evaluation/report.py", set()),
        ("bench/reading/wording.py", set()),
        ("leaderboard/site/charts.py", set()),
        ("attacks/checks.py", set()),
        ("attacks/one_pixel.py", {"shards", "record"}),
        ("attacks/evolving/genome.py", {"shards", "record", "hardened"}),
        ("defenses/images/jpeg.py", {"shards", "record", "hardened"}),
        ("bench/scores/scores.py", {"record"}),
        ("bench/harden/steps.py", {"hardened"}),
    ],
)
def test_an_edit_counts_where_it_can_move_a_number(tmp_path: Path, path: str, moves: set[Numbers]) -> None:
    assert {of for of, changed in edited(tmp_path, path).items() if changed} == moves
