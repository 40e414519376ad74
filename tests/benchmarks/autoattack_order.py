"""Submissions in the order of their robust accuracy under AutoAttack, an order that owes this project nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from autoattack_nets import headline, value
from autoattack_rows import left_by, torchattacks_standard
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Ground
from foolbench.bench.choices import DeviceName
from foolbench.bench.machine.device import choose
from foolbench.bench.machine.seeds import generator
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import subject_of


def accuracy_of(submission: Path, images: int | None, device: DeviceName) -> tuple[str, float | str]:
    """A submission's name, and its robust accuracy at its battery's headline ε under torchattacks' AutoAttack on the
    first so many evaluation images (None: all); or why it has none that means anything. Through what has no gradient
    AutoAttack goes by the defense's own stand-in.

    Raises FoolbenchError.
    """
    given = read_submission(submission)
    battery = read_battery(given.spec.battery, folder=given.folder)
    data = battery.load()
    victim = subject_of(given).assemble(Ground(battery, data, choose(device))).victim
    if victim.logits is None:
        return given.spec.name, "it has no gradient"
    if victim.randomised:
        return given.spec.name, "chance decides its answers, which the standard attacks do not allow for"
    if victim.rejects:
        return given.spec.name, "it may reject, which AutoAttack would count as fooled"
    pixels = data.pixels(victim.device)[:images]
    labels = torch.tensor(data.labels[:images], device=victim.device, dtype=torch.int64)
    rng = generator(battery.spec.name, "clean", device=victim.device)
    right = victim.probabilities(pixels, rng).argmax(1) == labels
    epsilon, levels = value(headline(given.spec.battery)), battery.spec.facts.levels
    found = left_by(victim, pixels, labels, right, epsilon, levels, torchattacks_standard)
    return given.spec.name, float(found.left.mean())
