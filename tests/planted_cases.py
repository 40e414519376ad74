"""Every kind of false defense that the score must not be flattered by, and honest ones that look like them.

Each is in front of the shipped LeNet-5 for digits, or a network of its own beside it. A false one has to end with a
doubt, or with a score whose interval reaches down to the bare LeNet's; an honest one may earn no doubt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from foolbench.bench import read_submission
from foolbench.bench.battery.battery import Battery
from foolbench.bench.battery.ground import Ground
from foolbench.bench.data.data import Data
from foolbench.bench.victim.assemble import Assembled, Subject, subject_of, subject_of_module
from foolbench.defenses.randomized_smoothing import randomized_smoothing
from foolbench.models.base import Classifier
from foolbench.models.certificate import Certificate
from foolbench.models.preprocess import Preprocess
from planted_knowing import KNOWING, gated, looked_up
from planted_networks import batch_graph, quantised, trained
from planted_stateful import STATEFUL
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
LENET = ROOT / "submissions" / "digits-lenet"
Defend = Callable[[Classifier, Battery, Data], Classifier]


class Absent(Exception):
    """A file that a case needs is not on this machine."""


@dataclass(frozen=True)
class Case:
    """One of them."""

    name: str
    honest: bool
    subject: Callable[[Ground, Path], Subject]
    """The ground gives the battery and its images; files are written into the folder. Raises Absent."""


# answers that are withheld


def top_one(inner: Classifier, *_: object) -> Classifier:
    """The first class's own probability; the others share what is left alike."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        given = inner.probabilities(images, rng)
        top = given.amax(1, keepdim=True)
        rest = ((given.sum(1, keepdim=True) - top) / (given.shape[1] - 1)).expand_as(given)
        return rest.scatter(1, given.argmax(1, keepdim=True), top)

    return replace(inner, probabilities=probabilities, logits=None, no_gradient="it tells the first class alone")


def rounded(inner: Classifier, *_: object) -> Classifier:
    """Probabilities to two digits."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return (inner.probabilities(images, rng) * 100).floor() / 100

    return replace(inner, probabilities=probabilities, logits=None, no_gradient="it rounds", rejects=True)


def capped(inner: Classifier, *_: object, cap: float = 0.9) -> Classifier:
    """No class gets more than the cap; what is above it goes to the others alike, so that a sure answer has no slope
    left but rounding noise."""
    assert inner.logits is not None

    def cut(given: Tensor) -> Tensor:
        top = given.amax(1, keepdim=True)
        rest = (given.sum(1, keepdim=True) - cap).clamp_min(0) / (given.shape[1] - 1)
        flat = torch.full_like(given, 0).scatter(1, given.argmax(1, keepdim=True), cap)
        return torch.where(top > cap, torch.where(flat > 0, flat, rest.expand_as(given) + 1e-9 * given), given)

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        assert inner.logits is not None
        return cut(inner.logits(images, rng).softmax(1)).clamp_min(1e-30).log()

    return replace(inner, probabilities=lambda x, rng: cut(inner.probabilities(x, rng)), logits=logits)


# slopes that mislead


def _with_slope(inner: Classifier, slope: Callable[[Tensor, Tensor], Tensor]) -> Classifier:
    """The right answers; `slope` makes of right logits and images what is differentiated instead."""
    ask = inner.logits
    assert ask is not None

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        right = ask(images, rng)
        stand_in = slope(right, images)
        return right.detach() + stand_in - stand_in.detach()

    return replace(inner, logits=logits)


def flipped(inner: Classifier, *_: object) -> Classifier:
    """States an exact gradient, and gives its negative."""
    return _with_slope(inner, lambda right, images: -right)


def tiny(inner: Classifier, *_: object) -> Classifier:
    """States an exact gradient, and gives a millionth of a millionth of it."""
    return _with_slope(inner, lambda right, images: 1e-12 * right)


def random_slope(inner: Classifier, *_: object) -> Classifier:
    """States an exact gradient, and gives one drawn once and for all."""
    rng = torch.Generator().manual_seed(0)
    pixels = inner.shape[0] * inner.shape[1] * inner.shape[2]
    weights = torch.randn(pixels, inner.classes, generator=rng) / pixels**0.5
    return _with_slope(inner, lambda right, images: images.flatten(1) @ weights)


def off_grid(inner: Classifier, battery: Battery, data: Data) -> Classifier:
    """Rejects images with gray levels that no data have."""
    levels = battery.spec.facts.levels
    return gated(inner, lambda images: ((images - levels.rounded(images)).abs() > 1e-3).flatten(1).any(1))


# how each is built


def in_front(name: str, defend: Defend, honest: bool = False) -> Case:
    """A defense in front of the LeNet, as of an author's own code; built anew each time, with nothing remembered."""

    def subject(ground: Ground, folder: Path) -> Subject:
        given = subject_of(read_submission(LENET / "submission.yaml"))

        def assemble(ground: Ground) -> Assembled:
            bare = given.assemble(ground)
            victim = defend(bare.victim, ground.battery, ground.data)
            return replace(bare, victim=victim, bare=bare, digest=f"{name} {bare.digest}")

        return Subject(name, {"name": name, "planted": name}, f"{name} {given.digest}", assemble)

    return Case(name, honest, subject)


def _file(
    name: str, make: Callable[[Ground, Path], Path], honest: bool = False, model: dict[str, Any] | None = None
) -> Case:
    """A submission of one ONNX file."""

    def subject(ground: Ground, folder: Path) -> Subject:
        folder.mkdir(parents=True, exist_ok=True)
        path = make(ground, folder)
        content = {"schema": 1, "name": name, "authors": ["foolbench"], "battery": "digits-v1"}
        content["model"] = {"kind": "onnx", "path": path.name, "output": "logits", **(model or {})}
        return _submitted(content, folder)

    return Case(name, honest, subject)


def _behind(name: str, defense: dict[str, Any], make: Callable[[Ground, Path], object], honest: bool = False) -> Case:
    """The LeNet behind a defense that a submission states."""

    def subject(ground: Ground, folder: Path) -> Subject:
        folder.mkdir(parents=True, exist_ok=True)
        make(ground, folder)
        shutil.copyfile(LENET / "lenet.onnx", folder / "lenet.onnx")
        content = {"schema": 1, "name": name, "authors": ["foolbench"], "battery": "digits-v1"}
        content["model"] = {"kind": "onnx", "path": "lenet.onnx", "output": "logits"}
        content["defenses"] = [defense]
        return _submitted(content, folder)

    return Case(name, honest, subject)


def _submitted(content: dict[str, Any], folder: Path) -> Subject:
    (folder / "submission.yaml").write_text(yaml.safe_dump(content))
    return subject_of(read_submission(folder / "submission.yaml"))


def _module(name: str, honest: bool, **recipe: Any) -> Case:
    """A network trained here."""
    return Case(name, honest, lambda g, _: subject_of_module(trained(g.battery, **recipe), name, Preprocess()))


def _smoothed(ground: Ground, folder: Path) -> Subject:
    """Randomised smoothing with a network that was trained on the same noise."""
    net = trained(ground.battery, noise=0.25)
    inside = subject_of_module(net, "trained with noise", Preprocess())

    def assemble(ground: Ground) -> Assembled:
        bare = inside.assemble(ground)
        victim = randomized_smoothing(bare.victim, sigma=0.25, samples=12, alpha=0.05, gradient_samples=2)
        return Assembled(victim, None, Certificate(agrees=True), bare.backend, f"smoothed {bare.digest}")

    return Subject("smoothed", {"name": "smoothed"}, f"smoothed {inside.digest}", assemble)


def _decoy(ground: Ground, folder: Path) -> Subject:
    """Beside the folder of real data, whose own place a variable of the environment may say."""
    data = Path(os.environ.get("FOOLBENCH_TEST_DATA") or ROOT.parent / "shared" / "data")
    given = data.parent / "cases" / "round_decoy" / "submission.yaml"
    if not given.is_file():
        raise Absent("shared/cases/round_decoy is not on this machine")
    return subject_of(read_submission(given))


def _plain(function: Callable[[Classifier, Data], Classifier]) -> Defend:
    return lambda inner, battery, data: function(inner, data)


STATEFUL_NAMES = {
    "lockout": "a lockout after 3,000 images",
    "first_seen": "a memory of first-seen images",
    "repeats": "rejects what is asked again",
    "near_duplicates": "a bank of near-duplicates",
    "batch_mean": "takes the batch's mean away",
    "evaluation_batch": "answers the evaluation batch alone",
}
PANEL = ROOT / "models" / "panel"


def _ensemble(ground: Ground, folder: Path) -> None:
    for name in ("mlp", "resnet"):
        shutil.copyfile(PANEL / f"digits-{name}.onnx", folder / f"{name}.onnx")


def _fooling_class(ground: Ground, folder: Path) -> Subject:
    return subject_of(read_submission(ROOT / "submissions" / "digits-lenet-fooling-class" / "submission.yaml"))


BATCH: dict[str, Any] = {"kind": "onnx", "role": "preprocess", "path": "batch.onnx"}
CASES = (
    *(in_front(STATEFUL_NAMES[name], _plain(plant)) for name, plant in STATEFUL.items()),
    *(in_front(name, plant) for name, (plant, _) in KNOWING.items()),
    _file(
        "looks evaluation images up (ONNX)",
        lambda ground, folder: looked_up(ground.data, folder / "net.onnx"),
        model={"reject_index": 10},
    ),
    in_front("rejects off-grid levels", off_grid),
    _behind(
        "takes the batch's mean away (ONNX)",
        BATCH,
        lambda ground, folder: batch_graph(folder / "batch.onnx", ground.data.mean, normalise=False),
    ),
    _behind(
        "batch normalisation in training mode (ONNX)",
        BATCH,
        lambda ground, folder: batch_graph(folder / "batch.onnx", ground.data.mean, normalise=True),
    ),
    in_front("tells the first class alone", top_one),
    in_front("rounds to two digits", rounded),
    in_front("a confidence cap", capped),
    _file("dynamic quantisation", lambda _, folder: quantised(LENET / "lenet.onnx", folder / "net.onnx")),
    Case("rounding with a decoy", False, _decoy),
    _module("FGSM training", False, epsilon=0.2, steps=1),
    in_front("exact, and flipped", flipped),
    in_front("exact, and tiny", tiny),
    in_front("exact, and random", random_slope),
    _module("PGD training", True, epsilon=0.2, steps=7),
    Case("smoothing, trained with noise", True, _smoothed),
    _behind(
        "LeNet, MLP and ResNet",
        {"kind": "ensemble", "models": [{"path": f"{name}.onnx", "output": "logits"} for name in ("mlp", "resnet")]},
        _ensemble,
        honest=True,
    ),
    Case("a class of fooling images", True, _fooling_class),
)
"""Honest defenses that a submission states by kind alone are in the table of defenses beside these."""
