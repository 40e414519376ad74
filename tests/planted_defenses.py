"""False defenses with known answers: each looks good to a careless benchmark, and is worth nothing.

Every one is a function of a Classifier with logits, the battery and its data; it works with any model on any battery.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from foolbench.attacks.base import BlackBox, Fool
from foolbench.bench.battery.battery import Battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.data.data import Data
from foolbench.bench.machine.seeds import generator
from foolbench.bench.running.shards import cut
from foolbench.leaderboard.record.record import BareResult, Record
from foolbench.models.base import Classifier
from torch import Tensor


def staircase(inner: Classifier, battery: Battery, data: Data, steps: int = 4) -> Classifier:
    """Shattered gradients: pixels are rounded to a few levels, without a declared stand-in."""

    def rounded(images: Tensor) -> Tensor:
        return (images * steps).round() / steps

    return replace(
        inner,
        probabilities=lambda images, rng: inner.probabilities(rounded(images), rng),
        logits=lambda images, rng: _logits(inner)(rounded(images), rng),
    )


def large_noise(inner: Classifier, battery: Battery, data: Data, sigma: float = 0.3) -> Classifier:
    """Gaussian noise on every pixel, undeclared: one draw would be a lottery, and one gradient of it as well."""

    def noisy(images: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=rng, device=images.device)
        return (images + sigma * noise).clamp(0, 1)

    return replace(
        inner,
        probabilities=lambda images, rng: inner.probabilities(noisy(images, rng), rng),
        logits=lambda images, rng: _logits(inner)(noisy(images, rng), rng),
    )


def cold_logits(inner: Classifier, battery: Battery, data: Data, factor: float = 1e4) -> Classifier:
    """Logits divided by 10,000: no confidence ever reaches 99%, and softmax gradients all but vanish."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return _logits(inner)(images, rng) / factor

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return logits(images, rng).softmax(1)[:, : inner.classes]

    return replace(inner, probabilities=probabilities, logits=logits)


def one_hot(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """Answers hardened to 0 and 1: nothing to climb, for evolution or for a gradient."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        label = inner.probabilities(images, rng).argmax(1)
        return torch.nn.functional.one_hot(label, inner.classes).float()

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return 1000 * (probabilities(images, rng) - 1)

    return replace(inner, probabilities=probabilities, logits=logits, rejects=False)


def reject_everything(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """A detector that turns every image away, natural ones too: nothing fools it."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        real = _logits(inner)(images, rng)[:, : inner.classes]
        return torch.cat([real, real.logsumexp(1, keepdim=True) + 10], 1)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return logits(images, rng).softmax(1)[:, :-1]

    return replace(inner, probabilities=probabilities, logits=logits, rejects=True)


def noise_detector(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """Rejects exactly the images of the battery's noise control, which anybody can compute from its seeds."""
    known = _noise(battery, data)

    def recognised(images: Tensor) -> Tensor:
        pixels = (images * 255).round().to(torch.uint8).cpu().flatten(1).numpy()
        return torch.tensor([row.tobytes() in known for row in pixels], device=images.device)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return inner.probabilities(images, rng) * ~recognised(images).unsqueeze(1)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        real = _logits(inner)(images, rng)[:, : inner.classes]
        rejection = torch.where(recognised(images), 1000.0, -1000.0).unsqueeze(1)
        return torch.cat([real, rejection], 1)

    return replace(inner, probabilities=probabilities, logits=logits, rejects=True)


def parity(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """Right on every other call, one class further on the calls between: no two queries agree."""
    calls, looks = itertools.count(), itertools.count()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return inner.probabilities(images, rng).roll(next(calls) % 2, 1)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        return _logits(inner)(images, rng).roll(next(looks) % 2, 1)

    return replace(inner, probabilities=probabilities, logits=logits)


@dataclass(frozen=True)
class Planted:
    """A false defense, and what must be found out about it."""

    name: str
    defend: Callable[[Classifier, Battery, Data], Classifier]
    flags: frozenset[str]
    """Codes that it must earn."""
    score: Literal["no better", "worthless", "white box no better"] = "no better"
    """What its robust score must be: not better than the bare model's beyond the intervals; 0; or, of noise, which
    makes a network really harder to search, that FGSM and gradient ascent get no less than from the bare model."""

    def caught(self, mine: Record | BareResult, bare: Record | BareResult) -> bool:
        """Whether it has the right flags and the right score, both with panel and budget alike."""
        return self.flags <= {flag.code for flag in mine.flags} and self._right(mine, bare)

    def _right(self, mine: Record | BareResult, bare: Record | BareResult) -> bool:
        own, theirs = mine.scores.robust_score, bare.scores.robust_score
        if own.value is None or own.low is None or theirs.high is None:
            return False
        if self.score == "worthless":
            return own.value == 0
        if self.score == "no better":
            return own.low <= theirs.high
        ratios = [(r.attacks[name].fooling_ratio) for name in ("fgsm", "gradient_ascent") for r in (mine, bare)]
        return all((ratios[i].high or 0) >= (ratios[i + 1].low or 0) for i in (0, 2))


PLANTED = (
    Planted("staircase", staircase, frozenset({"zero_gradient", "surrogate"})),
    Planted("large noise", large_noise, frozenset({"randomised", "misdeclared"}), "white box no better"),
    Planted("logits / 10,000", cold_logits, frozenset({"underconfident"})),
    Planted("one-hot answers", one_hot, frozenset({"saturated", "zero_gradient", "surrogate", "withheld"})),
    Planted("rejects everything", reject_everything, frozenset({"rejects_clean"}), "worthless"),
    Planted("recognises the noise images", noise_detector, frozenset({"recognition"})),
    Planted("parity of calls", parity, frozenset({"randomised", "misdeclared"}), "worthless"),
)
"""Models that reject already are not meant for `parity`, which would turn their rejections into classes."""


def _logits(inner: Classifier):
    assert inner.logits is not None, "expected a model with gradients to plant a false defense in front of"
    return inner.logits


def _noise(battery: Battery, data: Data) -> frozenset[bytes]:
    """Every image that the noise control will ask about, as bytes."""
    known: set[bytes] = set()
    device = torch.device("cpu")
    for entry in entries(battery):
        if entry.name != "noise":
            continue
        for shard in cut(entry):
            runs = shard.stop - shard.start
            task = Fool(battery.spec.shape, torch.tensor(entry.targets), runs, torch.tensor(data.mean))
            rng = generator(battery.spec.name, entry.name, shard.index, "attack", device=device)
            search = cast(BlackBox[Any], entry.attack).search(task, rng)
            query = next(search)
            while True:
                known.update(row.tobytes() for row in battery.spec.facts.levels.to_bytes(query.images).numpy())
                try:
                    query = search.send(torch.zeros(len(query.images), battery.classes))
                except StopIteration:
                    break
    return frozenset(known)
