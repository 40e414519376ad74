"""How fast each attack is against the floor (queries × the victim's time per image at its best batch on its fastest
backend) and against the same attack in other libraries, in one run on one machine.

    uv run --group peers python tests/benchmarks/speed.py [--quick] [--device cpu|cuda] [--json FILE] [--only ATTACK …]

On a CPU all of it runs on one thread; on a GPU it runs there, on a ResNet-50 as well. Ratios are what to quote. Peers
differ in what they do beside the attack itself (their strategies and stopping rules), so success stands beside each
time.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator

import peers
import torch
from floor import Floor, device_name
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.machine.device import repeatable
from options import device, new_file
from peers import Cost
from real_data import data_folder
from rich.console import Console
from speed_plan import median, plan_of
from speed_table import Row, table
from victims import Victim, victims

RANKED = tuple(dict.fromkeys(row.entries[0] for row in read_battery("digits-v1").spec.ranking))
WHITE = ("gradient_ascent", "fgsm")
"""Attacks that ask for gradients: their floor is a forward and a backward pass."""
WITH_PEERS = {"evolution", "cppn", "one_pixel", "fgsm"}
"""Attacks that another library has."""
Floored = tuple[float, str]
"""Seconds of the floor for a run's queries, and what it was measured on."""


def rows_of(victim: Victim, quick: bool, only: set[str]) -> Iterator[Row]:
    """The attacks of `only` on one victim, with each peer that has them.

    A peer that asks about as much as ours shares our row's figures. One that is too slow for that stands beside ours
    at the peer's own budget, after a row without a peer for the whole of it.
    """
    forward, backward, missing = victim.fastest(), victim.gradient(), peers.absent()

    def row(name: str, cost: Cost, floor: Floored, peer: str | None = None, other: Cost | None = None) -> Row:
        return {
            "attack": name,
            "victim": victim.name,
            "device": device_name(victim.device),
            "backend": victim.gradient_backend if name in WHITE else victim.backend,
            "floor": floor[1],
            "seconds": cost.seconds,
            "queries": cost.queries,
            "floor_seconds": floor[0],
            "ratio": cost.seconds / floor[0],
            "success": cost.success,
            "peer": peer,
            "peer_seconds": None if other is None else other.seconds,
            "peer_queries": None if other is None else other.queries,
            "peer_success": None if other is None else other.success,
        }

    for name, part in plan_of(victim, quick).items():
        if name not in only:
            continue
        part.run()  # the first time pays for what happens once
        each = backward if name in WHITE else forward
        whole = _with_floor(each, part.run, part.share)
        others = {peer: other.run for peer, other in part.peers.items() if other.module not in missing}
        measured = {} if victim.large else dict(_peers(others))
        if all(part.peers[peer].ours is not None for peer in measured):
            yield row(name, *whole)
        for peer, other in measured.items():
            same = part.peers[peer].ours
            yield row(name, *(whole if same is None else _with_floor(each, median(same))), peer, other)


def _with_floor(floor: Floor, run: Callable[[], Cost], share: int = 1) -> tuple[Cost, Floored]:
    """Run it between two measurements of the floor, whose mean counts; `share` queries need one of its passes."""
    before = floor.seconds()
    cost = run()
    return cost, (cost.queries / share * (before + floor.seconds()) / 2, floor.name)


def _peers(others: dict[str, Callable[[], Cost]]) -> Iterator[tuple[str, Cost]]:
    for name, run in others.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield name, run()
        except Exception as error:  # a peer that fails with the versions at hand is left out, with its reason
            reason = f"{name} left out: {type(error).__name__}: {str(error)[:160]}"
            Console(stderr=True).print(reason, style="yellow", markup=False, soft_wrap=True)


def measured(only: set[str], quick: bool, on: torch.device) -> Iterator[Row]:
    """Every row, as it is measured."""
    for victim in victims(on) if only & set(RANKED) else ():
        yield from rows_of(victim, quick, only)
    if data_folder() is not None and "backends" in only:
        from backends import backend_rows  # loads timm, which nothing else here needs

        yield from backend_rows(quick, on)


def main() -> None:
    """Measure; say each row and write them all after it; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and generations: minutes")
    parser.add_argument("--device", type=device, default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--json", type=new_file, help="write the rows here, after each")
    choices = (*RANKED, "backends")
    parser.add_argument("--only", nargs="+", choices=choices, default=list(choices), help="these attacks only")
    arguments = parser.parse_args()
    only = set(arguments.only)
    if only == {"backends"} and data_folder() is None:
        sys.exit("expected the networks of ../shared/data, got none: set FOOLBENCH_TEST_DATA to their folder")
    if (missing := peers.absent()) and only & WITH_PEERS:
        told = f"left out, as not installed: {', '.join(missing)}; they come with `uv run --group peers`"
        Console(stderr=True).print(told, style="yellow", soft_wrap=True)
    rows: list[Row] = []
    console = Console(width=160)
    with repeatable(arguments.device):
        for row in measured(only, arguments.quick, arguments.device):
            rows.append(row)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
            beside = "" if row["peer"] is None else f", {row['peer']} {row['peer_seconds']:.2f} s"
            figures = f"{row['seconds']:.2f} s, {row['ratio']:.2f} × floor{beside}"
            console.print(f"{row['victim']}, {row['attack']}: {figures}")
    if not rows:
        sys.exit("expected something to measure, got nothing: see above what was left out, and why")
    console.print(table(rows))


if __name__ == "__main__":
    main()
