"""Training with one class more, "fooling images": the defense of Nguyen, Yosinski & Clune, CVPR 2015."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...attacks.base import Fool, Query, Search
from ...attacks.cppn import Cppn
from ...attacks.evolution import Evolution
from ...attacks.levels import EIGHT_BITS, Levels

Train = Callable[[Tensor, Tensor, int], nn.Module]
"""Images `(n, c, h, w)` float32 in [0, 1], labels `(n,)` int64, number of classes -> a trained network of logits."""


@dataclass(frozen=True)
class FoolingClass:
    """Train a network, evolve images that fool it, train another with those as class K, and so on.

    As the paper: evolved images, half from the first and half from the last generation, go into one extra class, and
    each round adds images that fool the network of the round before. Departures: both encodings are evolved, not the
    CPPN alone; uniform noise stands in the class from the start; and the defaults make the class about as large, on
    1600 training images, as all others together (the paper made it seven times the size of another on ImageNet).
    """

    rounds: int = 3
    runs: int = 10
    """Evolutions a round and encoding; each gives one image a class from the first and one from the last generation."""
    generations: int = 100
    noise: int = 400
    """Images of uniform noise."""
    levels: Levels = EIGHT_BITS
    """What evolved images and noise are rounded to."""

    def train(self, images: Tensor, labels: Tensor, classes: int, train: Train, rng: torch.Generator) -> nn.Module:
        """Train the network of the last round, with `classes` + 1 outputs.

        `images` `(n, c, h, w)` float32 in [0, 1] and `labels` `(n,)` int64 on the CPU, where `rng` is too.
        """
        network = train(images, labels, classes)
        fooling = self.levels.rounded(torch.rand(self.noise, *images.shape[1:], generator=rng))
        _, channels, height, width = images.shape
        task = Fool((channels, height, width), torch.arange(classes), self.runs, images.mean(0), self.levels)
        for _ in range(self.rounds):
            for generations in (1, self.generations):
                for attack in (Evolution(generations=generations), Cppn(generations=generations)):
                    fooling = torch.cat([fooling, evolved(attack.search(task, rng), network, self.levels)])
            marks = torch.full((len(fooling),), classes)
            network = train(torch.cat([images, fooling]), torch.cat([labels, marks]), classes + 1)
        return network


@torch.no_grad()
def evolved(
    search: Search, network: nn.Module, levels: Levels, watch: Callable[[Query, Tensor], None] | None = None
) -> Tensor:
    """Answer all that a search asks, and give its final images, `(runs * targets, c, h, w)`, all rounded.

    `watch` is shown each query with the probabilities `(n, columns)` that it was answered.
    """
    query = next(search)
    while True:
        answer = network(levels.rounded(query.images)).softmax(1)
        if watch is not None:
            watch(query, answer)
        try:
            query = search.send(answer)
        except StopIteration as stop:
            return levels.rounded(stop.value).flatten(0, 1)
