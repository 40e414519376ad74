"""What each backend takes to answer, and nothing else: the measurements behind the rule of models/backend.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from foolbench.models.backend import Backend
from foolbench.models.check import ModelFileError
from published_networks import network
from rich.console import Console
from victims import Floor

BACKENDS: tuple[Backend, ...] = ("onnxruntime", "torch", "compiled")
NETWORKS = {
    "mnist_vnncomp21_verivital_Convnet_maxpool": (64, 256),
    "cifar10_onepixel_lenet": (64, 256),
    "cifar10_onepixel_resnet32": (64, 256),
    "mobilenetv2_100.tf_same_q8": (8, 32),
    "imagenet_squeezenet1_0_deepcompression": (8, 32),
}
"""Networks of the data folder, one of timm among them, and the batches to try."""


def backend_rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Each network in each backend that runs it, at the better of its batches; a row's `ratio` is to the fastest."""
    for name, batches in list(NETWORKS.items())[: 2 if quick else None]:
        measured = {b: found for b in BACKENDS if (found := _fastest(name, b, batches)) is not None}
        fastest = min(measured, key=lambda backend: measured[backend])
        floor = measured[fastest][0]
        for backend, (seconds, batch) in measured.items():
            yield {
                "attack": "none: answers alone",
                "victim": name,
                "device": "cpu, 1 thread",
                "backend": backend,
                "floor": f"{fastest}, batches of {measured[fastest][1]}",
                "seconds": seconds * batch,
                "queries": batch,
                "floor_seconds": floor * batch,
                "ratio": seconds / floor,
                "success": None,
                **dict.fromkeys(("peer", "peer_seconds", "peer_queries", "peer_success")),
            }


def _fastest(name: str, backend: Backend, batches: tuple[int, ...]) -> tuple[float, int] | None:
    """Seconds an image, and the batch."""
    found = []
    for batch in batches:
        try:
            net = network(name, backend, batch)
        except ModelFileError as error:
            Console(stderr=True).print(f"{name} without {backend}: {error}", style="yellow")
            return None
        rng = torch.Generator().manual_seed(0)
        images = net.pool.images[torch.arange(batch) % len(net.pool.images)].contiguous()
        floor = Floor(backend, lambda x, net=net, rng=rng: net.classifier.probabilities(x, rng), images)
        found.append((floor.seconds(1.0), batch))
    return min(found)
