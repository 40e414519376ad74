"""Records in, a folder of static files out: nothing but the runs decides what is in it, so a rebuild is the same byte
for byte, and nothing in it needs a network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ...bench.errors import InvalidInput, Problem, Unexpected
from ..board.export import leaderboard_csv, leaderboard_json
from ..board.rank import boards, misfits
from ..record.describe import name_of
from ..record.record import Record
from ..record.store import RunFolder, find_runs
from ..record.words import slug
from .pages import Pages

MARKER = ".foolbench-site"
_OURS = frozenset(
    (MARKER, ".nojekyll", "index.html", "methods.html", "404.html", "data.json", "leaderboard.csv", "assets", "e", "v")
)


@dataclass(frozen=True)
class SiteSummary:
    """What was built."""

    out: Path
    entries: int
    ranked: int
    boards: int
    files: int
    bytes: int
    left_out: tuple[Unexpected, ...]
    """Why something of the runs is not shown: it could not be read."""


def build(runs: Sequence[Path], out: Path) -> SiteSummary:
    """Build the leaderboard of all `runs` (run folders, or folders of them) into the folder `out`.

    The site is built beside `out` and then takes its place, so a failure leaves the old one as it was.

    Raises:
        InvalidInput: all at once, a Problem each: runs whose record or evidence cannot be read, two runs of one
            submission on one battery, runs of one battery with other tasks, an `out` that holds anything that this
            function did not put there.
        OSError: the disk.
    """
    out = out.resolve()
    found, wrong = _read(runs)
    _refuse((*_wrong_places(out, runs), *wrong))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        staged = Path(temporary) / "new"
        staged.mkdir()
        try:
            summary = _write(found, staged, out)
        except Unexpected as error:
            raise InvalidInput(Problem.of("FB112", error)) from error
        if out.exists():
            old = Path(temporary) / "old"
            out.rename(old)
            try:
                staged.rename(out)
            except OSError:
                old.rename(out)
                raise
        else:
            staged.rename(out)
    return summary


def _wrong_places(out: Path, runs: Sequence[Path]) -> Iterator[Unexpected]:
    if out.exists() and not out.is_dir():
        yield Unexpected("a folder to build into", f"the file {out}", "choose another --out")
        return
    there = {p.name for p in out.iterdir()} if out.exists() else set()
    if there and (MARKER not in there or there - _OURS):
        strange = sorted(there - _OURS) or [f"no {MARKER}"]
        yield Unexpected(
            "an empty folder or a site that foolbench built",
            f"{out} with {', '.join(strange[:3])}",
            "choose another --out, or move that away",
        )
    for run in runs:
        if run.resolve().is_relative_to(out):
            yield Unexpected("runs outside the site", f"{run} inside {out}", "choose another --out")


def _read(paths: Sequence[Path]) -> tuple[list[RunFolder], list[Unexpected]]:
    """Every run once, in order; and what is wrong with those that cannot be taken."""
    good: list[RunFolder] = []
    wrong: list[Unexpected] = []
    folders: dict[Path, RunFolder] = {}
    for path in paths:
        try:
            folders |= {run.path.resolve(): run for run in find_runs(path)}
        except Unexpected as error:
            wrong.append(error)
    seen: dict[tuple[str, str, str], RunFolder] = {}
    for run in folders.values():
        try:
            record = run.record
        except Unexpected as error:
            wrong.append(error)
            continue
        key = (record.digest, record.battery.digest, record.battery.tier)
        if key in seen:
            both = f"{seen[key].path} and {run.path}, both “{name_of(record)}” on {record.battery.name}"
            wrong.append(Unexpected("one run of each submission on each battery", both, "leave one out"))
        seen.setdefault(key, run)
        good.append(run)
    folder_of = {id(run.record): run.path for run in good}
    for record, error in misfits(run.record for run in good):
        wrong.append(Unexpected(error.expected, error.got, error.fix, file=folder_of[id(record)]))
    return sorted(good, key=lambda r: (r.record.battery.digest, r.record.digest, r.record.battery.tier)), wrong


def _refuse(wrong: Iterable[Unexpected]) -> None:
    if problems := [Problem.of("FB112", error) for error in wrong]:
        raise InvalidInput(*problems)


def entry_folder(record: Record) -> str:
    """The entry's address. It derives from the submission and the battery alone, so running again keeps it."""
    identity = f"{record.digest}:{record.battery.digest}:{record.battery.tier}"
    return f"e/{slug(name_of(record))}-{sha256(identity.encode()).hexdigest()[:8]}/"


def _write(found: list[RunFolder], staged: Path, out: Path) -> SiteSummary:
    made = boards(run.record for run in found)
    addresses = {id(run.record): f"{entry_folder(run.record)}index.html" for run in found}
    pages = Pages(staged, made, addresses, {id(run.record): run for run in found})
    pages.write()
    _refuse(pages.refused)
    _text(staged / "data.json", leaderboard_json(made, addresses))
    (staged / "leaderboard.csv").write_bytes(leaderboard_csv(made, addresses).encode())
    _text(staged / ".nojekyll", "")
    _text(staged / MARKER, "Built by foolbench. The next build replaces this folder.\n")
    files = [p for p in staged.rglob("*") if p.is_file()]
    ranked = sum(len(b.ranked) for b in made)
    return SiteSummary(
        out, len(found), ranked, len(made), len(files), sum(p.stat().st_size for p in files), tuple(pages.left_out)
    )


def _text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
