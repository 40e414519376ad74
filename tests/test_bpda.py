"""A defense without a gradient seems to stop FGSM; through its declared surrogate (BPDA) it hardly does.

Athalye, Carlini and Wagner 2018 broke the input transformations of Guo 2018, bit depth and JPEG among them, that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.running.prepared import Prepared
from foolbench.bench.running.shards import cut
from foolbench.bench.running.work import work
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import subject_of
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.jpeg import jpeg
from foolbench.models.base import Classifier
from planted import ground
from torch import Tensor

SUBMISSION = Path(__file__).resolve().parents[1] / "submissions" / "digits-lenet" / "submission.yaml"


def own_gradient(defended: Classifier, inner: Classifier, forward: Callable[[Tensor], Tensor] | None) -> Classifier:
    """The defended victim as an attacker sees it who differentiates the defense itself: `forward`, or, where it is no
    function of torch's, nothing that gradients pass."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        assert inner.logits is not None
        assert defended.logits is not None
        if forward is not None:
            return inner.logits(forward(images), rng)
        with torch.no_grad():
            value = defended.logits(images, rng)
        return value + 0 * images.sum()

    return replace(defended, logits=logits, surrogates=inner.surrogates)


@pytest.mark.parametrize(
    ("defense", "forward"),
    [
        (lambda inner: bit_depth(inner, bits=3), lambda images: torch.round(images * 7) / 7),
        (lambda inner: jpeg(inner, quality=50), None),
    ],
    ids=["bit_depth", "jpeg"],
)
def test_through_its_surrogate_a_defense_keeps_less_than_half_of_its_apparent_gain(
    defense: Callable[[Classifier], Classifier], forward: Callable[[Tensor], Tensor] | None
) -> None:
    battery = read_battery("digits-v1")
    given = ground(battery)
    bare = subject_of(read_submission(SUBMISSION)).assemble(given).victim
    headline = next(entry for entry in entries(battery) if entry.group == "fgsm")
    assert headline.parameters["epsilon"] == 3 / 16

    def fooled(victim: Classifier) -> float:
        """Share of the images that the victim gets right, by the judge."""
        clean = examine(victim, given)
        prepared = Prepared(given, victim, clean, None)
        done = [work(prepared, shard, stop=lambda: False, tick=lambda asked, fooled: None) for shard in cut(headline)]
        return float(np.concatenate([result.fooled for result in done])[clean.right.numpy()].mean())

    defended = defense(bare)
    ordinary, blind, adaptive = fooled(bare), fooled(own_gradient(defended, bare, forward)), fooled(defended)
    apparent, left = ordinary - blind, ordinary - adaptive
    assert apparent > 0.7
    assert left < apparent / 2
