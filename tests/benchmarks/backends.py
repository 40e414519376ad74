"""What each backend takes to answer, and nothing else: the measurements behind the rule of models/backend.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from floor import Floor, device_name, fastest
from foolbench.models.choices import Backend
from foolbench.models.onnx.check import ModelFileError
from published_networks import network
from real_data import DataError
from rich.console import Console

BACKENDS: tuple[Backend, ...] = ("onnxruntime", "torch", "compiled")
NETWORKS = {
    "mnist_vnncomp21_verivital_Convnet_maxpool": (64, 256),
    "cifar10_onepixel_lenet": (64, 256),
    "cifar10_onepixel_resnet32": (64, 256),
    "mobilenetv2_100.tf_same_q8": (8, 32),
    "imagenet_squeezenet1_0_deepcompression": (8, 32),
}
"""Networks of the data folder, one of timm among them, and the batches to try."""


def backend_rows(quick: bool, device: torch.device) -> Iterator[dict[str, Any]]:
    """Each network in each backend that runs it, at the better of its batches; a row's `ratio` is to the fastest."""
    for name, batches in list(NETWORKS.items())[: 2 if quick else None]:
        measured = {b: found for b in BACKENDS if (found := _fastest(name, b, batches, device)) is not None}
        if not measured:
            continue
        floor, best = min(measured.values(), key=lambda found: found[0])
        for backend, (seconds, answering) in measured.items():
            batch = answering.batch
            yield {
                "attack": "none: answers alone",
                "victim": name,
                "device": device_name(device),
                "backend": backend,
                "floor": best.name,
                "seconds": seconds * batch,
                "queries": batch,
                "floor_seconds": floor * batch,
                "ratio": seconds / floor,
                "success": None,
                **dict.fromkeys(("peer", "peer_seconds", "peer_queries", "peer_success")),
            }


def _fastest(name: str, backend: Backend, batches: tuple[int, ...], device: torch.device) -> tuple[float, Floor] | None:
    """Seconds an image, and at which batch; None where the network or the backend cannot be had, which is said."""
    found = []
    for batch in batches:
        try:
            net = network(name, backend, batch, device)
        except (DataError, ModelFileError) as error:
            reason = f"{name} without {backend}: {error}"
            Console(stderr=True).print(reason, style="yellow", markup=False, soft_wrap=True)
            return None
        rng = torch.Generator(device)
        images = net.pool.images[:batch].to(device)
        found.append(Floor(backend, lambda x, net=net, rng=rng: net.classifier.probabilities(x, rng), images, batch))
    return fastest(found, 1.0)
