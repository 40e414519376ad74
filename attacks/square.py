"""Square: random search by squares within an L∞ limit (Andriushchenko, Croce, Flammarion & Hein 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import log_margins, mislabelled
from .base import Perturb, Query, Search
from .entry import Entry, Limit
from .spec import AtLeastOne, Attack, BatteryFacts, EpsilonSpec

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 steps the squares' area is halved."""


@dataclass(frozen=True)
class Square:
    """Andriushchenko, Croce, Flammarion & Hein, "Square Attack: a query-efficient black-box adversarial attack via
    random search" (ECCV 2020), section 3, algorithms 1 and 2.

    The first candidate has vertical stripes of ±ε, each column and channel its own sign. Each further one sets a square
    at a random place to ±ε, one sign a channel, and replaces the best so far where its loss is lower. The square's
    area is a share of the image, `share` at first, halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of
    10,000 queries, scaled to `queries`.

    - The loss is the margin between logarithms of probabilities, log max(p_y, rejected mass) - log max over j != y of
      p_j: what must win is a real class, over both the label and the rejection. Where nothing is rejected this is the
      paper's difference of logits.
    - An image leaves as soon as it is accepted with another label, which is where that loss is below 0.
    - ±ε is a whole number of the task's levels, so that the victim and the judge see the candidates as they are.
    - Where a square would change nothing, other signs are drawn, uniformly among the others, once; the authors' code
      draws until something changes.
    - Squares may lie at the last row and column too, which the authors' code leaves out.

    All images advance together, each with squares of its own.
    """

    epsilon: float
    """The largest change of a pixel, in units of [0, 1]."""
    queries: int = 5000
    """Of an image, at most."""
    share: float = 0.8
    """Of the image's area that the first squares cover."""

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1 or self.queries < 1 or not 0 < self.share <= 1:
            raise Unexpected(
                "epsilon in (0, 1], queries of at least 1, share in (0, 1]",
                f"{self.epsilon}, {self.queries} and {self.share}",
                "correct the one outside",
            )

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block; finals are `(t, c, h, w)`, on the task's levels."""
        t, channels, height, width = task.images.shape
        device, steps = task.images.device, task.levels.whole(self.epsilon)
        left = torch.arange(t, device=device)
        brighter, darker = (task.levels.moved(task.images, torch.tensor(by, device=device)) for by in (steps, -steps))
        best = torch.where(_up((t, channels, 1, width), rng, device), brighter, darker)
        answers = yield Query(best.clone(), left)
        loss = log_margins(answers, task.labels)
        left = left[~mislabelled(answers, task.labels)]
        for asked in range(1, self.queries):
            if not len(left):
                break
            square = _squares(len(left), self._side(asked, height, width), height, width, rng, device)
            up, flip = _up((len(left), channels, 1, 1), rng, device), _flips(len(left), channels, rng, device)
            before, low, high = best[left], darker[left], brighter[left]
            tried = torch.where(square, torch.where(up, high, low), before)
            same = (tried == before).flatten(1).all(1).view(-1, 1, 1, 1)
            tried = torch.where(square, torch.where(up ^ (flip & same), high, low), before)
            answers = yield Query(tried, left)
            found, fooled = log_margins(answers, task.labels[left]), mislabelled(answers, task.labels[left])
            better = fooled | (found < loss[left])
            best[left[better]], loss[left[better]] = tried[better], found[better]
            left = left[~fooled]
        return best

    def _side(self, asked: int, height: int, width: int) -> int:
        """Of the square, in pixels, after so many queries."""
        at = asked / self.queries * 10_000
        share = self.share / 2 ** sum(at > after for after in HALVINGS)
        return min(max(round((share * height * width) ** 0.5), 1), max(height, width))


def _up(shape: tuple[int, ...], rng: torch.Generator, device: torch.device) -> Tensor:
    """Bool, each value by itself, true as often as false."""
    return torch.randint(0, 2, shape, generator=rng, device=device).bool()


def _flips(n: int, channels: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """`(n, channels, 1, 1)` bool, at least one of them true in each row, all such rows alike likely."""
    drawn = torch.randint(1, 2**channels, (n, 1), generator=rng, device=device)
    return ((drawn >> torch.arange(channels, device=device)) & 1).bool().view(n, channels, 1, 1)


def _squares(n: int, side: int, height: int, width: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """`(n, 1, h, w)` bool: a square at a random place in each, as far as the image is that large."""
    inside = []
    for length in (height, width):
        at = torch.randint(0, length - min(side, length) + 1, (n, 1), generator=rng, device=device)
        from_start = torch.arange(length, device=device) - at
        inside.append((from_start >= 0) & (from_start < side))
    return (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)


class SquareSpec(EpsilonSpec):
    """`square` in a battery's YAML: a setting at each ε. An image costs at most `queries` in each."""

    queries: AtLeastOne
    share: Annotated[float, Field(gt=0, le=1)]


def entries(spec: SquareSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """The headline ε and the curve: each on what smaller ε, and gradients and transfer at the same ε, left."""
    for at in spec.settings("square"):
        yield Entry(
            at.name,
            "square",
            f"{at.title}, at most {spec.queries:,} queries",
            Square(at.epsilon, spec.queries, spec.share),
            "perturb",
            "black",
            spec.images,
            spec.images_per_shard,
            spec.queries,
            limit=Limit("linf", at.epsilon),
            leaving=True,
            after=tuple(f"{name}{at.suffix}" for name in ("fgsm", "projected_ascent", "transfer")),
            carries=at.smaller,
        )


ATTACK = Attack(
    name="square",
    title="Square",
    sentence=(
        "Share of images whose label squares of ±ε at random places changed, kept where they help and seeing "
        "probabilities only (Andriushchenko 2020), of those that gradients and transfer at the same ε had left."
    ),
    task="perturb",
    box="black",
    spec=SquareSpec,
    entries=entries,
    example={"images": 8, "epsilon": 0.1, "curve": [0.05, 0.1], "queries": 30, "share": 0.8, "images_per_shard": 8},
)
