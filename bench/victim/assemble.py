"""From what was submitted to the victim: the model behind its defenses, in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ...models.base import Classifier
from ...models.certificate import Certificate
from ...models.files import sha256_of
from ...models.head import Output
from ...models.loaded import Loaded
from ...models.modules.module import from_module, module_digest
from ...models.onnx.check import Kind, ModelFileError, checked_onnx, external_files
from ...models.onnx.load import load_onnx
from ...models.onnx.ports import Names
from ...models.preprocess import Preprocess
from ..battery.ground import Ground
from ..battery.spec import PanelModel
from ..errors import (
    Failed,
    FoolbenchError,
    InvalidInput,
    ModelFailure,
    Problem,
    Several,
    Unexpected,
    Where,
    one_line,
    together,
)
from ..machine.memory import lack_told, sparing
from ..machine.seeds import generator
from ..reading.values import files_named
from ..submission.defenses import Defense, PackageDefense
from ..submission.submission import GivenSubmission
from .defended import Cached, defended
from .fitting import training_images
from .kept import KeptModule, kept_module
from .loading import conditions_of, load_model, preprocess_of
from .recorded import RecordedDefense, recorded

T = TypeVar("T")
CODES: dict[Kind, str] = {
    "missing": "FB200",
    "sha256": "FB201",
    "html": "FB202",
    "pickle": "FB203",
    "truncated": "FB204",
    "custom_operator": "FB205",
    "external_data": "FB206",
    "classes": "FB207",
    "outputs": "FB208",
    "input": "FB209",
    "unsupported": "FB210",
    "backend": "FB211",
    "nan": "FB300",
    "changing": "FB302",
}
"""The code of each way in which a model can be refused: FB2xx for what its file is, FB3xx for what it answers."""


@dataclass(frozen=True)
class Assembled:
    """A victim, ready to be attacked."""

    victim: Classifier
    bare: Assembled | None
    """The same model without its defenses; None where it has none."""
    certificate: Certificate
    backend: str
    digest: str
    """sha256 of the model and the defenses in front of it."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated, wherever it came from."""

    name: str
    as_given: dict[str, Any]
    digest: str
    """sha256 of everything that makes it what it is."""
    assemble: Callable[[Ground], Assembled]
    """Load it, certify it on the ground's data, and put its defenses in front of it. Raises FoolbenchError."""
    anew: Callable[[Ground], Assembled] | None = None
    """The same, of what it was before anything was asked of it; where it can be pickled, for another process too.
    None: `assemble` is all there is."""
    foreign: Literal["module", "package"] | None = None
    """Which code of its author's runs in it: a module, or a defense that a package brings; None: it is data."""

    def again(self, ground: Ground) -> Assembled:
        """Build it anew. Raises FoolbenchError."""
        return (self.anew or self.assemble)(ground)


def subject_of(given: GivenSubmission) -> Subject:
    """A submission read from YAML."""
    digest, bare_digest = _digests(given)
    assemble = partial(_submitted, given, digest, bare_digest)
    packaged = any(isinstance(defense, PackageDefense) for defense in given.spec.defenses)
    return Subject(given.spec.name, given.as_given, digest, assemble, assemble, "package" if packaged else None)


def subject_of_module(
    module: torch.nn.Module,
    name: str,
    preprocess: Preprocess,
    *,
    output: Output = "logits",
    reject_index: int | None = None,
) -> Subject:
    """A torch module that somebody is still training; the arguments are those of models/modules/module.py."""
    digest = module_digest(module)
    shown = {"name": name, "model": {"kind": "torch.nn.Module", "class": type(module).__qualname__, "digest": digest}}

    whole = _digest([digest, repr(preprocess), [("output", output), ("reject_index", reject_index)]])
    assemble = partial(_module, preprocess=preprocess, output=output, reject_index=reject_index, digest=whole)
    kept = kept_module(module)
    anew = None if kept is None else partial(_kept, kept, assemble)
    return Subject(name, shown, whole, partial(assemble, module), anew, foreign="module")


def _module(
    module: torch.nn.Module,
    ground: Ground,
    *,
    preprocess: Preprocess,
    output: Output,
    reject_index: int | None,
    digest: str,
) -> Assembled:
    def load() -> Loaded:
        conditions = conditions_of(ground)
        return from_module(module, conditions, preprocess=preprocess, output=output, reject_index=reject_index)

    loaded = _loading(load, "the module")
    return Assembled(loaded.classifier, None, loaded.certificate, loaded.backend, digest)


def _kept(kept: KeptModule, assemble: Callable[..., Assembled], ground: Ground) -> Assembled:
    return assemble(kept.module(), ground)


def _digests(given: GivenSubmission) -> tuple[str, str]:
    """sha256 of the whole submission, and of the model alone, whatever stands in front of it: every submission of it
    has the same bare model. Weights may take gigabytes, so each file is read once for both."""
    contents, spec = given.contents(), given.spec
    beside: dict[str, set[Path]] = {}
    wrong: list[FoolbenchError] = []
    for name, path in given.files().items():
        try:
            beside[name] = _external_data(given, name, path)
        except (InvalidInput, ModelFailure) as error:
            wrong.append(error)
    if wrong:
        raise together(wrong) from wrong[0]
    weights = {path: sha256_of(path) for path in sorted(set[Path]().union(*beside.values()))}
    mine = list(files_named(spec.model))
    of_model = set[Path]().union(*(beside[name] for name in mine))
    whole = [given.digest(contents), {path.name: digest for path, digest in weights.items()}]
    model = [
        spec.model.model_dump(mode="json"),
        {name: contents[name] for name in mine},
        {path.name: digest for path, digest in weights.items() if path in of_model},
    ]
    return _digest(whole), _digest(model)


def _external_data(given: GivenSubmission, name: str, path: Path) -> set[Path]:
    """The files that one of its files, where it is an ONNX graph, keeps weights in, if not in itself."""
    if path.suffix != ".onnx":
        return set()
    namers = (i for i, defense in enumerate(given.spec.defenses) if name in files_named(defense))
    where = "model" if name in files_named(given.spec.model) else ("defenses", next(namers))
    return _loading(lambda: set(external_files(checked_onnx(path), path.parent)), where, given)


def _submitted(given: GivenSubmission, given_digest: str, bare_digest: str, ground: Ground) -> Assembled:
    spec = given.spec
    loaded = _loading(lambda: load_model(spec.model, given.folder, ground), "model", given)
    # Defenses ask it too, while they are fitted and of copies that they make.
    model = sparing(loaded.classifier, ground.memory)
    bare = Assembled(model, None, loaded.certificate, loaded.backend, bare_digest)
    if not spec.defenses:
        return bare
    victim = _behind_defenses(model, given, ground)
    return replace(bare, victim=victim, bare=bare, digest=given_digest)


def _behind_defenses(model: Classifier, given: GivenSubmission, ground: Ground) -> Classifier:
    """Build the chain from the model outwards. What is fitted to training images is fitted to them as it will see them,
    changed by the defenses in front of it, which are not built yet: each stands in front of a recorder for that."""
    defenses = given.spec.defenses
    cached = [Cached() for _ in defenses]

    def build(i: int, defense: Defense, inner: Classifier) -> Classifier:
        return defended(inner, defense, given.folder, ground, partial(training, i), cached[i])

    @cache
    def recording(i: int) -> RecordedDefense | None:
        return recorded(defenses[i], model, lambda defense, recorder: build(i, defense, recorder))

    def after(i: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        defense = recording(i)
        rng = generator(ground.spec.name, "defense", "shown", i, device=model.device)
        return (images, labels) if defense is None else defense.change(images, labels, rng)

    def training(i: int, most: int) -> tuple[Tensor, Tensor]:
        images, labels = training_images(ground.battery, most)
        for j in range(i):
            images, labels = _loading(lambda j=j, x=images, y=labels: after(j, x, y), ("defenses", j), given)
        return images, labels

    victim = model
    wrong: list[FoolbenchError] = []
    # An image meets the defenses in the order in which they are written, so the last one wraps the model first.
    for i, defense in reversed(list(enumerate(defenses))):
        try:
            built = _loading(lambda i=i, d=defense, v=victim: build(i, d, v), ("defenses", i), given)
        except (InvalidInput, ModelFailure) as error:  # the others are built without it, to tell all at once
            wrong.insert(0, error)
        else:
            victim = sparing(built, ground.memory)
    if wrong:
        raise together(wrong) from wrong[0]
    return victim


def panel_member(ground: Ground, model: PanelModel) -> Loaded:
    """Load one of a battery's reference models, certified like a submission's. It answers by the fixed rule, whatever
    answers for the subject."""
    return _loading(
        lambda: load_onnx(
            ground.battery.panel_path(model),
            conditions_of(replace(ground, backend="auto")),
            preprocess=preprocess_of(model.input),
            output=model.output,
            names=Names(model.input.name, model.output_name),
            sha256=model.sha256,
        ),
        f"the panel model {model.name}",
    )


def panel_classifier(ground: Ground, name: str) -> Classifier:
    """One of a battery's reference models, by name."""
    assert ground.spec.panel is not None
    model = next(m for m in ground.spec.panel.models if m.name == name)
    return panel_member(ground, model).classifier


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _loading(load: Callable[[], T], what: str | tuple[str | int, ...], given: GivenSubmission | None = None) -> T:
    """Load something; whatever is wrong with it becomes a FoolbenchError pinned to its line, where it has one."""
    where: tuple[str | int, ...] = what if isinstance(what, tuple) else (what,)

    def refused(error: Unexpected) -> FoolbenchError:
        place = Where(key=f"{what}") if given is None else given.source.where((*where, *error.at))
        if isinstance(error, ModelFileError):
            kind = ModelFailure if error.kind in ("nan", "changing") else InvalidInput
            return kind(Problem.of(CODES[error.kind], error, place))
        # What a defense says of its values only shows on this battery, but is as wrong as what shows when it is read.
        if where[0] == "defenses" and not isinstance(error, Failed):
            return InvalidInput(Problem.of("FB104", error, place))
        return ModelFailure(Problem.of("FB301", error, place))

    try:
        with lack_told("to load a defense" if where[0] == "defenses" else "to load the network"):
            return load()
    except FoolbenchError:
        raise
    except Several as error:
        raise together([refused(one) for one in error.errors]) from error
    except Unexpected as error:
        raise refused(error) from error
    except (RuntimeError, ValueError, TypeError) as error:
        alone = "this defense" if where[0] == "defenses" else "the model"
        fix = f"run {alone} by itself on images of the battery's shape"
        raise refused(Failed("it to load and answer", one_line(error), fix)) from error
