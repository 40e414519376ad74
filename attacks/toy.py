"""A small victim and small tasks for checks, and a driver that counts what an attack asks of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from .answers import label_alone
from .base import Ascent, BlackBox, Fool, Objective, Oracle, Perturb, Query, WhiteBox
from .entry import Entry
from .levels import EIGHT_BITS
from .spec import BatteryFacts

SIDE, CLASSES, RUNS, IMAGES, DONORS, PANEL = 8, 3, 2, 4, 6, 2


def facts(channels: int) -> BatteryFacts:
    """What the toy battery has: 8 × 8 images, 3 classes, 6 donors, 2 models to borrow images from."""
    return BatteryFacts((channels, SIDE, SIDE), CLASSES, DONORS, panel=PANEL)


@dataclass(frozen=True)
class Toy:
    """A linear network whose weights vary smoothly over the image, so that patterns and patches can speak to it."""

    channels: int
    rejects: bool = False
    """Whether a fourth column takes probability away from the classes."""

    def logits(self, images: Tensor) -> Tensor:
        """`(n, c, 8, 8)` in [0, 1] -> `(n, 3)`, or `(n, 4)` where it rejects."""
        y, x = torch.meshgrid(torch.linspace(0, 3, SIDE), torch.linspace(0, 3, SIDE), indexing="ij")
        planes = range(CLASSES * self.channels)
        weight = torch.stack([torch.sin(x + i) * torch.cos(y * (i + 1) / 2 + i) for i in planes])
        weight = 3 * weight.view(CLASSES, -1)
        weight = (weight - weight.mean(0)) / 8
        scores = (images - 0.5).flatten(1) @ weight.T
        return torch.cat([scores, scores[:, :1] * 0.5], 1) if self.rejects else scores

    def probabilities(self, images: Tensor) -> Tensor:
        """`(n, 3)`: of the classes alone; what is missing from 1 is rejected. Images are rounded to 8 bits first."""
        with torch.no_grad():
            return self.logits(EIGHT_BITS.rounded(images)).softmax(1)[:, :CLASSES]


def seeded(seed: int) -> torch.Generator:
    """A stream on the CPU."""
    return torch.Generator().manual_seed(seed)


def task_of(entry: Entry, victim: Toy) -> Fool | Perturb:
    """Two runs at all classes, or four images that the victim has labelled, with six donors; targets where the entry
    is aimed, and what it borrows."""
    c = victim.channels
    if entry.task == "fool":
        return Fool((c, SIDE, SIDE), torch.tensor(entry.targets), RUNS, torch.full((c, SIDE, SIDE), 0.4))
    images = torch.randint(40, 216, (IMAGES + DONORS, c, SIDE, SIDE), generator=seeded(3)) / 255
    answered = victim.probabilities(images[:IMAGES])
    donors = images[IMAGES:]
    task = Perturb(images[:IMAGES], answered.argmax(1), donors, donors.mean(0))
    if entry.borrows and entry.limit is not None:
        task = replace(task, borrowed=_borrowed(task, victim, entry.limit.value))
    if entry.fixed_target is not None:
        return replace(task, targets=torch.full_like(task.labels, entry.fixed_target))
    return replace(task, targets=answered.argmin(1)) if entry.least_likely else task


def _borrowed(task: Perturb, victim: Toy, epsilon: float) -> Tensor:
    """`(2, t, c, h, w)`: what models that see every other pixel as the victim does made of the task's images: steps of
    whole gray levels against their labels."""
    leaf = task.images.clone().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(victim.logits(leaf).gather(1, task.labels[:, None]).sum(), leaf)
    seen = (torch.arange(SIDE) + torch.arange(PANEL)[:, None]) % PANEL == 0
    steps = -EIGHT_BITS.whole(epsilon) * slope.sign() * seen[:, None, None, None, :]
    return EIGHT_BITS.moved(task.images, steps)


@dataclass
class Ran:
    """What an entry's attack did on its toy task."""

    task: Fool | Perturb
    finals: Tensor
    asked: list[Query]
    """As the attack put its questions (a white box: without what it differentiated)."""
    spent: Tensor
    """`(owners,)` int64: queries and gradients of each task, or of each run of a black-box Fool."""
    setup: int
    gradients: int


@dataclass
class _Counting(Oracle):
    """The Oracle of a white-box attack over the toy, counting."""

    victim: Toy
    spent: Tensor
    asked: list[Query] = field(default_factory=list)
    gradients: int = 0

    def __post_init__(self) -> None:
        self.rejects = self.victim.rejects

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        self.asked.append(Query(images.clone(), owners.clone()))
        self.spent += torch.bincount(owners, minlength=len(self.spent))
        return self.victim.probabilities(images)

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        self.spent += torch.bincount(owners, minlength=len(self.spent))
        self.gradients += len(images)
        leaf = images.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            logits = self.victim.logits(leaf)
            values = objective(logits, torch.arange(len(images)))
            (gradients,) = torch.autograd.grad(values.sum(), leaf)
        return Ascent(logits.detach(), values.detach(), gradients)

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        return self.gradient(images, owners, objective).gradients.sign()


def run(entry: Entry, victim: Toy, seed: int = 0, task: Fool | Perturb | None = None) -> Ran:
    """Drive an entry's attack to its end on `task` (by default `task_of`), with the stream of `seed`."""
    task = task or task_of(entry, victim)
    if isinstance(task, Perturb):
        owners = len(task.images)
    else:
        owners = task.runs * (len(task.targets) if entry.box == "white" else 1)
    spent = torch.zeros(owners, dtype=torch.int64)
    if entry.box == "white":
        oracle = _Counting(victim, spent)
        finals = cast(WhiteBox[Any], entry.attack).ascend(task, oracle, seeded(seed))
        return Ran(task, finals, oracle.asked, spent, 0, oracle.gradients)
    asked: list[Query] = []
    setup = 0
    search = cast(BlackBox[Any], entry.attack).search(task, seeded(seed))
    try:
        query = next(search)
        while True:
            asked.append(Query(query.images.clone(), query.owners.clone()))
            own = query.owners[query.owners >= 0]
            setup += len(query.owners) - len(own)
            spent += torch.bincount(own, minlength=owners)
            answered = victim.probabilities(query.images)
            query = search.send(label_alone(answered) if entry.access == "label" else answered)
    except StopIteration as finished:
        return Ran(task, finished.value, asked, spent, setup, 0)
