"""The L∞ row of the shipped batteries against AutoAttack of torchattacks and of ART, on the same images, in one run.

    uv run --group peers python tests/benchmarks/autoattack.py [--quick] [--only NET …] [--models FOLDER] [--json FILE]
    uv run --group peers python tests/benchmarks/autoattack.py --order SUBMISSIONS --json FILE [--images N]

Each network is attacked at its battery's headline ε, and those trained for a smaller one at that too. The row is to
leave at most one point more than either AutoAttack (its standard attacks), in at most half of its time, and to take no
image that a proof says cannot be taken: the provably robust networks' proofs are linear bounds (certified.py). All of
it runs on one thread of a CPU, or on a GPU. Times are those of the attacks, the final judgement included; the panel's
own images, which transfer borrows, are made once for all networks and not counted. Networks and images are those of
../shared/data (or of FOOLBENCH_TEST_DATA); the PGD-trained LeNet for MNIST is trained in FOLDER once, and left out
without one. The exit status is 1 where a network could not be measured or a goal was not reached.

The second form attacks the submissions in the folders of SUBMISSIONS with torchattacks' AutoAttack alone, each at its
battery's headline ε, and writes {name: robust accuracy}, as `discrimination.py --order` reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peers
import torch
from autoattack_nets import Net, headline, nets
from autoattack_order import accuracy_of
from autoattack_rows import PEERS, row_of
from foolbench.bench.cli.harden_screen import Lines
from options import device, new_file
from real_data import data_folder
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
QUICK = 25
"""Images with --quick."""


def measure(chosen: list[Net], images: int, on: str, console: Console, json_file: Path | None) -> list[Row]:
    """A row a network and ε, each written as soon as it is there."""
    rows: list[Row] = []
    with TemporaryDirectory() as temporary:
        for net in chosen:
            for epsilon in (headline(net.battery), *net.further):
                folder = Path(temporary) / f"{net.name}-{epsilon.replace('/', '-')}"
                try:
                    row = row_of(net, epsilon, images, "cuda" if on == "cuda" else "cpu", folder)
                except Exception as error:  # the other rows still count
                    traceback.print_exc()
                    row = {"net": net.name, "epsilon": epsilon, "error": f"{type(error).__name__}: {str(error)[:200]}"}
                rows.append(row)
                console.print(line(row), highlight=False, markup=False)
                if json_file is not None:
                    json_file.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def line(row: Row) -> str:
    """A row in one line."""
    if row["error"] is not None:
        return f"{row['net']} at {row['epsilon']}: {row['error']}"
    accuracy, seconds = row["robust_accuracy"], row["seconds"]
    parts = ", ".join(f"{who} {accuracy[who]:.3f} in {seconds[who]:.1f} s" for who in ("ours", *PEERS))
    return f"{row['net']} at {row['epsilon']}: {parts}{''.join('; ' + missed for missed in misses(row))}"


def misses(row: Row) -> list[str]:
    """Which goals a row misses."""
    if row["error"] is not None:
        return ["not measured"]
    found = [f"more than a point above {p}" for p in PEERS if not row["within_a_point"][p]]
    found += [f"more than half of the time of {p}" for p in PEERS if not row["in_half_the_time"][p]]
    if row["above_the_proof"] is False:
        found.append(f"{row['refuted']} images taken that a proof says cannot be")
    return found


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    out = Table(title="robust accuracy, and time ÷ the peer's", title_justify="left", box=None, pad_edge=False)
    for name in ("net", "ε", "images", "clean", "proven", "ours", *PEERS, *(f"÷ {p}" for p in PEERS), "misses"):
        out.add_column(name, justify="left" if name in ("net", "misses") else "right", overflow="fold")
    for r in rows:
        if r["error"] is not None:
            out.add_row(r["net"], r["epsilon"], *("–" for _ in range(3 + 3 + 2)), r["error"])
            continue
        out.add_row(
            *(r["net"], r["epsilon"], str(r["images"]), f"{r['clean_accuracy']:.3f}"),
            "–" if r["certified"] is None else f"{r['certified']:.3f}",
            *(f"{r['robust_accuracy'][who]:.3f}" for who in ("ours", *PEERS)),
            *(f"{r['time_ratio'][p]:.2f}" for p in PEERS),
            "; ".join(misses(r)),
        )
    return out


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images a network")
    parser.add_argument("--images", type=int, help="so many images a network (default: 500, all of the batteries')")
    parser.add_argument("--only", nargs="+", metavar="NET", help="these networks only")
    parser.add_argument("--models", type=Path, help="the folder that the PGD-trained LeNet for MNIST is kept in")
    parser.add_argument("--order", type=Path, metavar="SUBMISSIONS", help="a folder of submissions' folders, to order")
    parser.add_argument("--device", type=device, default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--json", type=new_file, help="write the rows here, after each")
    arguments = parser.parse_args()
    if missing := sorted(set(peers.absent()) & set(PEERS)):
        sys.exit(f"expected {' and '.join(missing)}, got nothing of that name: start with `uv run --group peers`")
    if (data := data_folder()) is not None:
        os.environ.setdefault("FOOLBENCH_DATA", str(data.resolve()))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    console = Console(width=170)
    if arguments.order is not None:
        sys.exit(_ordered(arguments, console))
    if data is None:
        sys.exit("expected the networks of ../shared/data, got none: set FOOLBENCH_TEST_DATA to their folder")
    known = {net.name: net for net in nets(data, arguments.models, Lines())}
    if unknown := sorted(set(arguments.only or ()) - set(known)):
        sys.exit(f"expected --only to name some of {', '.join(known)}, got {unknown[0]}")
    if arguments.models is None:
        console.print("left out: the PGD-trained LeNet for MNIST; name a folder for it with --models")
    images = arguments.images or (QUICK if arguments.quick else 500)
    chosen = [net for name, net in known.items() if arguments.only is None or name in arguments.only]
    rows = measure(chosen, images, arguments.device.type, console, arguments.json)
    console.print(table(rows))
    sys.exit(1 if any(misses(row) for row in rows) else 0)


def _ordered(arguments: argparse.Namespace, console: Console) -> int:
    files = sorted(arguments.order.glob("*/submission.yaml"))
    if arguments.json is None or not files:
        sys.exit(f"expected --json and a folder with submissions in it, got {arguments.order}: name both")
    found: dict[str, float] = {}
    for file in files:
        name, accuracy = accuracy_of(file, arguments.images, "cuda" if arguments.device.type == "cuda" else "cpu")
        if not isinstance(accuracy, str):
            found[name] = accuracy
            arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        told = f"left out: {accuracy}" if isinstance(accuracy, str) else f"{accuracy:.3f}"
        console.print(f"{name}: {told}", highlight=False, markup=False)
    return 0 if found else 1


if __name__ == "__main__":
    main()
