"""What a recipe starts from: a network of the panel's kinds with fresh weights, or the network of an ONNX file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import onnx
import torch
from torch import nn

from ...models.onnx.check import ModelFileError, checked_onnx
from ...models.onnx.ports import Names
from ...models.training.export import export
from ...models.training.harden_onnx import TrainableOnnx
from ...models.training.networks import LeNet5, Mlp, SmallResNet, initialised
from ..battery.battery import Battery
from ..choices import HardenNetwork
from ..errors import InvalidInput, Problem, Unexpected, Where
from ..submission.models import OnnxModel
from ..submission.submission import GivenSubmission
from ..victim.assemble import CODES
from ..victim.loading import preprocess_of

_TITLES = {"lenet": "LeNet-5", "mlp": "multilayer perceptron", "resnet": "small ResNet"}


class Start(Protocol):
    """Where the weights come from, and how the trained network is written."""

    @property
    def title(self) -> str:
        """What to call it."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of all that it is."""
        ...

    @property
    def given(self) -> bool:
        """Whether its weights are trained already."""
        ...

    def build(self, rng: torch.Generator, *, widen: bool = False) -> nn.Module:
        """The network before training, of logits; `widen` adds an output, the last. Raises InvalidInput."""
        ...

    def to_onnx(self, network: nn.Module) -> bytes:
        """As an ONNX file."""
        ...

    def declared(self) -> dict[str, Any]:
        """The submission's `model`, without `path`, `sha256` and `reject_index`."""
        ...


@dataclass(frozen=True)
class Fresh:
    """A network of models/training/networks.py."""

    network: HardenNetwork
    shape: tuple[int, int, int]
    classes: int
    device: torch.device
    given = False

    @property
    def title(self) -> str:
        """See Start."""
        return _TITLES[self.network]

    @property
    def digest(self) -> str:
        """See Start."""
        text = json.dumps([self.network, self.shape, self.classes])
        return hashlib.sha256(text.encode()).hexdigest()

    def build(self, rng: torch.Generator, *, widen: bool = False) -> nn.Module:
        """See Start."""
        classes = self.classes + widen
        match self.network:
            case "lenet":
                try:
                    network = initialised(partial(LeNet5, classes, self.shape), rng)
                except Unexpected as error:
                    where = Where(key="--network lenet")
                    problem = Problem("FB114", error.expected, error.got, "--network resnet", where)
                    raise InvalidInput(problem) from error
            case "mlp":
                network = initialised(partial(Mlp, classes, self.shape), rng)
            case "resnet":
                stem = 1 if min(self.shape[1:]) < 16 else 2
                network = initialised(partial(SmallResNet, classes, self.shape[0], stem), rng)
        return network.to(self.device)

    def to_onnx(self, network: nn.Module) -> bytes:
        """See Start."""
        with torch.no_grad():
            columns = network(torch.zeros(1, *self.shape, device=self.device)).shape[1]
        return export(network.cpu(), shape=self.shape, classes=columns, title=self.title)

    def declared(self) -> dict[str, Any]:
        """See Start."""
        return {"kind": "onnx", "output": "logits"}


@dataclass(frozen=True)
class GivenNetwork:
    """The network of an ONNX file."""

    model: onnx.ModelProto
    folder: Path
    spec: OnnxModel
    as_given: dict[str, Any]
    title: str
    shape: tuple[int, int, int]
    device: torch.device
    given = True

    @property
    def digest(self) -> str:
        """See Start."""
        digest = hashlib.sha256(self.to_onnx(self.build(torch.Generator())))
        digest.update(self.spec.model_dump_json().encode())
        return digest.hexdigest()

    def build(self, rng: torch.Generator, *, widen: bool = False) -> nn.Module:
        """See Start."""
        try:
            return TrainableOnnx(
                self.model,
                self.folder,
                shape=self.shape,
                device=self.device,
                preprocess=preprocess_of(self.spec.input),
                output=self.spec.output,
                names=Names(self.spec.input.name, self.spec.output_name),
                widen=widen,
            )
        except ModelFileError as error:
            raise _refused(error) from error

    def to_onnx(self, network: nn.Module) -> bytes:
        """See Start."""
        assert isinstance(network, TrainableOnnx)
        return network.to_onnx()

    def declared(self) -> dict[str, Any]:
        """See Start."""
        return {key: value for key, value in self.as_given.items() if key not in ("path", "sha256")}


def start_of_submission(given: GivenSubmission, battery: Battery, device: torch.device) -> GivenNetwork:
    """The network of a submission. Raises InvalidInput where it is no plain ONNX classifier."""
    spec = given.spec.model
    if not isinstance(spec, OnnxModel):
        expected, got = "an ONNX model to harden", f"kind: {spec.kind}"
        fix = "export it as ONNX, or train a network from scratch with --network"
        raise InvalidInput(Problem("FB210", expected, got, fix, given.source.where(("model",))))
    if given.spec.defenses:
        expected, got = "a model without defenses, since a recipe trains the network alone", "one with them"
        fix = "remove `defenses`, and write them into the hardened submission"
        raise InvalidInput(Problem("FB210", expected, got, fix, given.source.where(("defenses",))))
    return _given(given.folder, spec, given.as_given["model"], given.spec.name, battery, device)


def start_of_onnx(path: Path, battery: Battery, device: torch.device) -> GivenNetwork:
    """The network of an ONNX file that takes pixels in [0, 1] and returns logits. Raises InvalidInput."""
    spec = OnnxModel(kind="onnx", path=path.name, output="logits")
    return _given(path.parent, spec, {"kind": "onnx", "output": "logits"}, path.stem, battery, device)


def _given(
    folder: Path, spec: OnnxModel, as_given: dict[str, Any], title: str, battery: Battery, device: torch.device
) -> GivenNetwork:
    if spec.reject_index is not None:
        expected, where = "a network without a rejecting output", Where(key="model.reject_index")
        fix = "start from the network that it was made from"
        raise InvalidInput(Problem("FB210", expected, "one with it", fix, where))
    try:
        model = checked_onnx(folder / spec.path, spec.sha256)
    except ModelFileError as error:
        raise _refused(error) from error
    start = GivenNetwork(model, folder, spec, as_given, title, battery.spec.shape, device)
    with torch.no_grad():
        columns = start.build(torch.Generator())(torch.zeros(2, *battery.spec.shape, device=device)).shape[1]
    if columns != battery.classes:
        expected = f"{battery.classes} numbers an image for {battery.spec.name}"
        fix = "take a network for these classes, or another --battery"
        raise InvalidInput(Problem("FB207", expected, f"{columns}", fix, Where(key="model")))
    return start


def _refused(error: ModelFileError) -> InvalidInput:
    return InvalidInput(Problem.of(CODES[error.kind], error, Where(key="model")))
