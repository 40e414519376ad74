"""What this package's attacks find beside what was published, row by row, with what differs in set-up.

    uv run python tests/benchmarks/published.py [--quick] [--images N] [--classes N] [--only PART …] [--json FILE]
    uv run --group peers python tests/benchmarks/published.py --only fgsm

Rows are printed as they are measured and the file is written after each, so an interrupted run loses nothing. The
networks and images are those of ../shared/data (or of FOOLBENCH_TEST_DATA). The second form holds FGSM's images against
those of foolbox, torchattacks and ART. Everything runs on one thread unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import published_ascent
import published_deepception
import published_evolution
import published_fgsm
import published_one_pixel
import published_robust
import torch
from options import new_file
from published_ascent import CLASSES
from published_rows import Row, Setting
from real_data import DataError, check_files, check_networks, data_folder, network_names
from rich.console import Console
from rich.table import Table

PARTS: dict[str, Callable[[Setting, Path], Iterator[Row]]] = {
    "one_pixel": published_one_pixel.rows,
    "evolution": published_evolution.rows,
    "gradient_ascent": published_ascent.rows,
    "fgsm": published_fgsm.rows,
    "robust": published_robust.rows,
    "deepception": published_deepception.rows,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "one_pixel": ("cifar10", "published"),
    "evolution": ("mnist",),
    "gradient_ascent": ("mnist", "imagenet"),
    "fgsm": ("mnist", "cifar10"),
    "robust": ("cifar10",),
    "deepception": ("mnist", "cifar10"),
}
"""What each part reads of the folder of real data: images, and the networks for them."""
VERDICTS = {True: "[green]yes[/]", False: "[red]no[/]", None: "–"}


def measure(
    parts: list[str], setting: Setting, folder: Path, told: Callable[[list[Row]], None]
) -> tuple[list[Row], int]:
    """Run the parts; `told` hears all rows so far after each. Returns the rows and how many parts could not run."""
    found: list[Row] = []
    failed = 0
    for part in parts:
        try:
            for made in PARTS[part](setting, folder):
                found.append({"part": part} | made)
                told(found)
        except Exception as error:  # the other parts still count
            if not isinstance(error, DataError):  # that says all there is to know
                traceback.print_exc()
            failed += 1
            reason = f"cannot run: {type(error).__name__}: {str(error)[:200]}"
            blank = dict.fromkeys(("ours", "low", "high", "published", "source", "ok"))
            found.append({"part": part, "name": part} | blank | {"difference_in_setup": reason})
            told(found)
    return found, failed


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    out = Table(title="ours beside the published figure", title_justify="left", box=None, pad_edge=False)
    for name in ("what", "ours", "95% interval", "published", "n", "reached", "source; what differs"):
        out.add_column(name, justify="right" if name in ("ours", "published", "n") else "left", overflow="fold")
    for r in rows:
        interval = "" if r["low"] is None else f"{figure(r['low'])} – {figure(r['high'])}"
        notes = "; ".join(filter(None, (r["source"], r["difference_in_setup"], r.get("detail"))))
        out.add_row(
            *(r["name"], figure(r["ours"]), interval, figure(r["published"])),
            *(str(r.get("n", "")), VERDICTS[r["ok"]], notes),
        )
    return out


def figure(value: float | None) -> str:
    """Three significant digits, and a dash for nothing."""
    return "–" if value is None else f"{value:.3g}"


def positive(text: str) -> int:
    """An option's whole number of 1 or more. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text}")
    return int(text)


def some_classes(text: str) -> int:
    """So many of ImageNet's classes. Raises ArgumentTypeError."""
    if (count := positive(text)) > CLASSES:
        raise argparse.ArgumentTypeError(f"expected at most ImageNet's {CLASSES} classes, got {count}")
    return count


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer networks, images and generations: minutes")
    parser.add_argument("--images", type=positive, help="at most so many images (or runs) a row")
    parser.add_argument("--classes", type=some_classes, help="so many ImageNet classes for gradient ascent")
    parser.add_argument("--json", type=new_file, help="write the rows here, after each")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts only")
    arguments = parser.parse_args()
    console = Console(width=190)
    folder = data_folder()
    if folder is None:
        sys.exit(
            "expected the networks and images of ../shared/data, got none: set FOOLBENCH_TEST_DATA to their folder"
        )
    needed = sorted({kind for part in arguments.only for kind in NEEDS[part]})
    try:
        check_files(folder, needed)
        check_networks(folder, [name for kind in needed for name in network_names(folder, kind)])
    except DataError as error:
        sys.exit(str(error))

    def told(rows: list[Row]) -> None:
        last = rows[-1]
        mark = VERDICTS[last["ok"]]
        console.print(f"{last['name']}: ours {figure(last['ours'])}, published {figure(last['published'])}, {mark}")
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    setting = Setting(arguments.quick, arguments.images, arguments.classes)
    rows, failed = measure(list(arguments.only), setting, folder, told)
    console.print(table(rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
