"""`foolbench harden`: a recipe turns a model and a battery's training images into a submission that is ready to run."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from ...models.levels import to_bytes
from ..battery.battery import read_battery
from ..battery.ground import Ground
from ..choices import DeviceName, HardenHow
from ..data.data import Data
from ..errors import ModelFailure, Problem, Where
from ..machine.device import choose, describe, repeatable
from ..machine.folder import atomically, claimed
from ..machine.memory import lack_told
from ..machine.provenance import versions
from ..machine.source import source_digest
from ..submission.submission import read_submission
from ..victim.assemble import subject_of
from .adversarial import AdversarialRecipe
from .density import DensityRecipe
from .detector import DetectorRecipe
from .images import Images, images_of
from .measure import HELD_OUT, of_network, of_victim
from .options import Hardening
from .setup import Product, TrainingSetup
from .start import Fresh, Start, start_of_onnx, start_of_submission
from .steps import Row, State, Step, StepProgress, Tensors, followed
from .with_fooling_class import FoolingClassRecipe

DEFAULT_BATTERY = "digits-v1"
MODEL, SUBMISSION, LOG, WORK = "model.onnx", "submission.yaml", "training.json", "work"


class HardenRecipe(Protocol):
    """A recipe, cut into steps."""

    def steps(self) -> list[Step]:
        """All steps, the same on every call."""
        ...

    def product(self, tensors: Tensors) -> Product:
        """What the last step has handed on, as files."""
        ...


@dataclass(frozen=True)
class Hardened:
    """A written submission."""

    folder: Path
    log: dict[str, Any]
    """What training.json holds."""


def harden(
    model: Path | None,
    how: Hardening,
    out: Path,
    *,
    battery: str | None = None,
    device: DeviceName = "auto",
    told: StepProgress,
) -> Hardened:
    """Follow a recipe, from where `out`/work left it, and write model, YAML and log into `out`.

    `model`: a submission.yaml or an ONNX file of logits; None trains `how.network` from scratch. `battery`: its name,
    or a YAML file; by default the submission's own, else digits-v1. On the CPU one thread works, and the same command
    gives the same files, training.json's seconds apart, however often it was interrupted.

    Raises InvalidInput, ModelFailure and EnvironmentFault.
    """
    where = choose(device)
    given = None if model is None or model.suffix == ".onnx" else read_submission(model)
    folder = given.folder if given is not None and battery is None else Path()
    name = battery or (given.spec.battery if given is not None else DEFAULT_BATTERY)
    chosen = read_battery(name, folder=folder)
    with repeatable(where), lack_told():
        images = images_of(chosen, how.images, where)
        if given is not None:
            start: Start = start_of_submission(given, chosen, where)
        elif model is not None:
            start = start_of_onnx(model, chosen, where)
        else:
            start = Fresh(how.network, chosen.spec.shape, chosen.classes, where)
        setup = TrainingSetup(chosen, start, how, images, where)
        with claimed(out / WORK, _manifest(setup)):
            recipe = _recipe(how.how, setup)
            state = followed(recipe.steps(), out / WORK, told)
            product = recipe.product(state.tensors)
            head = {
                "name": f"{start.title[:60]}, {product.title}"[:120],
                "authors": list(given.spec.authors) if given is not None else ["foolbench harden"],
                "battery": name if chosen.shipped else os.path.relpath(folder / name, out),
            }
            measured = _written(setup, product, out, head)
            log = _log(setup, product, state, measured)
            atomically(out / LOG, (json.dumps(log, indent=2) + "\n").encode())
    return Hardened(out, log)


def _recipe(how: HardenHow, setup: TrainingSetup) -> HardenRecipe:
    match how:
        case "fooling-class":
            return FoolingClassRecipe(setup)
        case "adversarial":
            return AdversarialRecipe(setup)
        case "detector":
            return DetectorRecipe(setup)
        case "density":
            return DensityRecipe(setup)


def _manifest(setup: TrainingSetup) -> dict[str, Any]:
    """Everything that determines the files."""
    return {
        "recipe": setup.how.given(),
        "model": setup.start.digest,
        "battery": setup.battery.digest,
        "images": setup.images.digest,
        "device": describe(setup.device),
        "source": source_digest("hardened"),
        "versions": versions(),
    }


def _written(setup: TrainingSetup, product: Product, out: Path, head: dict[str, Any]) -> Row:
    """Write the submission, and load it as an evaluation does. Returns what it measures on held-out images, which
    neither the training nor what the submission is fitted to when it is loaded has seen."""
    expected = of_network(product.network, setup.classes, setup.levels).probabilities(setup.images.held)
    content = setup.start.to_onnx(product.network)
    model = {**setup.start.declared(), "path": MODEL, "sha256": hashlib.sha256(content).hexdigest()}
    if product.reject_index is not None:
        model["reject_index"] = product.reject_index
    submission = {
        "schema": 1,
        **head,
        "model": model,
        "defenses": list(product.defenses),
        "links": {"paper": product.paper},
    }
    if not product.defenses:
        del submission["defenses"]
    for name, data in {MODEL: content, **product.files}.items():
        atomically(out / name, data)
    text = yaml.safe_dump(submission, sort_keys=False, allow_unicode=True, width=120)
    atomically(out / SUBMISSION, text.encode())
    given = read_submission(out / SUBMISSION)
    whole = subject_of(given).assemble(Ground(setup.battery, _as_data(setup.images), setup.device))
    bare = of_victim((whole.bare or whole).victim, setup.rng_there("written"), setup.levels)
    difference = float((bare.probabilities(setup.images.held) - expected.to(setup.device)).abs().max())
    if difference > 1e-3:
        expected, got = "the probabilities of the trained network", f"some that differ by {difference:.2g}"
        fix = "train one from scratch with --network lenet, mlp or resnet"
        raise ModelFailure(Problem("FB301", expected, got, fix, Where(out / MODEL)))
    victim = of_victim(whole.victim, setup.rng_there("written"), setup.levels)
    held, labels = setup.images.held, setup.images.held_labels
    row = victim.row(held, labels, setup.how.distance(setup.battery), setup.rng("measure"), strong=True)
    return {"on": HELD_OUT, **row}


def _as_data(images: Images) -> Data:
    """Held-out images in the place of evaluation images, so that none of those is looked at."""
    held = to_bytes(images.held).cpu().numpy()
    labels = images.held_labels.cpu().numpy()
    return Data(
        images=held,
        labels=labels,
        indices=np.arange(len(held)),
        mean=images.mean.cpu().numpy(),
        donors=held[:0],
        donor_labels=labels[:0],
        no_training=None,
        digest=images.digest,
    )


def _log(setup: TrainingSetup, product: Product, state: State, measured: Row) -> dict[str, Any]:
    how = setup.how
    return {
        "schema": 1,
        "recipe": how.given(),
        "title": product.title,
        "start": {"title": setup.start.title, "digest": setup.start.digest, "trained": setup.start.given},
        "battery": {"name": setup.battery.spec.name, "digest": setup.battery.digest},
        "images": {
            "trained_on": len(setup.images.train),
            "chosen_by": int(setup.images.choosing.sum()),
            "held_out": len(setup.images.held),
            "sha256": setup.images.digest,
        },
        "epsilon": how.distance(setup.battery),
        "seed": how.seed,
        "device": describe(setup.device),
        "source": source_digest("hardened"),
        "versions": versions(),
        "steps": list(state.log),
        "submission": measured,
        "seconds": round(sum(row["seconds"] for row in state.log), 3),
    }
