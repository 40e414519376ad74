"""Projected gradient ascent within an L∞ limit (Madry 2018), with the step sizes of APGD (Croce & Hein 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import label_of, margins, targeted_margins
from .ascending.losses import Aim, Loss, objective_of
from .ascending.schedule import Path, checkpoints
from .base import Oracle, Perturb
from .entry import Entry, Limit
from .spec import AtLeastOne, Attack, BatteryFacts, EpsilonSpec, Strict


@dataclass(frozen=True)
class ProjectedAscent:
    """Madry, Makelov, Schmidt, Tsipras & Vladu, "Towards deep learning models resistant to adversarial attacks" (ICLR
    2018), section 2.1, as Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks" (ICML 2020), section 3, made it free of parameters (APGD).

    From an image of the ε ball, each step goes along the sign of the objective's gradient, at first by 2ε, back into
    the ball and [0, 1], and keeps `momentum` of it and the rest of the step before. At checkpoints (ascending/
    schedule.py) the step is halved where the objective has not risen enough, and goes on from the best iterate. This is
    done once for each of `losses` and `restarts`, and once for each of `aims`, with the images that are left.

    - Losses (ascending/losses.py): `probability`, the log of the wrong classes' summed probability, in place of the
      label's cross-entropy for the reasons of Fgsm; and `dlr`, the difference of logits ratio (section 4). What must
      win is a real class, over both the label and the rejection.
    - `aims`: as targeted APGD does in AutoAttack, `dlr` towards the classes that are likeliest on the image itself
      beside its label, a run for each.
    - The first run starts at the image itself, so that its first step gives Fgsm's image and none that one step fools
      is missed; all others start at random in the ball.
    - Iterates are rounded to the task's levels before they are asked; the ascent goes on from where they were. The
      final is what was asked.
    - An image leaves as soon as the victim's own answer accepts it with another label (targeted: as its target).
      Gradients may be those of a stand-in, so their logits decide nothing: an iterate is asked where they say that it
      fools, at the start, at checkpoints, at the best iterate of a run, and at every one once they were found wrong
      about the image's label. The image of least margin that was asked is what is returned without success.
    - Where a gradient is zero everywhere or not a number, the step goes in a random direction.
    - `dlr` towards a class divides by the largest less the third logit too (there: less the mean of the third and the
      fourth).

    An image costs at most `most_spent` gradients and queries. All images advance together.
    """

    epsilon: float
    """The largest change of a pixel, in units of [0, 1]."""
    steps: int = 100
    """Gradients a run."""
    losses: tuple[Loss, ...] = ("probability", "dlr")
    restarts: int = 1
    """Runs for each loss."""
    aims: int = 0
    """Runs towards one class each."""
    momentum: float = 0.75
    targeted: bool = False
    """Whether to go towards the task's targets rather than away from its labels; then there are no `aims`."""

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise Unexpected("epsilon in (0, 1]", self.epsilon, "give it in pixel values of [0, 1]")
        if self.steps < 2 or self.restarts < 1 or not self.losses or self.aims < 0 or not 0 < self.momentum <= 1:
            raise Unexpected(
                "steps of at least 2, restarts of at least 1, a loss, aims of at least 0, momentum in (0, 1]",
                f"{self.steps}, {self.restarts}, {self.losses}, {self.aims} and {self.momentum}",
                "correct the one outside",
            )

    @property
    def most_spent(self) -> int:
        """Gradients and queries that an image can cost."""
        runs = len(self.losses) * self.restarts + (0 if self.targeted else self.aims)
        return runs * (2 * self.steps + 1)

    def ascend(self, task: Perturb, oracle: Oracle, rng: torch.Generator) -> Tensor:
        """The images that fooled, or else those of least margin, `(t, c, h, w)`, on the task's levels.

        Raises ValueError when targeted and the task has no targets.
        """
        if self.targeted and task.targets is None:
            raise Unexpected("a task with targets for a targeted ascent", "None", "set Perturb.targets")
        block = _Block(self, task, oracle, rng)
        everything = Aim(task.labels, task.targets if self.targeted else None, self.targeted, oracle.rejects)
        for restart in range(self.restarts):
            for i, loss in enumerate(self.losses):
                block.run(loss, everything, at_random=restart + i > 0)
        for k in range(0 if self.targeted else self.aims):
            if block.likely is not None and k < block.likely.shape[1]:
                block.run("dlr", everything._replace(classes=block.likely[:, k]), at_random=True)
        return block.finals


class _Block:
    """The images of a task, which of them are left, and the best that was asked about each."""

    def __init__(self, attack: ProjectedAscent, task: Perturb, oracle: Oracle, rng: torch.Generator) -> None:
        self.attack, self.task, self.oracle, self.rng = attack, task, oracle, rng
        device = task.images.device
        self.finals = task.images.clone()
        self.margin = torch.full((len(task.images),), torch.inf, device=device)
        self.left = torch.arange(len(task.images), device=device)
        self.wrong = torch.zeros(len(task.images), dtype=torch.bool, device=device)
        """Whether the logits that came with a gradient were seen to be wrong about an image's label."""
        self.likely: Tensor | None = None
        """`(t, K - 1)` int64: the classes beside an image's label, from its first logits, the likeliest first."""

    def run(self, loss: Loss, aim: Aim, *, at_random: bool) -> None:
        """One ascent from every image that is left. `aim` has a row for each image of the task."""
        rows, steps = self.left, self.attack.steps
        if not len(rows):
            return
        aim, marks, last = aim.of(rows), checkpoints(steps - 1), 0
        path = Path.start(self._start(rows, at_random), 2 * self.attack.epsilon)
        for step in range(steps):
            asked = self.task.levels.rounded(path.at)
            seen = self.oracle.gradient(asked, rows, objective_of(loss, aim))
            said = label_of(seen.logits.softmax(1)[:, : seen.logits.shape[1] - self.oracle.rejects])
            if self.likely is None:
                self.likely = self._likely(seen.logits)
            signs = self._signs(seen.gradients)
            path.saw(seen.values, signs, first=step == 0)
            if step in marks:
                signs, last = path.check(signs, step - last), step
            left = ~self._ask(asked, rows, said, everybody=step < 2 or step in marks)
            if not bool(left.all()):
                rows, aim, signs = rows[left], aim.of(left), signs[left]
                path.keep(left)
            if not len(rows):
                break
            if step + 1 < steps:
                self._move(path, rows, signs, first=step == 0)
        if len(rows):
            fooled = self._reached(self._told(self.task.levels.rounded(path.best), rows), rows)
            rows = rows[~fooled]
        self.left = rows

    def _start(self, rows: Tensor, at_random: bool) -> Tensor:
        images = self.task.images[rows]
        if not at_random:
            return images
        noise = torch.rand(images.shape, generator=self.rng, device=images.device)
        return (images + self.attack.epsilon * (2 * noise - 1)).clamp_(0, 1)

    def _move(self, path: Path, rows: Tensor, signs: Tensor, *, first: bool) -> None:
        """A step, and what is left of the one before."""
        images = self.task.images[rows]
        low, high = images - self.attack.epsilon, images + self.attack.epsilon
        ahead = (path.at + path.step.view(-1, 1, 1, 1) * signs).clamp(low, high).clamp_(0, 1)
        if not first:
            kept = self.attack.momentum
            drift = path.at - path.before
            ahead = (path.at + kept * (ahead - path.at) + (1 - kept) * drift).clamp(low, high).clamp_(0, 1)
        path.before, path.at = path.at, ahead

    def _signs(self, gradients: Tensor) -> Tensor:
        """`(n, c, h, w)` int8."""
        signs = gradients.sign().nan_to_num_(0).to(torch.int8)
        dead = ~signs.flatten(1).any(1)
        if bool(dead.any()):
            shape = (int(dead.sum()), *signs.shape[1:])
            drawn = torch.randint(0, 2, shape, generator=self.rng, device=signs.device, dtype=torch.int8)
            signs[dead] = 2 * drawn - 1
        return signs

    def _ask(self, images: Tensor, rows: Tensor, said: Tensor, *, everybody: bool) -> Tensor:
        """`(n,)` bool: which of these images were seen to fool. Not all are asked: `said` is what their logits say."""
        asking = torch.ones_like(said, dtype=torch.bool) if everybody else self._reached(said, rows) | self.wrong[rows]
        fooled = torch.zeros_like(asking)
        if bool(asking.any()):
            owners = rows[asking]
            told = self._told(images[asking], owners)
            self.wrong[owners] |= told != said[asking]
            fooled[asking] = self._reached(told, owners)
        return fooled

    def _told(self, images: Tensor, owners: Tensor) -> Tensor:
        """The victim's labels of one image for each of `owners`, `(n,)`; the best are kept."""
        task = self.task
        probabilities = self.oracle.probabilities(images, owners)
        told = label_of(probabilities)
        if self.attack.targeted and task.targets is not None:
            margin = targeted_margins(probabilities, task.targets[owners])
        else:
            margin = margins(probabilities, task.labels[owners])
        margin = torch.where(self._reached(told, owners), -torch.inf, margin)
        better = margin < self.margin[owners]
        self.finals[owners[better]], self.margin[owners[better]] = images[better], margin[better]
        return told

    def _reached(self, labels: Tensor, rows: Tensor) -> Tensor:
        if self.attack.targeted and self.task.targets is not None:
            return labels == self.task.targets[rows]
        return (labels >= 0) & (labels != self.task.labels[rows])

    def _likely(self, logits: Tensor) -> Tensor:
        real = logits[:, : logits.shape[1] - self.oracle.rejects]
        others = real.scatter(1, self.task.labels[:, None], -torch.inf)
        return others.argsort(dim=1, descending=True, stable=True)[:, :-1]


class EverywhereSpec(Strict):
    """The targeted setting: from every image towards one class."""

    target: Annotated[int, Field(ge=0)]


class ProjectedAscentSpec(EpsilonSpec):
    """`projected_ascent` in a battery's YAML: a setting at each ε, and one towards a single class at the headline ε."""

    steps: Annotated[int, Field(ge=2)]
    losses: Annotated[tuple[Loss, ...], Field(min_length=1)]
    restarts: AtLeastOne
    aims: Annotated[int, Field(ge=0)]
    everywhere: EverywhereSpec | None = None


def entries(spec: ProjectedAscentSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """The headline ε, the curve (each ε on the images that smaller ones left), and all images towards one class."""

    def entry(name: str, title: str, attack: ProjectedAscent, carries: tuple[str, ...], target: int | None) -> Entry:
        return Entry(
            name,
            "projected_ascent",
            title,
            attack,
            "perturb",
            "white",
            spec.images,
            spec.images_per_shard,
            attack.most_spent,
            limit=Limit("linf", attack.epsilon),
            fixed_target=target,
            leaving=True,
            carries=carries,
        )

    settings = spec.settings("projected_ascent")
    for at in settings:
        attack = ProjectedAscent(at.epsilon, spec.steps, spec.losses, spec.restarts, spec.aims)
        yield entry(at.name, at.title, attack, at.smaller, None)
    if spec.everywhere is not None:
        target = spec.everywhere.target
        if target >= facts.classes:
            wanted, fix = f"a class from 0 to {facts.classes - 1}", f"target: {facts.classes - 1}"
            raise Unexpected(wanted, target, fix, at=("everywhere", "target"))
        attack = ProjectedAscent(settings[0].epsilon, spec.steps, spec.losses, spec.restarts, targeted=True)
        title = f"{settings[0].title}, every image towards class {target}"
        yield entry("projected_ascent_everywhere", title, attack, (), target)


ATTACK = Attack(
    name="projected_ascent",
    title="Projected gradient ascent",
    sentence=(
        "Share of images whose label many steps along the sign of the gradient changed, within the battery’s headline "
        "ε (Madry 2018, Croce & Hein 2020)."
    ),
    task="perturb",
    box="white",
    spec=ProjectedAscentSpec,
    entries=entries,
    example={
        "images": 8,
        "epsilon": 0.1,
        "curve": [0.05, 0.1],
        "steps": 6,
        "losses": ["probability", "dlr"],
        "restarts": 2,
        "aims": 1,
        "everywhere": {"target": 1},
        "images_per_shard": 8,
    },
)
