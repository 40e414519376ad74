"""CPPN genomes: a whole generation of feed-forward networks as a few padded tensors.

A genome is a list of connections and a list of nodes, as in NEAT (Stanley & Miikkulainen 2002) without its historical
markings. Node slots 0..3 are the inputs (x, y, d, bias), the next `outputs` slots are the outputs, the rest are hidden
nodes or free. Connection slots are used or free. A free connection runs from input 0 to input 0, which no real one
does, so that it can be gathered and scattered along with the others and never carries anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

INPUTS: Final = 4
"""x, y, d, bias."""
ACTIVATIONS: Final = 4
"""0 sine, 1 bipolar sigmoid, 2 Gaussian, 3 clipped linear (see render.py)."""
FREE: Final = -1
"""The activation of a node slot that is not in use."""


@dataclass(frozen=True)
class Genomes:
    """g genomes with room for v nodes and e connections each. The tensors are never written to once they are here."""

    weights: Tensor
    """`(g, e)` float genes in [0, 1]."""
    source: Tensor
    """`(g, e)` int64 node slots; 0 where the connection is free."""
    target: Tensor
    """`(g, e)` int64 node slots; 0 where the connection is free (an input is nobody's target)."""
    activation: Tensor
    """`(g, v)` int64 in 0..3, FREE where the node slot is; of no effect on inputs."""
    outputs: int
    """Number of outputs: channels of the image."""

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def used(self) -> Tensor:
        """`(g, e)` bool: connections in use."""
        return self.target > 0

    @property
    def hidden(self) -> Tensor:
        """`(g, v)` bool: hidden nodes in use."""
        alive = self.activation != FREE
        alive[:, : INPUTS + self.outputs] = False
        return alive

    def take(self, rows: Tensor) -> Genomes:
        """Copy the genomes at `rows` `(n,)` int64."""
        return Genomes(
            self.weights.index_select(0, rows),
            self.source.index_select(0, rows),
            self.target.index_select(0, rows),
            self.activation.index_select(0, rows),
            self.outputs,
        )

    def widen(self, nodes: int, connections: int) -> Genomes:
        """Add free slots until there are at least `nodes` and `connections` of them."""
        more_nodes = max(0, nodes - self.activation.shape[1])
        more = (0, max(0, connections - self.weights.shape[1]))
        return Genomes(
            F.pad(self.weights, more),
            F.pad(self.source, more),
            F.pad(self.target, more),
            F.pad(self.activation, (0, more_nodes), value=FREE),
            self.outputs,
        )

    def trim(self) -> Genomes:
        """Drop the slots beyond the last one that any genome uses (at least one connection stays)."""
        nodes = INPUTS + self.outputs + _last_used(self.hidden[:, INPUTS + self.outputs :])
        connections = max(1, _last_used(self.used))
        return Genomes(
            self.weights[:, :connections],
            self.source[:, :connections],
            self.target[:, :connections],
            self.activation[:, :nodes],
            self.outputs,
        )

    def put(self, rows: Tensor, others: Genomes) -> Genomes:
        """Replace the genomes at `rows` `(n,)` by those of `others`, n in order."""
        nodes = max(self.activation.shape[1], others.activation.shape[1])
        connections = max(self.weights.shape[1], others.weights.shape[1])
        wide, new = self.widen(nodes, connections), others.widen(nodes, connections)
        return Genomes(
            wide.weights.index_copy(0, rows, new.weights),
            wide.source.index_copy(0, rows, new.source),
            wide.target.index_copy(0, rows, new.target),
            wide.activation.index_copy(0, rows, new.activation),
            self.outputs,
        ).trim()


def first_genomes(count: int, outputs: int, rng: torch.Generator) -> Genomes:
    """Genomes without hidden nodes: every input connected to every output, weights and activations at random."""
    device = rng.device
    connections = INPUTS * outputs
    edge = torch.arange(connections, device=device)
    return Genomes(
        weights=torch.rand(count, connections, generator=rng, device=device),
        source=(edge % INPUTS).repeat(count, 1),
        target=(INPUTS + edge // INPUTS).repeat(count, 1),
        activation=torch.randint(ACTIVATIONS, (count, INPUTS + outputs), generator=rng, device=device),
        outputs=outputs,
    )


def _last_used(used: Tensor) -> int:
    """One more than the last column of a `(g, s)` bool with a True in it; 0 if there is none."""
    columns = used.any(0).nonzero()
    return int(columns[-1]) + 1 if len(columns) else 0
