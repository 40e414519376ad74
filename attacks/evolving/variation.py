"""How CPPN genomes vary: weights, activations and structure, all genomes of a generation at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from .genome import ACTIVATIONS, FREE, INPUTS, Genomes
from .polynomial import polynomial_mutation
from .ranges import check_eta, check_rates, check_sizes


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Mutation rates of Nguyen 2015's CPPNs (values and order of operations as in the released code).

    Without crossover. Two connections may join the same two nodes, as in the released code. A new connection never
    closes a cycle, so genomes stay feed-forward.
    """

    weight_rate: float = 0.1
    """Probability that a connection's weight mutates."""
    eta: float = 15.0
    """Distribution index of the weights' polynomial step."""
    activation_rate: float = 0.1
    """Probability that a node's activation is drawn anew, uniformly of the four."""
    add_connection: float = 0.5
    """Probability that a child gains a connection, of uniform random weight."""
    delete_connection: float = 0.3
    """Probability that a child loses a connection."""
    add_node: float = 0.5
    """Probability that a node is put on a connection; both halves inherit its weight."""
    delete_node: float = 0.2
    """Probability that a child loses a hidden node, with its connections."""
    max_nodes: int = 64
    """Hidden nodes a genome may have: a child at the limit gains none. The paper sets no limit; this one bounds the
    memory of a generation. After 50,000 queries on 8x8 digits the elites have 6 on average and 16 at most."""
    max_connections: int = 256
    """Connections a genome may have, likewise: elites as above have 13 on average."""

    def __post_init__(self) -> None:
        check_sizes(max_nodes=self.max_nodes, max_connections=self.max_connections)
        check_eta(self.eta)
        check_rates(
            weight_rate=self.weight_rate,
            activation_rate=self.activation_rate,
            add_connection=self.add_connection,
            delete_connection=self.delete_connection,
            add_node=self.add_node,
            delete_node=self.delete_node,
        )

    def mutate(self, genomes: Genomes, rng: torch.Generator) -> Genomes:
        """One mutated copy of each genome. With all rates 0 it equals the parent."""
        first_hidden = INPUTS + genomes.outputs
        nodes, connections = genomes.activation.shape[1] - first_hidden, genomes.weights.shape[1]
        if nodes > self.max_nodes or connections > self.max_connections:
            raise Unexpected(
                f"at most {self.max_nodes} hidden nodes and {self.max_connections} connections",
                f"{nodes} and {connections}",
                "raise max_nodes or max_connections",
            )
        genomes = replace(genomes, weights=polynomial_mutation(genomes.weights, self.weight_rate, self.eta, rng))
        genomes = self._activations(genomes, rng)
        # One connection may be added, and a node on a connection adds one more.
        genomes = genomes.widen(
            first_hidden + min(nodes + 1, self.max_nodes),
            min(connections + 2, self.max_connections),
        )
        genomes = self._add_connection(genomes, rng)
        genomes = self._delete_connection(genomes, rng)
        genomes = self._add_node(genomes, rng)
        return self._delete_node(genomes, rng).trim()

    def _activations(self, genomes: Genomes, rng: torch.Generator) -> Genomes:
        old = genomes.activation
        hit = torch.rand(old.shape, generator=rng, device=old.device) < self.activation_rate
        new = torch.randint(ACTIVATIONS, old.shape, generator=rng, device=old.device)
        return replace(genomes, activation=torch.where(hit & (old != FREE), new, old))

    def _add_connection(self, genomes: Genomes, rng: torch.Generator) -> Genomes:
        hit = _chance(genomes, self.add_connection, rng)
        origins = genomes.activation != FREE
        origins[:, INPUTS : INPUTS + genomes.outputs] = False
        source, _ = _pick(origins, rng)
        ends = (genomes.activation != FREE) & ~ancestors(genomes, source)
        ends[:, :INPUTS] = False
        target, _ = _pick(ends, rng)  # there is always one: an output is nobody's ancestor
        slot, free = _pick_first(~genomes.used)
        hit &= free
        weight = torch.rand(hit.shape, generator=rng, dtype=genomes.weights.dtype, device=hit.device)
        return replace(
            genomes,
            weights=_set(genomes.weights, slot, weight, hit),
            source=_set(genomes.source, slot, source, hit),
            target=_set(genomes.target, slot, target, hit),
        )

    def _delete_connection(self, genomes: Genomes, rng: torch.Generator) -> Genomes:
        hit = _chance(genomes, self.delete_connection, rng)
        slot, found = _pick(genomes.used, rng)
        hit &= found
        nothing = torch.zeros_like(slot)
        return replace(
            genomes,
            source=_set(genomes.source, slot, nothing, hit),
            target=_set(genomes.target, slot, nothing, hit),
        )

    def _add_node(self, genomes: Genomes, rng: torch.Generator) -> Genomes:
        hit = _chance(genomes, self.add_node, rng)
        split, found = _pick(genomes.used, rng)
        second, free = _pick_first(~genomes.used)
        node, room = _pick_first(genomes.activation == FREE)
        hit &= found & free & room
        weight, end = _get(genomes.weights, split), _get(genomes.target, split)
        target = _set(genomes.target, split, node, hit)
        activation = torch.randint(ACTIVATIONS, node.shape, generator=rng, device=node.device)
        return replace(
            genomes,
            weights=_set(genomes.weights, second, weight, hit),
            source=_set(genomes.source, second, node, hit),
            target=_set(target, second, end, hit),
            activation=_set(genomes.activation, node, activation, hit),
        )

    def _delete_node(self, genomes: Genomes, rng: torch.Generator) -> Genomes:
        hit = _chance(genomes, self.delete_node, rng)
        node, found = _pick(genomes.hidden, rng)
        hit &= found
        at_node = (genomes.source == node[:, None]) | (genomes.target == node[:, None])
        stays = ~(at_node & hit[:, None])
        return replace(
            genomes,
            source=genomes.source * stays,
            target=genomes.target * stays,
            activation=_set(genomes.activation, node, torch.full_like(node, FREE), hit),
        )


def ancestors(genomes: Genomes, node: Tensor) -> Tensor:
    """`(g, v)` bool: from which nodes a path leads to each genome's `node` `(g,)`, itself included."""
    reach = torch.zeros(genomes.activation.shape, dtype=torch.int32, device=node.device)
    reach.scatter_(1, node[:, None], 1)
    while True:
        wider = reach.scatter_reduce(1, genomes.source, reach.gather(1, genomes.target), "amax")
        if torch.equal(wider, reach):
            return reach > 0
        reach = wider


def _chance(genomes: Genomes, rate: float, rng: torch.Generator) -> Tensor:
    """`(g,)` bool, each True with probability `rate`."""
    return torch.rand(len(genomes), generator=rng, device=genomes.weights.device) < rate


def _pick(choices: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of each row's True columns, uniformly: `(g, s)` to `(g,)` int64, and whether there was one."""
    rank = choices.cumsum(1, dtype=torch.int32)
    count = rank[:, -1]
    lot = (torch.rand(count.shape, generator=rng, device=count.device) * count).to(torch.int32)
    nth = torch.minimum(lot, count - 1)  # the product may have been rounded up to count
    return (rank <= nth[:, None]).sum(1), count > 0


def _pick_first(choices: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's first True column, and whether there is one."""
    found, column = choices.to(torch.uint8).max(1)
    return column, found > 0


def _get(table: Tensor, column: Tensor) -> Tensor:
    """One entry of each row."""
    return table.gather(1, column[:, None]).squeeze(1)


def _set(table: Tensor, column: Tensor, value: Tensor, hit: Tensor) -> Tensor:
    """A copy with one entry of each row set, where `hit`."""
    return table.scatter(1, column[:, None], torch.where(hit, value, _get(table, column))[:, None])
