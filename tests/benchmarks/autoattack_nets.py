"""The networks that autoattack.py attacks, and the L∞ attacks of their batteries in a battery of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from certified import Chain, chain_of
from defenses_models import File, Model, write_submission
from foolbench.attacks.spec import pixel_range
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.harden.harden import SUBMISSION, harden
from foolbench.bench.harden.options import Hardening
from foolbench.bench.harden.steps import StepProgress
from real_data import check_networks, network_row, reading

LINF = "linf"
"""The row of the shipped batteries that is compared."""
TRAINED_FOR = "2/255"
"""The ε that the robust networks for CIFAR-10 were trained for (VNN-COMP 2021)."""
KERAS = {"scale": 255, "mean": [125.307, 122.95, 113.865], "std": [62.9932, 62.0887, 66.7048]}


@dataclass(frozen=True)
class Net:
    """One network, written as a submission when it is asked for."""

    name: str
    battery: str
    make: Callable[[Path], Path]
    """Writes the submission into a folder and returns its submission.yaml."""
    further: tuple[str, ...] = ()
    """ε beside the battery's headline."""
    chain: Callable[[], Chain] | None = None
    """The network as proofs need it, where it has a form that they can be read off."""


def nets(data: Path, models: Path | None, told: StepProgress) -> list[Net]:
    """All of them. `models`: where the PGD-trained LeNet for MNIST is kept, which is trained there once, seed 0; it is
    left out where this is None. Networks are looked for when they are made."""
    kw = [_robust(data, f"oval21_cifar_{size}_kw", proven=True) for size in ("base", "deep", "wide")]
    trained = [_robust(data, f"resnet_{size}", proven=False) for size in ("2b", "4b")]
    lenet = _plain(data, "onnx/cifar10_onepixel_lenet", KERAS)
    zoo = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    found = [*trained, *kw, lenet, _plain(data, "zoo/cifar10_resnet20", zoo)]
    return found if models is None else [*found, _pgd_trained(models, told)]


def _robust(data: Path, name: str, *, proven: bool) -> Net:
    stem = f"cifar10_vnncomp21_{name}"

    def file() -> tuple[Path, dict[str, Any]]:
        check_networks(data, [stem])
        row = network_row(data, stem)
        return data / row["file"], {"mean": row["mean"], "std": row["std"]}

    def make(folder: Path) -> Path:
        path, says = file()
        return write_submission(_model(name, path, says), None, folder)

    def chain() -> Chain:
        path, says = file()
        return chain_of(path, says["mean"], says["std"])

    return Net(name, "cifar10-v1", make, (TRAINED_FOR,), chain if proven else None)


def _plain(data: Path, at: str, says: dict[str, Any]) -> Net:
    path = data / f"{at}.onnx"

    def make(folder: Path) -> Path:
        with reading(path), path.open("rb"):
            pass
        return write_submission(_model(path.stem, path, says), None, folder)

    return Net(path.stem, "cifar10-v1", make)


def _model(name: str, path: Path, says: dict[str, Any]) -> Model:
    return Model(name, "cifar10", "cifar10-v1", (3, 32, 32), File(path, {"input": says}), ())


def _pgd_trained(models: Path, told: StepProgress) -> Net:
    def make(folder: Path) -> Path:
        made = models / "mnist-lenet-pgd"
        if not (made / SUBMISSION).is_file():
            harden(None, Hardening("adversarial", attack="pgd"), made, battery="mnist-v1", device="cpu", told=told)
        shutil.copytree(made, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("work"))
        return folder / SUBMISSION

    return Net("mnist_lenet_pgd", "mnist-v1", make)


def headline(battery: str) -> str:
    """The ε at which a shipped battery tells the L∞ row's survival, as its YAML writes it."""
    spec = read_battery(battery).spec
    entries = next(row.entries for row in spec.ranking if row.name == LINF)
    return str(_dumped(battery)["attacks"][entries[0]]["epsilon"])


def restricted(battery: str, epsilon: str, images: int, folder: Path) -> Battery:
    """A shipped battery's L∞ row alone, at one ε, on its first so many evaluation images: its attacks with all of their
    numbers, its panel, its data. The YAML and the panel's models are written into `folder`."""
    shipped, dumped = read_battery(battery), _dumped(battery)
    row = next(row for row in dumped["ranked"] if row["name"] == LINF)
    attacks = {name: dumped["attacks"][name] for name in row["entries"]}
    for spec in attacks.values():
        spec |= {"images": images, "epsilon": epsilon, "curve": [epsilon]}
        spec.pop("everywhere", None)  # not in the row
    folder.mkdir(parents=True, exist_ok=True)
    panel = shipped.spec.panel
    if panel is not None:
        for model in panel.models:
            shutil.copyfile(shipped.panel_path(model), folder / model.path)
        # Its images are those at the ε of the curve, so that what the battery ships does not serve here.
        dumped["panel"] = {"models": dumped["panel"]["models"]}
    kept = {key: value for key, value in dumped.items() if key not in ("smoke", "controls", "digest")}
    mine = kept | {"name": f"{battery}-linf", "images": images, "ranked": [row], "attacks": attacks}
    (folder / "battery.yaml").write_text(yaml.safe_dump(mine, sort_keys=False, allow_unicode=True))
    return read_battery("./battery.yaml", folder=folder)


def _dumped(battery: str) -> dict[str, Any]:
    """The YAML of a shipped battery, as it stands there."""
    return yaml.safe_load(read_battery(battery).source.path.read_text())


def value(epsilon: str) -> float:
    """ "8/255" in units of [0, 1]."""
    return pixel_range(epsilon)
