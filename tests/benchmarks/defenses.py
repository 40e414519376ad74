"""What each defense is worth: one of each kind, and false ones that must be caught, each paired with its bare model.

    uv run python tests/benchmarks/defenses.py [--quick] [--json FILE] [--tier TIER] [--only DEFENSE …] [--models SET …]

The shipped LeNet-5 on digits-v1 needs nothing but this repository; networks for MNIST and CIFAR-10, and their images,
are those of ../shared/data (or of FOOLBENCH_TEST_DATA). Parameters are those of defenses_zoo.py. Every row is a
submission.yaml evaluated as any other, in a folder of its own in `runs`, where finished shards are used again; rows
are printed as they are measured and the file is written after each, so an interrupted table goes on where it was. The
exit status is 1 where a row could not be measured, a false defense was not caught or an honest one is in doubt. `cases`
are all of tests/planted_cases.py: every kind of false defense that the score must not be flattered by, and honest ones
like them; they are measured beside the network for digits alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from defenses_cases import CASE, row_of_case
from defenses_markdown import markdown
from defenses_models import Model, installed_package, models
from defenses_rows import FALSE, RANKED, Row, Setting, blank_row, row_of_defense, row_of_false_defense
from defenses_zoo import DEFENSES, NAMES, DataSet
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.errors import FoolbenchError
from foolbench.bench.running.progress import Silent
from options import new_file
from planted_cases import Absent
from real_data import DataError, check_networks, data_folder
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SETS: tuple[DataSet, ...] = ("digits", "mnist", "cifar10")
PLANTED = "planted"
"""All false defenses by one name."""
CASES = "cases"
"""All planted cases by one name."""
SHORT = {
    "evolution": "evol.",
    "cppn": "CPPN",
    "deepception": "decep.",
    "one_pixel": "1 px",
    "fgsm": "FGSM",
    "gradient_ascent": "ascent",
}
VERDICTS = {True: "[green]caught[/]", False: "[red]NOT CAUGHT[/]", None: ""}


@dataclass
class Sayings(Silent):
    """Says where each run is."""

    console: Console

    def say(self, text: str) -> None:
        """See Progress."""
        self.console.print(f"[dim]{escape(text)}[/]", highlight=False)


def measure(chosen: list[Model], only: list[str], setting: Setting, told: Callable[[list[Row]], None]) -> list[Row]:
    """Measure the named defenses on the models; `told` hears all rows so far after each.

    False defenses are planted in front of the network for digits alone.
    """
    found: list[Row] = []
    with TemporaryDirectory() as temporary, installed_package(Path(temporary) / "site"):

        def add(name: str, model: Model, made: Callable[[Path], Row]) -> None:
            try:
                row = made(Path(temporary) / f"{model.dataset}-{len(found)}")
            except Absent as error:
                row = blank_row(name, model, setting, f"skipped: {error}") | {"skipped": True}
            except FoolbenchError as error:
                row = blank_row(name, model, setting, "; ".join(f"{p.code} {p.message}" for p in error.problems))
            except Exception as error:  # the other rows still count
                traceback.print_exc()
                row = blank_row(name, model, setting, f"{type(error).__name__}: {str(error)[:200]}")
            found.append(row)
            told(found)

        for model in chosen:
            for defense in (d for d in DEFENSES if d.name in only):
                add(defense.name, model, lambda at, m=model, d=defense: row_of_defense(d, m, setting, at))
            for name, planted in FALSE.items() if model.dataset == "digits" else ():
                if name in only or PLANTED in only:
                    add(name, model, lambda at, m=model, p=planted: row_of_false_defense(p, m, setting, at))
            for name, case in CASE.items() if model.dataset == "digits" else ():
                if name in only or CASES in only:
                    add(name, model, lambda at, m=model, c=case: row_of_case(c, m, setting, at))
    return found


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    out = Table(title="defenses beside their bare models", title_justify="left", box=None, pad_edge=False)
    left = ("defense", "model", "flags")
    numbers = ("clean", *SHORT.values(), "robust score", "bare", "difference", "ms an image")
    for name in (*left[:2], *numbers, left[2], ""):
        out.add_column(name, justify="left" if name in (*left, "") else "right", overflow="fold")
    for r in rows:
        if r["error"] is not None:
            out.add_row(r["defense"], r["model"], *("–" for _ in numbers), f"[red]{escape(r['error'])}[/]", verdict(r))
            continue
        ratios = (figure(r["fooling_ratios"][name]["value"], 2) for name in RANKED)
        score = f"{figure(r['robust_score'], 1)} {interval(*r['intervals']['robust_score'])}"
        difference = f"{figure(r['difference'], 1, '+')} {interval(r['low'], r['high'])}"
        out.add_row(
            *(r["defense"], r["model"], figure(r["clean_accuracy"], 3), *ratios, score),
            *(figure(r["bare_robust_score"], 1), difference, figure(r["overhead_ms"], 4)),
            *(", ".join(r["flags"]), verdict(r)),
        )
    return out


def verdict(row: Row) -> str:
    """Whether a false defense was caught, or an honest one is in doubt."""
    return "[red]FALSE ALARM[/]" if row["false_alarm"] else VERDICTS[row["caught"]]


def figure(value: float | None, digits: int, sign: str = "") -> str:
    """So many digits behind the point, and a dash for nothing."""
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """Two ends, or nothing."""
    return "" if low is None or high is None else f"({low:.1f} to {high:.1f})"


def check_data(chosen: list[Model], folder: Path | None) -> None:
    """Look for the networks and images of all models before the first is measured.

    Raises DataError for a network, FoolbenchError for images, each naming the first that is not there or damaged.
    """
    for model in chosen:
        if model.dataset != "digits" and folder is not None:
            check_networks(folder, [file.path.stem for file in (model.file, *model.others)])
        read_battery(model.battery).load()


def missed(rows: list[Row]) -> list[Row]:
    """What could not be measured, false defenses that nothing caught, and honest ones in doubt."""

    def wrong(row: Row) -> bool:
        failed = row["error"] is not None and row["caught"] is None and not row.get("skipped")
        return failed or row["caught"] is False or bool(row["false_alarm"])

    return [row for row in rows if wrong(row)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the network for digits alone: minutes")
    parser.add_argument("--tier", choices=("smoke", "standard"), default="smoke", help="how much work (default: smoke)")
    parser.add_argument("--json", type=new_file, help="write the rows here, after each")
    parser.add_argument("--markdown", type=new_file, help="write the tables of docs/defenses.md here, after each")
    names = [*NAMES, PLANTED, *FALSE, CASES, *CASE]
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=[*NAMES, PLANTED, CASES],
        metavar="DEFENSE",
        help=f"of {', '.join(names)}",
    )
    parser.add_argument("--models", nargs="+", choices=SETS, help="networks for these data only (default: all three)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--workers", type=int, help="shards worked on side by side; changes no result")
    arguments = parser.parse_args()
    console = Console(width=190)
    folder = data_folder()
    if folder is not None:
        os.environ.setdefault("FOOLBENCH_DATA", str(folder))
    found = models(folder)
    wanted = arguments.models or (SETS[:1] if arguments.quick else SETS)
    for name in (name for name in wanted if name not in found):
        console.print(f"no {name}: its network is in ../shared/data; set FOOLBENCH_TEST_DATA to that folder")
    chosen = [found[name] for name in wanted if name in found]
    if not chosen:
        sys.exit("expected at least one network to measure, got none: add --models digits")
    try:
        check_data(chosen, folder)
    except (DataError, FoolbenchError) as error:
        sys.exit(str(error))

    def told(rows: list[Row]) -> None:
        last = rows[-1]
        what = escape(last["error"] or "") or f"robust score {figure(last['robust_score'], 1)}, difference " + (
            f"{figure(last['difference'], 1, '+')} {interval(last['low'], last['high'])}"
        )
        console.print(
            f"{last['defense']}, {last['model']}: {what} {verdict(last)} {escape(last['caught_by'] or '')}",
            highlight=False,
        )
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        if arguments.markdown is not None:
            arguments.markdown.write_text(markdown(rows))

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    setting = Setting(
        tier=arguments.tier, device=arguments.device, workers=arguments.workers, progress=Sayings(console)
    )
    rows = measure(chosen, arguments.only, setting, told)
    console.print(table(rows))
    sys.exit(1 if missed(rows) else 0)


if __name__ == "__main__":
    main()
