"""CPPN genomes to images: every node of every genome evaluated in batches, level by level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .genome import ACTIVATIONS, INPUTS, Genomes

_CHUNK = 2**23
"""Values held at once, free node slots counted in. Bounds the memory: 32 MiB are about what a CPU's outer cache takes,
and little for a GPU. In smaller parts, what a part costs by itself tells."""


def coordinates(height: int, width: int, device: torch.device) -> Tensor:
    """`(4, h * w)` float32: what a CPPN is told of each pixel.

    x and y are raw pixel indices, as in the code released with Nguyen 2015; d is the distance from the centre on a
    grid that runs from -1 to 1 both ways; the bias is 1.
    """
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    d = torch.hypot(_centred(x, width), _centred(y, height))
    return torch.stack([x, y, d, torch.ones_like(d)]).view(INPUTS, -1)


def _centred(index: Tensor, size: int) -> Tensor:
    return index * (2.0 / (size - 1)) - 1.0 if size > 1 else torch.zeros_like(index)


def render(genomes: Genomes, pixels: Tensor, weight_limit: float) -> Tensor:
    """Evaluate genomes at all pixels.

    A gene of [0, 1] is a weight of [-weight_limit, weight_limit]. A node adds up its weighted inputs and applies sine,
    the bipolar sigmoid 2 / (1 + exp(-p)) - 1, the Gaussian exp(-p^2), or p clipped to [-3, 3] and divided by 3; a node
    without inputs so gives a constant. The image is the absolute value of the outputs.

    Args:
        genomes: g genomes.
        pixels: `(4, p)`, from `coordinates`; its dtype is computed in.
        weight_limit: 10 in Nguyen 2015.

    Returns:
        `(g, outputs, p)` in [0, 1].
    """
    rows = genomes.activation.shape[1] * pixels.shape[1]
    images = pixels.new_empty(len(genomes), genomes.outputs, pixels.shape[1])
    chunks = torch.arange(len(genomes), device=pixels.device).split(max(1, _CHUNK // rows))
    for chunk in chunks:
        part = genomes if len(chunk) == len(genomes) else genomes.take(chunk)
        _render(part, pixels, weight_limit, images[chunk[0] : chunk[0] + len(chunk)])
    return images


def _render(genomes: Genomes, pixels: Tensor, weight_limit: float, out: Tensor) -> None:
    """Write the images of some genomes to `(g, outputs, p)`."""
    count, slots = genomes.activation.shape
    needed, level = _needed(genomes), _levels(genomes)

    # Give each node that matters, of all genomes, a row; rows go by level, then by activation. Inputs share four rows.
    node = needed[:, INPUTS:].nonzero()
    node = node[:, 0] * slots + node[:, 1] + INPUTS
    kind, order = torch.sort((level * ACTIVATIONS + genomes.activation).view(-1)[node], stable=True)
    row = torch.arange(count * slots, device=node.device) % slots
    row[node[order]] = torch.arange(INPUTS, INPUTS + len(node), device=node.device)
    row = row.view(count, slots)

    # The connections into those rows, in the rows' order: row i's are first[i] to first[i + 1].
    edge = (genomes.used & needed.gather(1, genomes.target)).view(-1).nonzero().squeeze(1)
    into, order = torch.sort(row.gather(1, genomes.target).view(-1)[edge] - INPUTS, stable=True)
    edge = edge[order]
    source = row.gather(1, genomes.source).view(-1)[edge]
    weight = (genomes.weights.reshape(-1)[edge].to(pixels.dtype) * 2.0 - 1.0) * weight_limit
    first = F.pad(torch.bincount(into, minlength=len(node)).cumsum(0), (1, 0))

    groups = F.pad(torch.bincount(kind, minlength=ACTIVATIONS).cumsum(0), (1, 0))
    groups, group_edges = torch.stack([groups, first[groups]]).tolist()
    values = pixels.new_empty(INPUTS + len(node), pixels.shape[1])
    values[:INPUTS] = pixels
    for group in range(0, len(groups) - 1, ACTIVATIONS):
        last = min(group + ACTIVATIONS, len(groups) - 1)
        if groups[group] == groups[last]:
            continue
        bags, edges = slice(groups[group], groups[last] + 1), slice(group_edges[group], group_edges[last])
        potentials = F.embedding_bag(
            source[edges],
            values,
            first[bags] - group_edges[group],
            mode="sum",
            per_sample_weights=weight[edges],
            include_last_offset=True,
        )
        for activation, (start, stop) in enumerate(zip(groups[group:last], groups[group + 1 : last + 1], strict=True)):
            if start < stop:
                rows = slice(start - groups[group], stop - groups[group])
                _activate(potentials[rows], activation, values[INPUTS + start : INPUTS + stop])
    torch.index_select(values, 0, row[:, INPUTS : INPUTS + genomes.outputs].reshape(-1), out=out.flatten(0, 1)).abs_()


def _activate(potential: Tensor, activation: int, out: Tensor) -> None:
    """Write one of the four functions of the potentials."""
    if activation == 0:
        torch.sin(potential, out=out)
    elif activation == 1:
        torch.sigmoid(potential, out=out).mul_(2.0).sub_(1.0)
    elif activation == 2:
        # Cut off at 1e-35: subnormal numbers cost a CPU some ten times as much.
        torch.square(potential, out=out).clamp_(max=80.0).neg_().exp_()
    else:
        torch.clamp(potential, -3.0, 3.0, out=out).div_(3.0)


def _needed(genomes: Genomes) -> Tensor:
    """`(g, v)` bool: nodes from which a path leads to an output (outputs included)."""
    need = torch.zeros_like(genomes.activation, dtype=torch.int32)
    need[:, INPUTS : INPUTS + genomes.outputs] = 1
    while True:
        more = need.scatter_reduce(1, genomes.source, need.gather(1, genomes.target), "amax")
        if torch.equal(more, need):
            return need > 0
        need = more


def _levels(genomes: Genomes) -> Tensor:
    """`(g, v)` int64: the longest path from any node to each node, in connections."""
    step = genomes.used.to(torch.int32)
    level = torch.zeros_like(genomes.activation, dtype=torch.int32)
    while True:
        deeper = level.scatter_reduce(1, genomes.target, level.gather(1, genomes.source) + step, "amax")
        if torch.equal(deeper, level):
            return level.long()
        level = deeper
