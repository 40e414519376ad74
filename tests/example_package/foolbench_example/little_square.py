"""Random square search within an L∞ limit, after Andriushchenko, Croce, Flammarion & Hein (ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from foolbench.attacks.base import Perturb, Query, Search
from foolbench.attacks.entry import Entry, Limit
from foolbench.attacks.spec import AtLeastOne, Attack, BatteryFacts, Epsilon, PerturbSpec, pixel_range
from pydantic import Field
from torch import Tensor


@dataclass(frozen=True)
class LittleSquare:
    """Stripes of ±epsilon, then random squares of them; a change is kept where the margin falls (section 3).

    Departure: the side of the square shrinks in equal steps over the budget.
    """

    epsilon: float
    """The largest change of a pixel, in units of [0, 1]."""
    queries: int
    """At most so many an image; one that is fooled asks no more."""
    share: float
    """Of the image, that the first squares cover."""

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Work on all images side by side; see BlackBox."""
        n, channels, height, width = task.images.shape
        device = task.images.device
        rows = torch.arange(n, device=device)
        signs = self._signs(n, channels, width, rng, device).unsqueeze(2)
        best = (task.images + self.epsilon * signs).clamp(0, 1)
        margin = _margin((yield Query(best, rows)), task.labels)
        down, right = torch.arange(height, device=device), torch.arange(width, device=device)
        for k in range(1, self.queries):
            rows = (margin > 0).nonzero()[:, 0]
            if not len(rows):
                break
            side = max(1, round((self.share * (1 - k / self.queries) * height * width) ** 0.5))
            tall, wide = min(side, height), min(side, width)
            top = torch.randint(height - tall + 1, (n, 1), generator=rng, device=device)[rows]
            left = torch.randint(width - wide + 1, (n, 1), generator=rng, device=device)[rows]
            sign = self._signs(n, channels, 1, rng, device)[rows].unsqueeze(3)
            inside = ((down >= top) & (down < top + tall))[:, None, :, None]
            inside = inside & ((right >= left) & (right < left + wide))[:, None, None, :]
            moved = (task.images[rows] + self.epsilon * sign).clamp(0, 1)
            tried = torch.where(inside, moved, best[rows])
            found = _margin((yield Query(tried, rows)), task.labels[rows])
            better = found < margin[rows]
            best[rows[better]], margin[rows[better]] = tried[better], found[better]
        return best

    @staticmethod
    def _signs(n: int, channels: int, columns: int, rng: torch.Generator, device: torch.device) -> Tensor:
        return 2.0 * torch.randint(2, (n, channels, columns), generator=rng, device=device) - 1


def _margin(answers: Tensor, labels: Tensor) -> Tensor:
    """What an image must lose to be accepted with another label: above 0 it is not fooled yet."""
    own = labels[:, None]
    rejected = 1 - answers.sum(1)
    held = torch.maximum(answers.gather(1, own)[:, 0], rejected)
    return held - answers.scatter(1, own, -1.0).amax(1)


class LittleSquareSpec(PerturbSpec):
    """`little_square` in a battery's YAML: the fields of LittleSquare."""

    epsilon: Epsilon
    queries: AtLeastOne
    share: Annotated[float, Field(gt=0, le=1)] = 0.8


def entries(spec: LittleSquareSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """One setting."""
    epsilon = pixel_range(spec.epsilon)
    yield Entry(
        "little_square",
        "little_square",
        f"ε = {spec.epsilon}, {spec.queries:,} queries",
        LittleSquare(epsilon, spec.queries, spec.share),
        "perturb",
        "black",
        spec.images,
        spec.images_per_shard,
        spec.queries,
        limit=Limit("linf", epsilon),
        leaving=True,
    )


ATTACK = Attack(
    name="little_square",
    title="Square (example)",
    sentence=(
        "Share of images whose label squares of ±ε at random places changed, kept where they help and seeing "
        "probabilities only (after Andriushchenko 2020)."
    ),
    task="perturb",
    box="black",
    spec=LittleSquareSpec,
    entries=entries,
    example={"images": 4, "epsilon": 0.1, "queries": 20, "images_per_shard": 2},
)
