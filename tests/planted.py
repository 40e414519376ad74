"""Networks with planted weaknesses, small batteries on disk, and attacks that misbehave: what known answers need."""

from __future__ import annotations

import builtins
import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from foolbench.attacks import table
from foolbench.attacks.base import Fool, Oracle, Perturb, Query, Search
from foolbench.attacks.entry import Entry
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Ground
from foolbench.bench.evaluation import pipeline
from foolbench.bench.machine.memory import Memory
from foolbench.bench.running.drive import Meter
from foolbench.bench.victim.assemble import Assembled, Subject
from foolbench.leaderboard.record.record import Record
from foolbench.models.base import Classifier
from foolbench.models.certificate import Certificate
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Batteries

TITLES = {attack.name: attack.title for attack in table()}
RANKED = {name: TITLES[name] for name in ("evolution", "cppn", "deepception", "one_pixel", "fgsm", "gradient_ascent")}
"""What SMALL has; a further attack in the table changes nothing here."""
SMALL: dict[str, Any] = {
    "evolution": {
        "runs": 2,
        "children": 20,
        "generations": 10,
        "mutation_rate": 0.1,
        "halve_every": 1000,
        "eta": 15,
        "runs_per_shard": 1,
    },
    "cppn": {"runs": 2, "children": 20, "generations": 10, "runs_per_shard": 1},
    "deepception": {
        "images": 8,
        "side": 2,
        "stride": 2,
        "copies": 2,
        "grid": 3,
        "keep": 4,
        "bank": 2,
        "queries": 100,
        "properties": 2,
        "images_per_shard": 3,
    },
    "one_pixel": {
        "images": 8,
        "pixels": [1, 3],
        "population": 10,
        "iterations": 4,
        "f": 0.5,
        "images_per_shard": 3,
    },
    "fgsm": {
        "images": 8,
        "epsilon": 0.2,
        "curve": [0.05, 0.2],
        "smallest": {"largest": 1.0, "coarse": 17, "bisections": 8},
        "images_per_shard": 3,
    },
    "gradient_ascent": {
        "runs": 2,
        "targets": None,
        "steps": 12,
        "early": 0.03,
        "late": 0.1,
        "objectives": ["softmax", "logit"],
        "decays": [0, 0.01],
        "starts": ["1/255"],
        "runs_per_shard": 1,
    },
}
"""All six attacks at a few queries each, for images of 8×8 and 8 of them at least."""
SMALL_CONTROLS: dict[str, Any] = {
    "noise": {"runs": 1, "children": 20, "generations": 3, "runs_per_shard": 1},
    "random_cppn": {"runs": 1, "children": 20, "generations": 3, "runs_per_shard": 1},
}


def small(**changes: dict[str, Any]) -> dict[str, Any]:
    """The named attacks of SMALL, each with its changes."""
    return {name: SMALL[name] | change for name, change in changes.items()}


def save(path: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(path, x=images.astype(np.uint8), y=labels)
    return path.name


def battery(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    attacks: dict[str, Any] = SMALL,
    controls: dict[str, Any] | None = None,
    classes: int = 2,
    train: tuple[np.ndarray, np.ndarray] | None = None,
    **changes: Any,
) -> Battery:
    """A user's own battery: images `(n, c, h, w)` in gray levels, written as npz and YAML and read back."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"kind": "npz", "path": save(folder / "test.npz", images, labels)}
    if train is not None:
        data["train"] = save(folder / "train.npz", *train)
    spec: dict[str, Any] = {
        "schema": 1,
        "name": "planted",
        "data": data,
        "shape": list(images.shape[1:]),
        "classes": classes,
        "batch": 64,
        "gradient_batch": 64,
        "judge": {
            "tau_quantile": 0.05,
            "flat_confidence": 0.99,
            "draws": 10,
            "expectation_draws": 4,
            "bootstrap": 200,
        },
        "attacks": copy.deepcopy(attacks),
        "controls": copy.deepcopy(controls or {}),
    }
    (folder / "battery.yaml").write_text(yaml.safe_dump(spec | changes))
    return read_battery("./battery.yaml", folder=folder)


def halves(count: int, side: int = 8, low: int = 40, high: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gray images whose brighter half says the class: 0 left, 1 right; a few gray levels of noise on top."""
    labels = np.arange(count) % 2
    images = np.full((count, 1, side, side), low)
    images[labels == 0, :, :, : side // 2] = high
    images[labels == 1, :, :, side // 2 :] = high
    return (images + np.random.default_rng(seed).integers(-3, 4, images.shape)).astype(np.uint8), labels


# Networks


class Linear(nn.Module):
    """Logits `images @ weight.T + bias`; `weight` `(K, pixels)`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else bias.float())

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.to(images).T + self.bias.to(images)


def left_or_right(side: int = 8, gain: float = 8.0, columns: int = 2) -> Linear:
    """Tells `halves` apart by the difference of the halves' means; further columns stay at 0."""
    weight = torch.zeros(columns, side, side)
    weight[0, :, : side // 2] = gain / (side * side / 2)
    weight[0, :, side // 2 :] = -gain / (side * side / 2)
    weight[1] = -weight[0]
    return Linear(weight.flatten(1))


class FatalPixel(nn.Module):
    """`halves` with a trap: class 2, as soon as one certain pixel is brighter than about 0.65; dead below 0.6."""

    def __init__(self, row: int, column: int, side: int = 8):
        super().__init__()
        self.halves = left_or_right(side, columns=3)
        self.row, self.column = row, column

    def forward(self, images: Tensor) -> Tensor:
        trap = 400 * (images[:, 0, self.row, self.column] - 0.6).relu() - 5
        return torch.cat([self.halves(images)[:, :2], trap[:, None]], 1)


class StripeLover(nn.Module):
    """`halves`, and class 2 for vertical stripes, one pixel on and one off: the contrast of the columns' means."""

    stripes: Tensor

    def __init__(self, side: int, threshold: float = 0.5, gain: float = 40.0):
        super().__init__()
        self.halves = left_or_right(side, columns=3)
        self.register_buffer("stripes", torch.tensor([1.0, -1.0]).repeat(side // 2) * 2 / side)
        self.threshold, self.gain = threshold, gain

    def forward(self, images: Tensor) -> Tensor:
        contrast = (images.mean((1, 2)) @ self.stripes.to(images)).abs()
        love = self.gain * (contrast - self.threshold)
        return torch.cat([self.halves(images)[:, :2], love[:, None]], 1)


class PatchLover(nn.Module):
    """One template a class, each of zero mean: a logit is the strongest match anywhere in the image."""

    templates: Tensor

    def __init__(self, templates: Tensor, gain: float = 20.0):
        super().__init__()
        centred = templates - templates.mean((1, 2), keepdim=True)
        self.register_buffer("templates", (centred / centred.abs().sum((1, 2), keepdim=True)).unsqueeze(1))
        self.gain = gain

    def forward(self, images: Tensor) -> Tensor:
        matches = nn.functional.conv2d(images, self.templates.to(images))
        return self.gain * matches.flatten(2).amax(2)


class Constant(nn.Module):
    """The same logits whatever it sees, but for a slope that no image within [0, 1] can climb to another label."""

    logits: Tensor

    def __init__(self, logits: list[float], slope: float = 0.0):
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))
        self.slope = slope

    def forward(self, images: Tensor) -> Tensor:
        logits = self.logits.to(images).expand(len(images), -1)
        if not self.slope:
            return logits
        means = images.flatten(1).mean(1, keepdim=True)
        return logits + self.slope * means * torch.arange(logits.shape[1]).to(images)


# Victims, subjects and records


def classifier(
    module: nn.Module, shape: tuple[int, int, int], classes: int, *, rejects: bool = False, noise: float = 0.0
) -> Classifier:
    """A Classifier straight from a module, with Gaussian noise on its logits where wanted."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        answer = module(images)
        return answer + noise * torch.randn(answer.shape, generator=rng) if noise else answer

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return logits(images, rng).softmax(1)[:, :classes]

    return Classifier(shape, classes, CPU, probabilities, logits, rejects=rejects, randomised=noise > 0)


def ground(battery: Battery, memory: Memory | None = None) -> Ground:
    """A battery's ground on the CPU, its data loaded."""
    return Ground(battery, battery.load(), torch.device("cpu"), memory or Memory())


def subject(victim: Classifier, *, bare: Classifier | None = None, certificate: Certificate | None = None) -> Subject:
    """A subject for `evaluate_subject` from ready Classifiers."""
    sound = certificate or Certificate(agrees=True)

    def assemble(*_: object) -> Assembled:
        inner = None if bare is None else Assembled(bare, None, sound, "torch", "bare")
        return Assembled(victim, inner, sound, "torch", "victim")

    return Subject("planted", {"name": "planted"}, "0" * 64, assemble)


def timeless(record: Record) -> dict[str, Any]:
    """The record without times, dates and the number of workers."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in ("seconds", "started", "workers")}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(record.model_dump(mode="json", by_alias=True))


def evidence(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def flag_codes(record: Record) -> set[str]:
    return {flag.code for flag in record.flags}


# Attacks that do nothing, or worse


@dataclass(frozen=True)
class Idle:
    """Returns the originals (Perturb) or mid-gray (Fool) without a question; or as often asked, `asks` for each."""

    asks: int = 0
    setup: int = 0

    def _finals(self, task: Fool | Perturb) -> tuple[Tensor, Tensor, int]:
        if isinstance(task, Perturb):
            return task.images, task.images, len(task.images)
        shape = (task.runs, len(task.targets), *task.shape)
        return torch.full(shape, 0.5), torch.full((task.runs, *task.shape), 0.5), task.runs

    def search(self, task: Any, rng: torch.Generator) -> Search:
        finals, asked, owners = self._finals(task)
        for _ in range(self.setup):
            yield Query(asked[:1], torch.tensor([-1]))
        for _ in range(self.asks):
            yield Query(asked, torch.arange(owners))
        return finals

    def ascend(self, task: Any, oracle: Oracle, rng: torch.Generator) -> Tensor:
        finals, _, _ = self._finals(task)
        for _ in range(self.asks):
            images = finals.reshape(-1, *finals.shape[-3:])
            oracle.probabilities(images, torch.arange(len(images)))
        return finals


@dataclass(frozen=True)
class Raising:
    """Fails in the middle of its work."""

    kind: str = "ValueError"

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        yield Query(task.images, torch.arange(len(task.images)))
        raise getattr(builtins, self.kind)("expected luck, got none: try again")

    def ascend(self, task: Perturb, oracle: Oracle, rng: torch.Generator) -> Tensor:
        raise getattr(builtins, self.kind)("expected luck, got none: try again")


@dataclass(frozen=True)
class Inverting:
    """Returns the negatives of the originals, far outside every limit; or those of the first `keep` alone."""

    keep: int | None = None

    def search(self, task: Perturb, rng: torch.Generator) -> Search:
        yield Query(task.images, torch.arange(len(task.images)))
        return 1 - task.images[: self.keep]


def meter(owners: int, budget: int = 1000, setup: int = 0, per_owner: int = 1, hit: Any = None) -> Meter:
    """A Meter on which nothing succeeds, unless told."""
    never = hit or (lambda probabilities, owners: torch.zeros(len(owners), per_owner, dtype=torch.bool))
    return Meter(owners, per_owner, budget, setup, never, lambda asked, fooled: None, CPU)


def planning(monkeypatch: Any, swaps: dict[str, Any]) -> None:
    """Put other attacks into the named entries of every battery's plan."""
    real = entries

    def planned(battery: Battery) -> tuple[Entry, ...]:
        assert set(swaps) <= {entry.name for entry in real(battery)}
        return tuple(replace(e, attack=swaps.get(e.name, e.attack)) for e in real(battery))

    monkeypatch.setattr(pipeline, "entries", planned)


def linear_onnx(folder: Path, name: str, net: Linear, side: int = 8) -> dict[str, Any]:
    """Write a Linear as an ONNX file; returns its entry in a battery's panel."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1)]
    weights = {"w": net.weight.numpy(), "b": net.bias.numpy()}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(net.bias)])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = model.SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(content)
    return {
        "name": name,
        "title": name,
        "path": f"{name}.onnx",
        "sha256": sha256(content).hexdigest(),
        "output": "logits",
    }
