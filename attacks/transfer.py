"""Transfer within an L∞ limit: the images that gradients made on other models, asked of this one (Papernot 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..bench.errors import Unexpected
from .answers import margins, mislabelled
from .base import Perturb, Query, Search
from .entry import Entry, Limit
from .spec import Attack, BatteryFacts, EpsilonSpec

MAKERS = ("fgsm", "projected_ascent")
"""The attacks whose images of other models are asked about."""


@dataclass(frozen=True)
class Transfer:
    """Papernot, McDaniel & Goodfellow, "Transferability in machine learning" (2016), section 3, as a black-box attack.

    An image's versions, `task.borrowed`, are asked about in their order until one is accepted with another label; that
    one is the final. Without one, the version of least margin is (max(p_y, rejected mass) less the largest other
    probability), of equals the first. An image costs at most as many queries as there are versions. With none of them
    the images come back as they are, and nothing is asked. Draws nothing from `rng`.
    """

    epsilon: float
    """What the versions keep to, in units of [0, 1]: they were made for it, and the judge holds them to it."""

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block; finals are `(t, c, h, w)`."""
        finals = task.images.clone()
        left = torch.arange(len(finals), device=finals.device)
        least = torch.full((len(finals),), torch.inf, device=finals.device)
        for versions in () if task.borrowed is None else task.borrowed:
            if not len(left):
                break
            tried, labels = versions[left], task.labels[left]
            answers = yield Query(tried, left)
            fooled, margin = mislabelled(answers, labels), margins(answers, labels)
            better = fooled | (margin < least[left])
            finals[left[better]], least[left[better]] = tried[better], margin[better]
            left = left[~fooled]
        return finals


class TransferSpec(EpsilonSpec):
    """`transfer` in a battery's YAML: a setting at each ε, with the panel's images at that ε."""


def entries(spec: TransferSpec, facts: BatteryFacts) -> Iterator[Entry]:
    """The headline ε and the curve, each on the images that smaller ε left. Raises Unexpected without a panel."""
    if not facts.panel:
        raise Unexpected("a panel, whose images it asks about", "none", "add `panel:`, or leave `transfer` out")
    for at in spec.settings("transfer"):
        yield Entry(
            at.name,
            "transfer",
            at.title,
            Transfer(at.epsilon),
            "perturb",
            "black",
            spec.images,
            spec.images_per_shard,
            facts.panel * len(MAKERS),
            limit=Limit("linf", at.epsilon),
            leaving=True,
            carries=at.smaller,
            borrows=tuple(f"{name}{at.suffix}" for name in MAKERS),
        )


ATTACK = Attack(
    name="transfer",
    title="Transfer",
    sentence=(
        "Share of images that the victim mislabels in a version that gradients made of them on one of the battery’s "
        "own models, within the headline ε (Papernot 2016)."
    ),
    task="perturb",
    box="black",
    spec=TransferSpec,
    entries=entries,
    example={"images": 8, "epsilon": 0.1, "curve": [0.05, 0.1], "images_per_shard": 8},
)
