"""What speed.py measures on a victim: our attacks, driven as the bench does, and the peers that have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import peers
import peers_evolution
import torch
from floor import now
from foolbench.attacks.base import Fool, Perturb
from foolbench.attacks.cppn import Cppn
from foolbench.attacks.deepception import Deepception
from foolbench.attacks.evolution import Evolution
from foolbench.attacks.fgsm import Fgsm
from foolbench.attacks.gradient_ascent import GradientAscent
from foolbench.attacks.one_pixel import OnePixel
from foolbench.bench.asking.answers import checked_answers
from foolbench.bench.asking.reading import hits_fool, hits_perturb
from foolbench.bench.battery.ground import Asking
from foolbench.bench.running.drive import Meter, drive_black_box
from foolbench.bench.running.oracle import DrivenOracle, Look
from peers import Cost
from torch import Tensor
from victims import Victim

TAU = 0.99
UNBOUNDED = 10**12
EPSILONS = [0.02, 0.04, 0.06, 0.08, 0.1]
REPEATS = 5


@dataclass(frozen=True)
class Peer:
    """Another library's attack."""

    module: str
    """What the library is imported as."""
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
    seen = _never if white and fool else hit
    meter = Meter(owners, each, UNBOUNDED, UNBOUNDED, seen, lambda asked, fooled: None, victim.device)
    rng, victim_rng = (torch.Generator(victim.device).manual_seed(seed) for seed in (0, 1))
    started = now(victim.device)
    if white:
        oracle = DrivenOracle(classifier, meter, victim_rng, Asking(victim.gradient_batch), 1, lambda: False)
        oracle.looks = {} if looks is None else looks
        finals = attack.ascend(task, oracle, rng)
    else:
        finals = drive_black_box(
            attack, task, classifier, meter, attack_rng=rng, victim_rng=victim_rng, how=Asking(victim.batch),
            stop=lambda: False,
        )  # fmt: skip
    seconds = now(victim.device) - started
    success = meter.fooled / (owners * each)
    if white:
        probabilities = checked_answers(
            classifier, finals.reshape(-1, *classifier.shape), victim_rng, Asking(victim.batch)
        )
        if isinstance(task, Fool):
            aims = task.targets.repeat(task.runs)
            success = float((probabilities.gather(1, aims.unsqueeze(1)) >= TAU).float().mean())
        else:
            success = float((probabilities.argmax(1) != task.labels).float().mean())
    return Cost(seconds, meter.queries + meter.gradients, success)


def _never(probabilities: Tensor, rows: Tensor) -> Tensor:
    return torch.zeros(len(rows), 1, dtype=torch.bool, device=rows.device)


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
    shape, targets = victim.classifier.shape, torch.arange(victim.classifier.classes, device=victim.device)
    fool, once = Fool(shape, targets, 2, mean), Fool(shape, targets, 1, mean)
    # Each target is a task of its own there, so of many classes some, as imagenet-v1 has it.
    ascents = Fool(shape, targets[:: max(1, len(targets) // 100)], 2, mean)
    perturb = Perturb(images, labels, donors, mean)
    # A single look at each: on a GPU a tenth would not fill the batch that the floor is measured at.
    looked = 200 if victim.device.type == "cuda" else 200 // less
    many = Perturb(victim.images[:looked], victim.labels[:looked], donors, mean)
    search = (images, labels, population, iterations)
    steep = (many.images, many.labels, EPSILONS)
    side = max(2, shape[1] // 4)

    def drive(attack: Any, task: Fool | Perturb) -> Callable[[], Cost]:
        return lambda: ours(victim, attack, task)

    return {
        "evolution": Part(
            drive(Evolution(children=200, generations=generations), fool),
            {"pyribs MAP-Elites": Peer(
                "ribs",
                lambda: peers_evolution.ribs_evolution(victim, 200, few),
                drive(Evolution(children=200, generations=few), once)
            )},
        ),
        "cppn": Part(
            drive(Cppn(children=200, generations=generations), fool),
            {"neat-python": Peer(
                "neat",
                lambda: peers_evolution.neat_cppn(victim, 200, fewest),
                drive(Cppn(children=200, generations=fewest), once)
            )},
        ),
        "deepception": Part(drive(Deepception(side=side, stride=max(1, side // 2), copies=4), perturb)),
        "one_pixel": Part(
            drive(OnePixel(pixels=1, population=population, iterations=iterations), perturb),
            {
                "torchattacks OnePixel": Peer("torchattacks", lambda: peers.torchattacks_one_pixel(victim, *search)),
                "ART PixelAttack": Peer("art", lambda: peers.art_one_pixel(victim, *search)),
                "SciPy DE": Peer("scipy", lambda: peers.scipy_one_pixel(victim, *search)),
            },
        ),
        "gradient_ascent": Part(drive(GradientAscent("softmax", starts=(1 / 255,), steps=steps), ascents)),
        "fgsm": Part(
            lambda: _grid(victim, many),
            {
                "torchattacks FGSM": Peer("torchattacks", lambda: peers.torchattacks_fgsm(victim, *steep)),
                "ART FGSM": Peer("art", lambda: peers.art_fgsm(victim, *steep)),
                "foolbox FGSM": Peer("foolbox", lambda: peers.foolbox_fgsm(victim, *steep)),
            },
            share=len(EPSILONS),
        ),
    }  # fmt: skip


def median(run: Callable[[], Cost]) -> Callable[[], Cost]:
    """The median by time of several runs: at a slow peer's budget ours takes milliseconds."""
    return lambda: sorted((run() for _ in range(REPEATS)), key=lambda cost: cost.seconds)[REPEATS // 2]


def _grid(victim: Victim, task: Perturb) -> Cost:
    """FGSM at every ε of the grid, as a battery's curve has it: entries that share a look at the images."""
    looks: dict[str, Look] = {}
    parts = [ours(victim, Fgsm(epsilon), task, looks) for epsilon in EPSILONS]
    return Cost(sum(p.seconds for p in parts), sum(p.queries for p in parts), parts[-1].success)
