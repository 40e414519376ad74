"""How well the scores tell submissions apart: over the runs of one battery, the share of pairs whose paired 95%
intervals leave out 0, what each ranked row adds, and how the scores agree with an outside order of the submissions.

    uv run python tests/benchmarks/discrimination.py --runs RUNS [--order FILE] [--markdown FILE] [--json FILE]
    uv run python tests/benchmarks/discrimination.py --make digits|mnist --out FOLDER [--tier TIER] [--only NAME …]

The first form reads runs that are there. The second makes submissions of several techniques, trainings and defenses
in FOLDER/submissions, evaluates them in FOLDER/runs, and then does the same with those: finished ones are kept, and an
interrupted one goes on where it was. The networks for MNIST are those of ../shared/data (or of FOOLBENCH_TEST_DATA).
FILE of --order is JSON, {submission's name: its robust accuracy by AutoAttack}. Four scores are compared: survival;
endurance with τ, which is the robust score; endurance with the Fool rows at a flat confidence of 0.99; and the mean of
those two. The exit status is 1 where a submission could not be made or evaluated.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
from discrimination_measure import table_of
from discrimination_tables import markdown
from discrimination_zoo import BATTERIES, Kept, Zoo, zoo
from foolbench.bench import evaluate, read_submission
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.cli.harden_screen import Lines
from foolbench.bench.errors import FoolbenchError, Unexpected
from foolbench.bench.machine.source import source_digest
from foolbench.bench.submission.submission import GivenSubmission
from foolbench.bench.victim.assemble import subject_of
from foolbench.leaderboard.record.record import Record
from foolbench.leaderboard.record.store import find_runs
from options import existing_file, new_file
from real_data import DataError, data_folder
from rich.console import Console

RUNS, SUBMISSIONS = "runs", "submissions"


def make(kept: Sequence[Kept], battery: Battery, folder: Path, workers: int | None, console: Console) -> dict[str, str]:
    """Make and evaluate submissions in `folder`, those that were finished apart. Returns what failed, and why."""
    failed: dict[str, str] = {}
    for one in kept:
        try:
            given = read_submission(one.make(folder / SUBMISSIONS / one.slug))
            if finished(given, battery, folder / RUNS):
                console.print(f"{one.name}: kept", highlight=False)
                continue
            with chdir(folder):  # so that it finds the finished shards of the runs beside it
                score = evaluate(given, battery=battery, device="cpu", workers=workers).record.scores.robust_score
            console.print(f"{one.name}: robust score {score}", highlight=False, markup=False)
        except FoolbenchError as error:
            failed[one.name] = "; ".join(f"{p.code} {p.message}" for p in error.problems)
        except Exception as error:  # the others still count
            traceback.print_exc()
            failed[one.name] = f"{type(error).__name__}: {str(error)[:200]}"
        if one.name in failed:
            console.print(f"{one.name}: {failed[one.name]}", style="red", highlight=False, markup=False)
    return failed


def finished(given: GivenSubmission, battery: Battery, runs: Path) -> bool:
    """Whether a run of this submission on this battery, by the code as it is, lies there."""
    wanted = (subject_of(given).digest, battery.digest, source_digest("record"))
    return any((r.digest, r.battery.digest, r.provenance.source_digest) == wanted for r in _records(runs))


def _records(runs: Path) -> list[Record]:
    return [run.record for run in find_runs(runs)] if runs.is_dir() else []


def order(path: Path) -> dict[str, float]:
    """The outside order. Raises ValueError for a file that is none."""
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"expected JSON in {path}, got {error}") from error
    numbers = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in numbers):
        raise ValueError(f"expected {{submission's name: robust accuracy}} in {path}, got something else: correct it")
    return content


def main() -> None:
    """Make and evaluate where asked to, then measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--runs", type=Path, help="a folder of runs on one battery")
    what.add_argument("--make", choices=tuple(BATTERIES), help="make and evaluate submissions for these data")
    parser.add_argument("--out", type=Path, help="with --make: the folder that they and their runs are made in")
    parser.add_argument("--tier", choices=("smoke", "standard"), default="standard", help="with --make: how much work")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="with --make: these submissions, by their names")
    parser.add_argument("--workers", type=int, help="shards worked on side by side; changes no result")
    parser.add_argument("--order", type=existing_file, help="an outside order, as JSON")
    parser.add_argument("--markdown", type=new_file, help="write the tables of docs/discrimination.md here")
    parser.add_argument("--json", type=new_file, help="write all figures here")
    arguments = parser.parse_args()
    if (arguments.make is None) != (arguments.out is None):
        parser.error("expected --make and --out together, got one of them: add the other")
    console = Console(width=160)
    failed: dict[str, str] = {}
    try:
        outside = None if arguments.order is None else order(arguments.order)
        if arguments.make is not None:
            failed = _made(arguments.make, arguments, console)
        runs = arguments.runs or arguments.out / RUNS
        found = table_of(_records(runs), outside)
    except (ValueError, DataError, FoolbenchError, Unexpected) as error:
        sys.exit(str(error))
    console.print(markdown(found), highlight=False, markup=False)
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(found))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found | {"failed": failed}, indent=1) + "\n")
    sys.exit(1 if failed else 0)


def _made(which: Zoo, arguments: argparse.Namespace, console: Console) -> dict[str, str]:
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if (data := data_folder()) is not None:
        os.environ.setdefault("FOOLBENCH_DATA", str(data.resolve()))
    kept = zoo(which, data, Lines())
    names = [one.name for one in kept]
    if unknown := sorted(set(arguments.only or ()) - set(names)):
        raise ValueError(f"expected --only to name some of {', '.join(names)}, got {unknown[0]}")
    battery = read_battery(BATTERIES[which], tier=arguments.tier)
    battery.load()  # missing images are told before hours of training
    chosen = [one for one in kept if arguments.only is None or one.name in arguments.only]
    return make(chosen, battery, arguments.out, arguments.workers, console)


if __name__ == "__main__":
    main()
