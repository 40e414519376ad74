"""The four patch properties of one victim on chosen images, and the repeated-instance test beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...attacks.base import Fool, Perturb
from ...attacks.cppn import Cppn
from ...attacks.deepception import DeepceptionSpec
from ...attacks.levels import Levels
from ...attacks.responses.psychophysics import Properties, Psychophysics, others
from ...attacks.responses.repeated_instance import Removals, RepeatedInstance
from ...leaderboard.record.words import plural
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.answers import checked_answers
from ..asking.reading import reading_of
from ..battery.battery import Battery
from ..battery.ground import Execution, Ground
from ..errors import EnvironmentFault, InvalidInput, Problem, Where
from ..honesty.properties import ask
from ..machine.device import describe
from ..machine.memory import sparing
from ..machine.seeds import generator
from ..running.progress import Progress, Silent
from ..victim.assemble import Subject
from .fooling_images import FoolingImages, of_run

IMAGES = 4
"""Images probed where none are named."""
FRESH = Cppn(children=200, generations=20)
"""What evolves fooling images where no run is given: 4000 queries."""
TARGETS = 10
"""Classes that those are evolved for, at most: the first ones."""
_BYTES = 2**28
"""What the images of one question of the properties may take; more images are measured in several blocks."""


@dataclass(frozen=True)
class Removal:
    """The repeated-instance test on one attack's images."""

    given: FoolingImages
    test: RepeatedInstance
    removals: Removals | None
    """None where there are no images, for `given.reason`."""


@dataclass(frozen=True)
class Probe:
    """What was measured. Arrays have one row an image."""

    subject: Subject
    ground: Ground
    backend: str
    """What answered for the subject's network."""
    batch: int | None
    """Images asked about at once, at most, where that was fewer than the battery's batch."""
    rows: np.ndarray
    """`(n,)` int64: which evaluation images."""
    label: np.ndarray
    """`(n,)` int64: the victim's own largest class, whose probability all properties are about."""
    accepted: np.ndarray
    """`(n,)` bool: whether the victim accepts the image."""
    confidence: np.ndarray
    """`(n,)` float32."""
    other: np.ndarray
    """`(n,)` int64: the evaluation image that the third property was measured on; -1 for the first donor."""
    settings: Psychophysics
    properties: Properties
    removals: tuple[Removal, ...]


def probe(
    subject: Subject,
    battery: Battery,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    *,
    images: int | tuple[int, ...] = IMAGES,
    run: Path | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Probe a subject with the data of a battery.

    Args:
        subject: the victim, from `subject_of`.
        battery: gives the images, the patch's side, stride and copies (its `deepception`; without that: a quarter of
            the shorter side, half of that, and 4), and the device batch.
        execution: device, backend and batch, as for an evaluation; a probe has no workers.
        images: how many: the first so many evaluation images that the victim gets right; or which, by their position
            in the battery, right or wrong.
        run: a finished run's folder, whose CPPN and evolution images the repeated-instance test then takes; without
            it CPPN images are evolved here.
        progress: told of each step.

    Raises:
        InvalidInput: an image that the battery does not have; no image that the victim gets right; a run that is none,
            or one of other images.
        EnvironmentFault: a battery of one image in all, since the third property needs two.
        FoolbenchError: as for an evaluation.
    """
    progress = progress or Silent()
    with execution.on(battery) as ground:
        data = ground.data
        if not isinstance(images, int) and (wrong := [i for i in images if not 0 <= i < len(data.labels)]):
            expected, where = f"positions of 0 to {len(data.labels) - 1}", Where(key="--images")
            fix = f"--images 0,{len(data.labels) - 1}"
            raise InvalidInput(Problem("FB114", expected, f"{wrong[0]}", fix, where))
        if len(data.labels) == 1 and not len(data.donors):
            got = f"one evaluation image and no training image in {battery.spec.name}"
            fix = "add an evaluation image, or training images (the battery's `data.train`)"
            raise EnvironmentFault(Problem("FB400", "another image to put patches on", got, fix))
        of_the_run = None if run is None else of_run(run, battery)
        assembled = subject.assemble(ground)
        victim = sparing(assembled.victim, ground.memory)
        progress.say(f"{subject.name} on {battery.spec.name}, {describe(ground.device)}")
        rows, probabilities = _chosen(images, victim, ground)
        reading = reading_of(probabilities)
        settings = psychophysics(battery)
        progress.say(f"local, spatial, activation-inhibition, cumulative: {plural(len(rows), 'image')}")
        properties, other = _properties(settings, victim, ground, rows, probabilities.argmax(1))
        if of_the_run is None:
            progress.say(f"evolving CPPN images: {FRESH.children * FRESH.generations:,} queries")
            of_the_run = (_fresh(victim, ground),)
        test = repeated_instance(battery.spec.shape, ground.levels)
        removals = []
        for given in of_the_run:
            progress.say(f"repeated instances: {plural(len(given.images), 'image')} of {given.attack}")
            removals.append(_removal(given, test, victim, ground))
        return Probe(
            subject,
            ground,
            assembled.backend,
            ground.memory.below(battery.spec.batch),
            rows,
            probabilities.argmax(1).cpu().numpy(),
            (reading.label >= 0).cpu().numpy(),
            reading.confidence.cpu().numpy(),
            other,
            settings,
            properties,
            tuple(removals),
        )


def psychophysics(battery: Battery) -> Psychophysics:
    """The settings with which a battery's properties are measured."""
    spec = battery.spec.attacks.of(DeepceptionSpec)
    if spec is not None:
        return Psychophysics(side=spec.side, stride=spec.stride, copies=spec.copies)
    short = min(battery.spec.shape[1:])
    side = min(short, max(2, short // 4))
    return Psychophysics(side=side, stride=max(1, side // 2), copies=4)


def repeated_instance(shape: tuple[int, int, int], levels: Levels) -> RepeatedInstance:
    """The test for images of this shape: windows of an eighth, a quarter and a third of the shorter side, of at least
    3 pixels, since smaller ones are alike by chance."""
    short = min(shape[1:])
    return RepeatedInstance(
        sides=tuple(sorted({min(short, max(3, round(short / part))) for part in (8, 4, 3)})), levels=levels
    )


def _pixels(images: np.ndarray, device: torch.device) -> Tensor:
    return from_bytes(torch.tensor(images).to(device))


def _chosen(images: int | tuple[int, ...], victim: Classifier, ground: Ground) -> tuple[np.ndarray, Tensor]:
    """Rows of the evaluation images, and the victim's probabilities on them, on its device."""
    data, how, batch = ground.data, ground.asking, ground.spec.batch
    rng = generator(ground.spec.name, "probe", "clean", device=victim.device)
    if not isinstance(images, int):
        rows = np.array(images, np.int64)
        return rows, checked_answers(victim, _pixels(data.images[rows], victim.device), rng, how)
    found: list[int] = []
    kept: list[Tensor] = []
    for start in range(0, len(data.labels), batch):
        part = slice(start, start + batch)
        asked = checked_answers(victim, _pixels(data.images[part], victim.device), rng, how)
        right = (reading_of(asked).label.cpu().numpy() == data.labels[part]).nonzero()[0][: images - len(found)]
        found += (start + right).tolist()
        kept.append(asked[torch.tensor(right, device=victim.device)])
        if len(found) >= images:
            break
    if not found:
        expected, got = "an evaluation image that the victim gets right", f"none of {len(data.labels)}"
        raise InvalidInput(Problem("FB114", expected, got, "name the images: --images 0,1,2"))
    return np.array(found, np.int64), torch.cat(kept)


def _properties(
    settings: Psychophysics, victim: Classifier, ground: Ground, rows: np.ndarray, labels: Tensor
) -> tuple[Properties, np.ndarray]:
    """The properties, and `Probe.other`.

    In as few blocks as the memory allows. One block, asked for the images that an evaluation takes, gives the numbers
    of that evaluation.
    """
    name, shape, data, device = ground.spec.name, ground.spec.shape, ground.data, victim.device
    _, height, width = shape
    windows = math.prod((length - settings.side) // settings.stride + 1 for length in (height, width))
    share = max(2, _BYTES // (4 * max(1, windows) * math.prod(shape)))
    # An image without donors needs another of its block: no block of one, unless there is one image.
    blocks = np.array_split(np.arange(len(rows)), max(1, min(-(-len(rows) // share), len(rows) // 2)))
    # Without donors, the first other evaluation image is the one of a single image.
    instead = -1 if len(data.donors) else int(rows[0] == 0)
    donors = data.donors if instead < 0 else data.images[instead : instead + 1]
    parts, other = [], []
    for i, block in enumerate(blocks):
        suffix = (i,) if i else ()
        place = others(labels[torch.tensor(block, device=device)]).cpu().numpy()
        other.append(np.where(place < 0, instead, rows[block][place]))
        task = Perturb(
            _pixels(data.images[rows[block]], device),
            labels[torch.tensor(block, device=device)],
            _pixels(donors, device),
            torch.tensor(data.mean).to(device),
            levels=ground.levels,
        )
        rng = generator(name, "properties", *suffix, device=device)
        victim_rng = generator(name, "properties", "victim", *suffix, device=device)
        parts.append(ask(settings.measure(task, rng), victim, victim_rng, ground.asking))
    return Properties.join(parts), np.concatenate(other)


def _fresh(victim: Classifier, ground: Ground) -> FoolingImages:
    """CPPN images evolved with a small budget, those that the victim accepts as their class."""
    name, how, device = ground.spec.name, ground.asking, victim.device
    targets = torch.arange(min(ground.battery.classes, TARGETS), device=device)
    task = Fool(ground.spec.shape, targets, 1, torch.tensor(ground.data.mean).to(device), ground.levels)
    search = FRESH.search(task, generator(name, "probe", "cppn", device=device))
    victim_rng = generator(name, "probe", "cppn", "victim", device=device)
    finals = ground.levels.to_bytes(ask(search, victim, victim_rng, how)[0])
    label = reading_of(checked_answers(victim, from_bytes(finals), victim_rng, how)).label
    good = (label == targets).cpu().numpy()
    reason = None if good.any() else "no image of the small budget is accepted as its class: give a run's with --run"
    images = finals.cpu().numpy()[good]
    source = f"evolved here, {FRESH.children * FRESH.generations:,} queries"
    return FoolingImages("cppn", source, images, targets.cpu().numpy()[good], reason)


def _removal(given: FoolingImages, test: RepeatedInstance, victim: Classifier, ground: Ground) -> Removal:
    if not len(given.images):
        return Removal(given, test, None)
    name, device = ground.spec.name, victim.device
    measuring = test.measure(
        _pixels(given.images, device),
        torch.tensor(given.targets).to(device),
        generator(name, "probe", "repeated", given.attack, device=device),
    )
    victim_rng = generator(name, "probe", "repeated", given.attack, "victim", device=device)
    return Removal(given, test, ask(measuring, victim, victim_rng, ground.asking))
