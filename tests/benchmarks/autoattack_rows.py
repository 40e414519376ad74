"""One network at one ε: the L∞ row of the battery beside AutoAttack of two other libraries, on the same images."""
# The peers are in a dependency group of their own: uv run --group peers …
# pyright: reportMissingImports=false

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoattack_nets import LINF, Net, restricted, value
from certified import certified
from floor import now
from foolbench.attacks.levels import Levels
from foolbench.bench import evaluate, read_submission
from foolbench.bench.battery.battery import Battery
from foolbench.bench.battery.ground import Ground
from foolbench.bench.choices import DeviceName
from foolbench.bench.machine.device import choose
from foolbench.bench.submission.submission import GivenSubmission
from foolbench.bench.victim.assemble import subject_of
from foolbench.leaderboard.record.record import Record
from foolbench.leaderboard.record.rows import column
from foolbench.models.base import Classifier
from peers import Counting
from torch import Tensor, nn
from victims import differentiable

Row = dict[str, Any]
POINT = 0.01
"""How far above AutoAttack's the row's robust accuracy may lie."""
HALF = 0.5
"""How much of AutoAttack's time the row may take."""
SEED = 0
PEERS = ("torchattacks", "art")


@dataclass(frozen=True)
class Attacked:
    """What an attack left of the images that were right before, and what it cost."""

    left: np.ndarray
    """`(n,)` bool, of all images: right before, and not lost."""
    seconds: float
    queries: int
    more: dict[str, Any]


def row_of(net: Net, epsilon: str, images: int, device: DeviceName, folder: Path) -> Row:
    """Measure a network at one ε. Raises FoolbenchError, DataError, and whatever a peer raises."""
    given = read_submission(net.make(folder / "submission"))
    battery = restricted(net.battery, epsilon, images, folder / "battery")
    right, ours = _ours(given, battery, device, folder / "run")
    ground = Ground(battery, battery.load(), choose(device))
    victim = subject_of(given).assemble(ground).victim
    pixels = ground.data.pixels(victim.device)[:images]
    labels = torch.tensor(ground.data.labels[:images], device=victim.device, dtype=torch.int64)
    kept = torch.tensor(right, device=victim.device)
    found = {"ours": ours}
    for name, attack in (("torchattacks", torchattacks_standard), ("art", art_standard)):
        found[name] = left_by(victim, pixels, labels, kept, value(epsilon), ground.levels, attack)
    proven = None
    if net.chain is not None:
        proven = certified(net.chain(), pixels.cpu(), labels.cpu(), value(epsilon)).numpy() & right
    return _row(net.name, epsilon, right, found, proven)


def _row(name: str, epsilon: str, right: np.ndarray, found: dict[str, Attacked], proven: np.ndarray | None) -> Row:
    ours, peers = found["ours"], {peer: found[peer] for peer in PEERS}
    accuracy = {who: float(attacked.left.mean()) for who, attacked in found.items()}
    ratios = {peer: ours.seconds / attacked.seconds for peer, attacked in peers.items()}
    return {
        "net": name,
        "epsilon": epsilon,
        "images": len(right),
        "clean_accuracy": float(right.mean()),
        "robust_accuracy": accuracy,
        "seconds": {who: attacked.seconds for who, attacked in found.items()},
        "queries": {who: attacked.queries for who, attacked in found.items()},
        "time_ratio": ratios,
        "more": {who: attacked.more for who, attacked in found.items()},
        "certified": None if proven is None else float(proven.mean()),
        "refuted": None if proven is None else int((proven & ~ours.left).sum()),
        "within_a_point": {peer: accuracy["ours"] <= accuracy[peer] + POINT + 1e-9 for peer in peers},
        "in_half_the_time": {peer: ratio <= HALF for peer, ratio in ratios.items()},
        "above_the_proof": None if proven is None else not (proven & ~ours.left).any(),
        "error": None,
    }


def _ours(given: GivenSubmission, battery: Battery, device: DeviceName, out: Path) -> tuple[np.ndarray, Attacked]:
    """Which images were right before, and the L∞ row. Its seconds are those of its attacks, judge included."""
    record = evaluate(given, battery=battery, device=device, workers=1, out=out).record
    result = record.rows[LINF]
    if result.endurance.value is None:
        raise ValueError(f"expected the row {LINF} to be measured, got {result.endurance.reason}")
    right = np.array(result.counts)
    left = right & np.isnan(column(result.lost))
    costs = _costs(record)
    took = {name: result.by.count(name) for name in costs}
    queries = sum(c["queries"] + 3 * c["gradients"] for c in costs.values())
    more = {name: cost | {"took": took[name]} for name, cost in costs.items()}
    return right, Attacked(left, sum(c["seconds"] for c in costs.values()), queries, more)


def _costs(record: Record) -> dict[str, dict[str, Any]]:
    """What each attack of the row cost at the one ε."""
    entries = next(row.entries for row in record.battery.ranked if row.name == LINF)
    made = {name: record.attacks[name] for name in entries if name in record.attacks}
    return {
        name: {"seconds": a.seconds or 0.0, "queries": a.total_queries, "gradients": a.gradients}
        for name, a in made.items()
    }


Run = Callable[[Tensor, Tensor], Tensor]
"""Images and labels in, adversarial images out."""
Prepared = Callable[[nn.Module, tuple[int, ...], int, float, str], Run]
"""An attack on a module: its input's shape, its classes, ε, and the type of its device."""


def left_by(
    victim: Classifier, pixels: Tensor, labels: Tensor, right: Tensor, epsilon: float, levels: Levels, attack: Prepared
) -> Attacked:
    """AutoAttack on the images that were right before. An image beyond ε is no success. Its images lie between the
    gray levels; how many are left when they are rounded, as any 8-bit image is, stands beside."""
    model = Counting(differentiable(victim)).eval()
    images, truth = pixels[right], labels[right]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = attack(model, tuple(images.shape[1:]), victim.classes, epsilon, victim.device.type)
        model(images)  # the first time pays for what happens once
        model.images, started = 0, now(victim.device)
        finals = (run(images, truth) if len(images) else images).to(images).clamp(0, 1)
    seconds = now(victim.device) - started
    within = (finals - images).abs().flatten(1).amax(1) <= epsilon + 1e-5
    left, rounded = right.clone(), right.clone()
    left[right] = ~(within & _other(victim, finals, truth))
    rounded[right] = ~(within & _other(victim, levels.rounded(finals), truth))
    more = {"rounded": float(rounded.float().mean()), "beyond_epsilon": int((~within).sum())}
    return Attacked(left.cpu().numpy(), seconds, model.images, more)


def _other(victim: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    return victim.probabilities(images, torch.Generator(victim.device)).argmax(1) != labels


def torchattacks_standard(model: nn.Module, shape: tuple[int, ...], classes: int, epsilon: float, device: str) -> Run:
    """torchattacks.AutoAttack, standard: APGD-CE, APGD-T, FAB-T, Square."""
    import torchattacks

    return torchattacks.AutoAttack(model, norm="Linf", eps=epsilon, n_classes=classes, seed=SEED)


def art_standard(model: nn.Module, shape: tuple[int, ...], classes: int, epsilon: float, device: str) -> Run:
    """art.attacks.evasion.AutoAttack: APGD-CE, APGD-DLR, DeepFool, Square, five starts each but for DeepFool. The first
    step is twice eps_step, which is ε as in Croce & Hein 2020."""
    from art.attacks.evasion import AutoAttack
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, loss=nn.CrossEntropyLoss(), input_shape=shape, nb_classes=classes, clip_values=(0.0, 1.0),
        device_type="gpu" if device == "cuda" else "cpu",
    )  # fmt: skip
    attack: Any = AutoAttack(wrapped, norm=np.inf, eps=epsilon, eps_step=epsilon, batch_size=256)
    for part in attack.attacks:
        part.verbose = False

    def run(images: Tensor, labels: Tensor) -> Tensor:
        np.random.seed(SEED)  # what the library draws from
        return torch.from_numpy(
            attack.generate(images.cpu().numpy(), np.eye(classes, dtype=np.float32)[labels.cpu().numpy()])
        )

    return run
