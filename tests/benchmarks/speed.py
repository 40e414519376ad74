"""How fast each attack is against the floor (queries × the victim's time per image at its best batch on its fastest
backend) and against the same attack in other libraries, in one run on one machine.

    uv run --group peers python tests/benchmarks/speed.py [--quick] [--json FILE] [--only ATTACK …]

Everything runs on one thread; ratios are what to quote. Peers differ in what they do beside the attack itself (their
strategies and stopping rules), so success stands beside each time.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import torch
from backends import backend_rows
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
from rich.console import Console
from rich.table import Table
from torch import Tensor
from victims import Floor, Victim, data_folder, victims

TAU = 0.99
UNBOUNDED = 10**12
EPSILONS = [0.02, 0.04, 0.06, 0.08, 0.1]
Row = dict[str, Any]
Floored = tuple[float, str]
"""Seconds of the floor for a run's queries, and what it was measured on."""


def ours(victim: Victim, attack: Any, task: Fool | Perturb, looks: dict[str, Look] | None = None) -> peers.Cost:
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
    return peers.Cost(seconds, meter.queries + meter.gradients, success)


def _never(owners: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda probabilities, rows: torch.zeros(len(rows), 1, dtype=torch.bool)


def _quiet(asked: int, fooled: int) -> None:
    pass


def rows_of(victim: Victim, quick: bool, only: set[str]) -> Iterator[Row]:
    """Every attack on one victim, with each peer that has it."""
    forward, backward = victim.fastest(), victim.gradient()
    mean = victim.images.mean(0)
    less = 10 if victim.large else 1
    n = 10 if quick else 50
    images, labels = victim.images[: n // less], victim.labels[: n // less]
    donors = victim.images[-40:]
    population, iterations = 400, max((10 if quick else 50) // less, 2)
    generations, steps = (50 if quick else 250) // less, (50 if quick else 200) // less
    fool = Fool(victim.classifier.shape, torch.arange(victim.classifier.classes), 2, mean)
    perturb = Perturb(images, labels, donors, mean)
    many = Perturb(victim.images[: 200 // less], victim.labels[: 200 // less], donors, mean)
    search = (images, labels, population, iterations)
    side = max(2, victim.classifier.shape[1] // 4)

    def row(
        name: str, cost: peers.Cost, floor: Floored, peer: str | None = None, other: peers.Cost | None = None
    ) -> Row:
        return {
            "attack": name,
            "victim": victim.name,
            "device": "cpu, 1 thread",
            "backend": floor[1],
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

    plan: dict[str, tuple[Any, Fool | Perturb, dict[str, Callable[[], peers.Cost]]]] = {
        "evolution": (
            Evolution(children=200, generations=generations), fool,
            {"pyribs MAP-Elites": lambda: peers.ribs_evolution(victim, 200, generations // 10)},
        ),
        "cppn": (
            Cppn(children=200, generations=generations), fool,
            {"neat-python": lambda: peers.neat_cppn(victim, 200, 3)},
        ),
        "deepception": (Deepception(side=side, stride=max(1, side // 2), copies=4), perturb, {}),
        "one_pixel": (
            OnePixel(pixels=1, population=population, iterations=iterations), perturb,
            {
                "torchattacks OnePixel": lambda: peers.torchattacks_one_pixel(victim, *search),
                "ART PixelAttack": lambda: peers.art_one_pixel(victim, *search),
                "SciPy DE": lambda: peers.scipy_one_pixel(victim, *search),
            },
        ),
        "gradient_ascent": (GradientAscent(objective="softmax", decay=0.0, steps=steps), fool, {}),
    }  # fmt: skip
    for name, (attack, task, others) in plan.items():
        if only and name not in only:
            continue
        ours(victim, attack, task)  # the first time pays for what happens once
        cost, floor = _with_floor(
            backward if name == "gradient_ascent" else forward, lambda a=attack, t=task: ours(victim, a, t)
        )
        measured = {} if victim.large else dict(_peers(others))
        if not measured:
            yield row(name, cost, floor)
        for peer, other in measured.items():
            yield row(name, cost, floor, peer, other)
    if not only or "fgsm" in only:
        _grid(victim, many)
        cost, (each, backend) = _with_floor(backward, lambda: _grid(victim, many))
        floor = each / len(EPSILONS), backend  # the grid needs one gradient an image
        if victim.large:
            yield row("fgsm", cost, floor)
            return
        for peer, other in _peers({
            "torchattacks FGSM": lambda: peers.torchattacks_fgsm(victim, many.images, many.labels, EPSILONS),
            "ART FGSM": lambda: peers.art_fgsm(victim, many.images, many.labels, EPSILONS),
            "foolbox FGSM": lambda: peers.foolbox_fgsm(victim, many.images, many.labels, EPSILONS),
        }):  # fmt: skip
            yield row("fgsm", cost, floor, peer, other)


def _with_floor(floor: Floor, run: Callable[[], peers.Cost]) -> tuple[peers.Cost, Floored]:
    """Run it between two measurements of the floor, whose mean counts."""
    before = floor.seconds()
    cost = run()
    return cost, (cost.queries * (before + floor.seconds()) / 2, floor.backend)


def _grid(victim: Victim, task: Perturb) -> peers.Cost:
    """FGSM at every ε of the grid, as a battery's curve has it: entries that share a look at the images."""
    looks: dict[str, Look] = {}
    parts = [ours(victim, Fgsm(epsilon), task, looks) for epsilon in EPSILONS]
    return peers.Cost(sum(p.seconds for p in parts), sum(p.queries for p in parts), parts[-1].success)


def _peers(others: dict[str, Callable[[], peers.Cost]]) -> Iterator[tuple[str, peers.Cost]]:
    for name, run in others.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield name, run()
        except Exception as error:  # a peer that fails with the versions at hand is left out, with its reason
            Console(stderr=True).print(f"{name} left out: {type(error).__name__}: {str(error)[:160]}", style="yellow")


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    out = Table(title="time ÷ floor, and peers at about the same queries a task", title_justify="left", box=None)
    for name in (
        "victim",
        "attack",
        "queries",
        "seconds",
        "÷ floor",
        "success",
        "peer",
        "µs a query",
        "× ours",
        "success",
    ):
        out.add_column(name, justify="left" if name in ("victim", "attack", "peer") else "right")
    for r in rows:
        own = r["seconds"] / r["queries"]
        cells = [
            r["victim"],
            r["attack"] if r["success"] is not None else r["backend"],
            f"{r['queries']:,}",
            f"{r['seconds']:.2f}",
            f"{r['ratio']:.2f}",
            "" if r["success"] is None else f"{r['success']:.0%}",
        ]
        if r["peer"] is None:
            cells += ["", "", "", ""]
        else:
            # FGSM is compared image by image and ε by ε: some peers also ask how each image was answered.
            other = r["peer_seconds"] / (r["queries"] if r["attack"] == "fgsm" else r["peer_queries"])
            cells += [r["peer"], f"{other * 1e6:.1f}", f"{other / own:.1f}", f"{r['peer_success']:.0%}"]
        out.add_row(*cells)
    return out


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and generations: minutes")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--only", nargs="*", default=[], help="these attacks only, or backends")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    only = set(arguments.only)
    rows = [row for victim in victims() for row in rows_of(victim, arguments.quick, only)]
    if data_folder() is not None and (not only or "backends" in only):
        rows += backend_rows(arguments.quick)
    Console(width=150).print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
