"""The submissions that discrimination.py tells apart: several techniques, trainings and defenses for one battery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from defenses_models import PANEL, File, Model, models, write_submission
from defenses_zoo import DEFENSES
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.harden.harden import SUBMISSION, harden
from foolbench.bench.harden.options import Hardening
from foolbench.bench.harden.steps import StepProgress
from onnxruntime.quantization import QuantType, quantize_dynamic
from real_data import DataError, check_networks, network_names, network_row

Zoo = Literal["digits", "mnist"]
BATTERIES: dict[Zoo, str] = {"digits": "digits-v1", "mnist": "mnist-v1"}
BEHIND: dict[Zoo, tuple[str, ...]] = {
    "digits": (
        *("bit_depth", "median", "jpeg", "feature_squeezing", "max_softmax", "energy", "gaussian_noise"),
        *("randomized_smoothing", "ensemble", "pca"),
    ),
    "mnist": ("bit_depth", "median", "max_softmax", "ensemble"),
}
"""Rows of defenses_zoo.py, with their parameters."""
HARDENED: dict[Zoo, dict[str, Hardening]] = {
    "digits": {
        "FGSM-trained": Hardening("adversarial"),
        "PGD-trained": Hardening("adversarial", attack="pgd"),
        "fooling class": Hardening("fooling-class"),
        "detector": Hardening("detector"),
        "density": Hardening("density"),
    },
    "mnist": {
        "FGSM-trained": Hardening("adversarial"),
        "PGD-trained": Hardening("adversarial", attack="pgd"),
        "fooling class": Hardening("fooling-class"),
    },
}
"""LeNets trained from scratch, seed 0, with the defaults of `foolbench harden`."""


@dataclass(frozen=True)
class Kept:
    """One submission of a zoo, made when it is asked for."""

    name: str
    make: Callable[[Path], Path]
    """Writes it into a folder, its own alone, and returns its submission.yaml."""

    @property
    def slug(self) -> str:
        """Its folder's name."""
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())


def zoo(which: Zoo, data: Path | None, told: StepProgress) -> list[Kept]:
    """A zoo's submissions, the models that others stand on first, since their finished shards serve those too.

    `data`: the folder of real data, which MNIST's networks come from; `told`: how trainings go. Raises DataError where
    it is missing or one of its networks is.
    """
    if which == "mnist" and data is None:
        raise DataError("expected the networks of ../shared/data, got none: set FOOLBENCH_TEST_DATA to their folder")
    base = models(data)[which]
    nets = _digits() if which == "digits" else _mnist(data)
    plain = [_plain(base), *(_plain(replace(base, name=name, file=file)) for name, file in nets.items())]
    behind = [_behind(base, name) for name in BEHIND[which]]
    hardened = [_hardened(f"LeNet-5, {name}", how, BATTERIES[which], told) for name, how in HARDENED[which].items()]
    return [*plain, _quantised(base), *behind, *hardened]


def _digits() -> dict[str, File]:
    """The panel's own models, as the battery states them."""
    panel = read_battery(BATTERIES["digits"]).spec.panel
    assert panel is not None
    return {f"digits {m.name}": File(PANEL / m.path, _stated(m.output, m.output_name)) for m in panel.models}


def _stated(output: str, output_name: str | None) -> dict[str, Any]:
    return {"output": output} | ({} if output_name is None else {"output_name": output_name})


def _mnist(data: Path | None) -> dict[str, File]:
    """The data folder's networks, the one of defenses_models.py apart, as models.json states them."""
    assert data is not None
    names = [name for name in network_names(data, "mnist") if not name.endswith("Convnet_maxpool")]
    check_networks(data, names)
    found = {}
    for name in names:
        row = network_row(data, name)
        layout = "nchw" if row["layout"] == "NCHW" else "flat"
        found[name] = File(
            data / row["file"],
            {"output": row["outputs"], "input": {"scale": round(255 * row["scale"]), "layout": layout}},
        )
    return found


def _plain(model: Model) -> Kept:
    return Kept(model.name, lambda folder: write_submission(model, None, folder))


def _behind(model: Model, name: str) -> Kept:
    defense = next(d for d in DEFENSES if d.name == name)
    return Kept(f"{model.name} behind {name}", lambda folder: write_submission(model, defense, folder))


def _quantised(model: Model) -> Kept:
    """ONNX Runtime's own dynamic quantisation, with its defaults but for the weights of convolutions, which its CPU
    provider takes as uint8 only."""
    name = f"{model.name}, quantised"

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "quantised.onnx"
        quantize_dynamic(model.file.path, file, weight_type=QuantType.QUInt8)
        content: dict[str, Any] = {
            "schema": 1,
            "name": name,
            "authors": ["foolbench"],
            "battery": model.battery,
            "model": {"kind": "onnx", "path": file.name, "output": "logits"} | model.file.says,
        }
        path = folder / SUBMISSION
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return Kept(name, make)


def _hardened(name: str, how: Hardening, battery: str, told: StepProgress) -> Kept:
    def make(folder: Path) -> Path:
        path = folder / SUBMISSION
        if not path.is_file():
            harden(None, how, folder, battery=battery, device="cpu", told=told)
            given = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump(given | {"name": name}, sort_keys=False, allow_unicode=True))
        return path

    return Kept(name, make)
