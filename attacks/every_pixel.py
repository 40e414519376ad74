"""One pixel, exactly: every place of an image with every colour of a grid, so that what a search misses is known."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..bench.errors import Unexpected
from .answers import mislabelled
from .base import Perturb, Query, Search
from .entry import Entry, Limit
from .levels import WHITE, Levels
from .spec import BatteryFacts, PerturbSpec


@dataclass(frozen=True)
class EveryPixel:
    """Asks about every image that differs from the task's in one pixel, whose colour is one of a grid.

    The grid has `values` gray levels a channel, evenly spread from black to white: all of the data's levels make the
    answer exact, fewer make it a lower bound of what one pixel can do (`values=2` on RGB: the 8 corners of the colour
    cube). An image costs height × width × values^channels queries, or fewer: a row of its pixels is asked about at a
    time, and a task stops with the first row that holds an image accepted with another label. The final is such an
    image, the one whose wrong classes are likeliest together; without success, the one of all rows. Nothing is left
    to chance.
    """

    values: int
    """From 2 to the number of levels."""

    def __post_init__(self):
        if self.values < 2:
            raise Unexpected("2 values a channel at least", self.values, "ask for black and white, and what is between")

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        """Attack all images of the block, untargeted; `rng` is not drawn from."""
        finals = task.images.clone()
        _, channels, height, width = finals.shape
        colours = grid(self.values, channels, task.levels).to(finals.device)
        places = torch.arange(width, device=finals.device).repeat_interleave(len(colours))
        painted = colours.repeat(width, 1)
        each = torch.arange(len(places), device=finals.device)
        best = torch.full((len(finals),), -torch.inf, device=finals.device)
        left = torch.arange(len(finals), device=finals.device)
        for row in range(height):
            if not len(left):
                break
            asked = task.images[left, None].repeat(1, len(places), 1, 1, 1)
            asked[:, each, :, row, places] = painted[:, None]
            answers = yield Query(asked.flatten(0, 1), left.repeat_interleave(len(places)))
            answers = answers.view(len(left), len(places), -1)
            own = task.labels[left, None]
            wrong = answers.scatter(2, own[..., None].expand(-1, len(places), 1), 0).sum(2)
            fooled = mislabelled(answers, own)
            done = fooled.any(1)
            reached, which = torch.where(fooled | ~done[:, None], wrong, -torch.inf).max(1)
            better = done | (reached > best[left])
            rows = left[better]
            finals[rows] = task.images[rows]
            finals[rows, :, row, places[which[better]]] = painted[which[better]]
            best[rows] = reached[better]
            left = left[~done]
        return finals


def grid(values: int, channels: int, levels: Levels) -> Tensor:
    """`(values^channels, channels)` pixel values in [0, 1]: each channel at each of `values` levels, spread evenly."""
    spread = levels.nearest(torch.linspace(0, WHITE, values))
    return torch.tensor(list(product(spread.tolist(), repeat=channels)))


class ExactSpec(PerturbSpec):
    """`exact` of `one_pixel` in a battery's YAML: the field of EveryPixel."""

    values: Annotated[int, Field(ge=2)]
    """Gray levels tried in each channel."""


def exact_entry(spec: ExactSpec, facts: BatteryFacts, images: int, *, exhaustive: bool) -> Entry:
    """EveryPixel as a setting of `one_pixel`; `exhaustive` where the headline changes one pixel as well, on the first
    `images`. An image costs height × width × values^channels queries, at most. Raises Unexpected for more images than
    those, and for more values than the data have levels."""
    channels, height, width = facts.shape
    if spec.images > images:
        searched = f"at most the {images} images that the search is run on"
        raise Unexpected(searched, str(spec.images), f"images: {images}", at=("exact", "images"))
    if spec.values > facts.levels.count:
        most = f"at most the {facts.levels.count} gray levels that the data have"
        raise Unexpected(most, str(spec.values), f"values: {facts.levels.count}", at=("exact", "values"))
    grid = f"{spec.values} gray levels" if channels == 1 else f"{spec.values**channels} colours"
    return Entry(
        "one_pixel_exact",
        "one_pixel",
        f"1 pixel, every place × {grid}",
        EveryPixel(spec.values),
        "perturb",
        "black",
        spec.images,
        spec.images_per_shard,
        height * width * spec.values**channels,
        limit=Limit("pixels", 1),
        leaving=True,
        exhaustive=exhaustive,
    )
