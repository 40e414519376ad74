"""A victim as large as is wanted, without a file: a network of timm with random weights."""

from __future__ import annotations

import timm
import torch
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.machine.seeds import generator
from foolbench.models.conditions import Conditions
from foolbench.models.modules.module import from_module
from foolbench.models.modules.timm import own_preprocess
from victims import Victim, victim_of

IMAGES = 200


def random_weights(name: str, device: torch.device) -> Victim:
    """One of timm's networks at 224 × 224, its weights and images random, of a fixed seed, and its answers the labels.

    Neither moves its speed; how often an attack succeeds on it says nothing.
    """
    spec = read_battery("imagenet-v1").spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False, num_classes=1000)
    gray_levels = torch.randint(256, (IMAGES, *spec.shape), generator=torch.Generator().manual_seed(0))
    images = (gray_levels.float() / 255).to(device)
    conditions = Conditions(spec.shape, 1000, device, images, generator("benchmark", device=device))
    loaded = from_module(module, conditions, preprocess=own_preprocess(module))
    rng = torch.Generator(device)
    labels = torch.cat([loaded.classifier.probabilities(part, rng).argmax(1) for part in images.split(50)])
    title = f"{name}, random weights"
    return victim_of(title, loaded, images, labels, spec.batch, spec.gradient_batch, "torch", large=True)
