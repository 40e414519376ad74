"""How fast each attack is against the floor (queries × the victim's time per image at its best batch on its fastest
backend) and against the same attack in other libraries, in one run on one machine.

    uv run --group peers python tests/benchmarks/speed.py [--quick] [--json FILE] [--only ATTACK …]

Everything runs on one thread; ratios are what to quote. Peers differ in what they do beside the attack itself (their
strategies and stopping rules), so success stands beside each time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peers
import torch
from foolbench.attacks.base import Fool, Perturb
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.deepception import Deepception
from foolbench.attacks.evolution import Evolution
from foolbench.attacks.fgsm import Fgsm
from foolbench.attacks.gradient_ascent import GradientAscent
from foolbench.attacks.one_pixel import OnePixel
from foolbench.bench.drive import Meter, drive_black_box
from foolbench.bench.judge import hits_fool, hits_perturb
from foolbench.bench.oracle import DrivenOracle, Look
from foolbench.leaderboard.record import ATTACKS
from peers import Cost
from rich.console import Console
from speed_table import Row, table
from torch import Tensor
from victims import Floor, Victim, data_folder, victims

TAU = 0.99
UNBOUNDED = 10**12
EPSILONS = [0.02, 0.04, 0.06, 0.08, 0.1]
WHITE = ("gradient_ascent", "fgsm")
"""Attacks that ask for gradients: their floor is a forward and a backward pass."""
REPEATS = 5
Floored = tuple[float, str]
"""Seconds of the floor for a run's queries, and what it was measured on."""


@dataclass(frozen=True)
class Peer:
    """Another library's attack."""

    run: Callable[[], Cost]
    ours: Callable[[], Cost] | None = None
    """Ours at this peer's own budget, where that is a fraction of the row's; None: both have the same."""


@dataclass(frozen=True)
class Part:
    """One of our attacks, and its peers by name."""

    run: Callable[[], Cost]
    peers: dict[str, Peer] = field(default_factory=dict)
    share: int = 1
    """Queries that one pass of the floor answers: an ε grid needs one gradient an image."""


def ours(victim: Victim, attack: Any, task: Fool | Perturb, looks: dict[str, Look] | None = None) -> Cost:
    """Drive one of our attacks as the bench does; success is what the driver saw (Fool: at 0.99)."""
    fool = isinstance(task, Fool)
    classifier = victim.classifier

    def hit(probabilities: Tensor, owners: Tensor) -> Tensor:
        if isinstance(task, Fool):
            return hits_fool(probabilities, task.targets, TAU)
        return hits_perturb(probabilities, task.labels[owners], None).unsqueeze(1)

    owners, each = (task.runs, len(task.targets)) if isinstance(task, Fool) else (len(task.images), 1)
    white = hasattr(attack, "ascend")
    if white and fool:
        owners, each = owners * each, 1
    meter = Meter(
        owners, each, UNBOUNDED, UNBOUNDED, hit if not (white and fool) else _never(owners), _quiet, classifier.device
    )
    rng, victim_rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    started = time.perf_counter()
    if white:
        oracle = DrivenOracle(classifier, meter, victim_rng, victim.gradient_batch, 1, lambda: False)
        oracle.looks = {} if looks is None else looks
        finals = attack.ascend(task, oracle, rng)
    else:
        finals = drive_black_box(
            attack,
            task,
            classifier,
            meter,
            attack_rng=rng,
            victim_rng=victim_rng,
            batch=victim.batch,
            stop=lambda: False,
        )
    seconds = time.perf_counter() - started
    success = meter.fooled / (owners * each)
    if white:
        flat = finals.reshape(-1, *classifier.shape).clamp(0, 1).mul(255).round().div(255)
        probabilities = classifier.probabilities(flat, victim_rng)
        if isinstance(task, Fool):
            aims = task.targets.repeat(task.runs)
            success = float((probabilities.gather(1, aims.unsqueeze(1)) >= TAU).float().mean())
        else:
            success = float((probabilities.argmax(1) != task.labels).float().mean())
    return Cost(seconds, meter.queries + meter.gradients, success)


def _never(owners: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda probabilities, rows: torch.zeros(len(rows), 1, dtype=torch.bool)


def _quiet(asked: int, fooled: int) -> None:
    pass


def rows_of(victim: Victim, quick: bool, only: set[str]) -> Iterator[Row]:
    """The attacks of `only` on one victim, with each peer that has them.

    A peer that asks about as much as ours shares our row's figures. One that is too slow for that stands beside ours
    at the peer's own budget, after a row without a peer for the whole of it.
    """
    forward, backward = victim.fastest(), victim.gradient()

    def row(name: str, cost: Cost, floor: Floored, peer: str | None = None, other: Cost | None = None) -> Row:
        return {
            "attack": name,
            "victim": victim.name,
            "device": "cpu, 1 thread",
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
        measured = {} if victim.large else dict(_peers({peer: other.run for peer, other in part.peers.items()}))
        if all(part.peers[peer].ours is not None for peer in measured):
            yield row(name, *whole)
        for peer, other in measured.items():
            same = part.peers[peer].ours
            yield row(name, *(whole if same is None else _with_floor(each, _median(same))), peer, other)


def plan_of(victim: Victim, quick: bool) -> dict[str, Part]:
    """What is measured on a victim: a battery's attacks at budgets of the benchmark's own."""
    mean = victim.images.mean(0)
    less = 10 if victim.large else 1
    n = 10 if quick else 50
    images, labels = victim.images[: n // less], victim.labels[: n // less]
    donors = victim.images[-40:]
    population, iterations = 400, max((10 if quick else 50) // less, 2)
    generations, steps = (50 if quick else 250) // less, (50 if quick else 200) // less
    few, fewest = max(generations // 10, 1), 3  # all that pyribs and neat-python have time for
    shape, targets = victim.classifier.shape, torch.arange(victim.classifier.classes)
    fool, once = Fool(shape, targets, 2, mean), Fool(shape, targets, 1, mean)
    perturb = Perturb(images, labels, donors, mean)
    many = Perturb(victim.images[: 200 // less], victim.labels[: 200 // less], donors, mean)
    search = (images, labels, population, iterations)
    steep = (many.images, many.labels, EPSILONS)
    side = max(2, shape[1] // 4)

    def drive(attack: Any, task: Fool | Perturb) -> Callable[[], Cost]:
        return lambda: ours(victim, attack, task)

    return {
        "evolution": Part(
            drive(Evolution(children=200, generations=generations), fool),
            {"pyribs MAP-Elites": Peer(
                lambda: peers.ribs_evolution(victim, 200, few), drive(Evolution(children=200, generations=few), once)
            )},
        ),
        "cppn": Part(
            drive(Cppn(children=200, generations=generations), fool),
            {"neat-python": Peer(
                lambda: peers.neat_cppn(victim, 200, fewest), drive(Cppn(children=200, generations=fewest), once)
            )},
        ),
        "deepception": Part(drive(Deepception(side=side, stride=max(1, side // 2), copies=4), perturb)),
        "one_pixel": Part(
            drive(OnePixel(pixels=1, population=population, iterations=iterations), perturb),
            {
                "torchattacks OnePixel": Peer(lambda: peers.torchattacks_one_pixel(victim, *search)),
                "ART PixelAttack": Peer(lambda: peers.art_one_pixel(victim, *search)),
                "SciPy DE": Peer(lambda: peers.scipy_one_pixel(victim, *search)),
            },
        ),
        "gradient_ascent": Part(drive(GradientAscent(objective="softmax", decay=0.0, steps=steps), fool)),
        "fgsm": Part(
            lambda: _grid(victim, many),
            {
                "torchattacks FGSM": Peer(lambda: peers.torchattacks_fgsm(victim, *steep)),
                "ART FGSM": Peer(lambda: peers.art_fgsm(victim, *steep)),
                "foolbox FGSM": Peer(lambda: peers.foolbox_fgsm(victim, *steep)),
            },
            share=len(EPSILONS),
        ),
    }  # fmt: skip


def _with_floor(floor: Floor, run: Callable[[], Cost], share: int = 1) -> tuple[Cost, Floored]:
    """Run it between two measurements of the floor, whose mean counts; `share` queries need one of its passes."""
    before = floor.seconds()
    cost = run()
    return cost, (cost.queries / share * (before + floor.seconds()) / 2, floor.backend)


def _median(run: Callable[[], Cost]) -> Callable[[], Cost]:
    """The median by time of several runs: at a slow peer's budget ours takes milliseconds."""
    return lambda: sorted((run() for _ in range(REPEATS)), key=lambda cost: cost.seconds)[REPEATS // 2]


def _grid(victim: Victim, task: Perturb) -> Cost:
    """FGSM at every ε of the grid, as a battery's curve has it: entries that share a look at the images."""
    looks: dict[str, Look] = {}
    parts = [ours(victim, Fgsm(epsilon), task, looks) for epsilon in EPSILONS]
    return Cost(sum(p.seconds for p in parts), sum(p.queries for p in parts), parts[-1].success)


def _peers(others: dict[str, Callable[[], Cost]]) -> Iterator[tuple[str, Cost]]:
    for name, run in others.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield name, run()
        except Exception as error:  # a peer that fails with the versions at hand is left out, with its reason
            Console(stderr=True).print(f"{name} left out: {type(error).__name__}: {str(error)[:160]}", style="yellow")


def measured(only: set[str], quick: bool) -> Iterator[Row]:
    """Every row, as it is measured."""
    for victim in victims() if only & set(ATTACKS) else []:
        yield from rows_of(victim, quick, only)
    if data_folder() is not None and "backends" in only:
        from backends import backend_rows  # loads timm, which nothing else here needs

        yield from backend_rows(quick)


def main() -> None:
    """Measure; say each row and write them all after it; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and generations: minutes")
    parser.add_argument("--json", type=Path, help="write the rows here, after each")
    choices = (*ATTACKS, "backends")
    parser.add_argument("--only", nargs="+", choices=choices, default=list(choices), help="these attacks only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    only = set(arguments.only)
    if only == {"backends"} and data_folder() is None:
        sys.exit("expected the networks of ../shared/data, got none: set FOOLBENCH_TEST_DATA to their folder")
    rows: list[Row] = []
    console = Console(width=160)
    for row in measured(only, arguments.quick):
        rows.append(row)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        beside = "" if row["peer"] is None else f", {row['peer']} {row['peer_seconds']:.2f} s"
        console.print(f"{row['victim']}, {row['attack']}: {row['seconds']:.2f} s, {row['ratio']:.2f} × floor{beside}")
    console.print(table(rows))


if __name__ == "__main__":
    main()
