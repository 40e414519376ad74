"""Gray levels: every image that a victim is asked lies on those that its battery's data have."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from foolbench.attacks.base import Ascent, Fool, Objective, Perturb, Query
from foolbench.attacks.entry import Limit
from foolbench.attacks.fgsm import Fgsm, SmallestEpsilon
from foolbench.attacks.gradient_ascent import GradientAscent
from foolbench.attacks.levels import EIGHT_BITS, Levels
from foolbench.attacks.one_pixel import OnePixel
from foolbench.attacks.patches.bank import PATCH_KINDS, build_bank
from foolbench.attacks.spec import pixel_range
from foolbench.bench.battery.battery import Battery, read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.data.readers import digits
from foolbench.bench.errors import EnvironmentFault, InvalidInput, Unexpected
from foolbench.bench.honesty.final_images import false_on_final_images
from foolbench.bench.honesty.memorised import Unknown
from foolbench.bench.honesty.properties import measure
from foolbench.bench.honesty.questions import answers_to
from foolbench.bench.honesty.recognition import Beginnings
from foolbench.bench.running.prepared import prepare
from foolbench.bench.running.progress import Silent
from foolbench.bench.running.run import run_entries
from foolbench.bench.running.shards import ShardResult
from foolbench.models.base import Classifier
from foolbench.models.levels import from_bytes
from planted import Linear, battery, classifier, ground, halves, seeded, small
from torch import Tensor

T = TypeVar("T")
DIGITS = Levels(17)


# The grid


def test_an_image_from_bytes_and_a_rounded_one_are_equal_bit_for_bit() -> None:
    anything = torch.rand(2000, generator=seeded()) * 1.4 - 0.2
    for count in range(2, 257):
        levels, numbers = Levels(count), torch.arange(count)
        stored = torch.tensor([round(255 * k / (count - 1)) for k in range(count)], dtype=torch.uint8)
        images = from_bytes(stored)
        assert torch.equal(levels.rounded(images), images)
        assert torch.equal(levels.to_bytes(images), stored)
        assert torch.equal(levels.at(numbers), images)
        assert torch.equal(levels.nearest(stored.float()), images)
        assert torch.equal(from_bytes(levels.to_bytes(anything)), levels.rounded(anything))
        moved = torch.randint(-count, count, (count,), generator=seeded())
        assert torch.equal(levels.moved(images, moved), images[(numbers + moved).clamp(0, count - 1)])
        # No level is nearer than the one taken, but for the last bits of float32.
        even = numbers.double() / (count - 1)
        taken = (anything.clamp(0, 1).double() - even[(levels.rounded(anything) * (count - 1)).round().long()]).abs()
        assert bool((taken <= 0.5 / (count - 1) + 1e-6).all())
        # The limit allows every step that is a whole number of levels, from wherever it starts.
        size = (images[:, None] - images).abs().double()
        assert bool((size <= (even[:, None] - even).abs() + levels.slack + 1e-6).all())


def test_the_digits_have_seventeen_levels() -> None:
    assert sorted(np.unique(digits(0, 20).images)) == list(DIGITS.bytes)
    assert DIGITS.slack == EIGHT_BITS.slack == 0.5 / 255


def test_what_is_no_number_of_levels_is_refused() -> None:
    for count in (0, 1, 257):
        with pytest.raises(Unexpected, match="from 2 to 256 gray levels"):
            Levels(count)
    assert [DIGITS.whole(k / 16) for k in range(17)] == list(range(17))
    assert EIGHT_BITS.whole(0.3) == 76
    with pytest.raises(Unexpected, match=r"whole gray levels, k/16, got 0.2: write 3/16"):
        DIGITS.whole(0.2)


# Batteries


def test_a_battery_s_images_must_lie_on_its_levels(tmp_path: Path) -> None:
    images, labels = halves(4)
    on = DIGITS.to_bytes(torch.from_numpy(images).float() / 255).numpy()
    assert battery(tmp_path / "on", on, labels, levels=17, attacks={}).load().images.shape == images.shape
    assert battery(tmp_path / "any", images, labels, attacks={}).load().images.shape == images.shape
    off = on.copy()
    off[2, 0, 3, 3] = 17
    with pytest.raises(EnvironmentFault, match=r"FB408.*on the 17 gray levels.*the byte 17 in image"):
        battery(tmp_path / "off", off, labels, levels=17, attacks={}).load()
    for levels in (1, 257):
        with pytest.raises(InvalidInput, match="levels"):
            battery(tmp_path / str(levels), images, labels, levels=levels, attacks={})


def test_a_largest_change_is_a_whole_number_of_levels(tmp_path: Path) -> None:
    def read(levels: int, **fgsm: Any) -> Battery:
        return battery(tmp_path, *halves(4), levels=levels, attacks=small(fgsm=fgsm))

    sixteenths = {"epsilon": "3/16", "curve": ["1/16", 0.25]}
    plan = {entry.name: entry for entry in entries(read(17, **sixteenths))}
    found = [plan[name].limit for name in ("fgsm", "fgsm_1_16", "fgsm_0.25")]
    assert [limit.value for limit in found if limit] == [3 / 16, 1 / 16, 1 / 4]
    assert pixel_range("8/255") == 8 / 255
    read(256, epsilon=0.3, curve=["8/255"])
    for wrong, key in (({"epsilon": "8/255"}, "epsilon"), ({"curve": ["1/16", "9/255"]}, r"curve\[1\]")):
        with pytest.raises(InvalidInput, match=rf"attacks\.fgsm\.{key}.*gray levels out of 16, such as 1/16"):
            read(17, **(sixteenths | wrong))
    for wrong in ({"epsilon": 0.2}, {"curve": [0.05]}):
        with pytest.raises(InvalidInput, match=r"attacks\.fgsm.*whole gray levels, k/16"):
            read(17, **(sixteenths | wrong))
    for step, said in (("8/255", "out of 16"), (0.05, "write it as 1/16"), ("0.5/16", "write it as 1/16")):
        with pytest.raises(InvalidInput, match=rf"attacks\.fgsm\.finite\.step.*{said}"):
            read(17, **sixteenths, finite={"queries": 9, "step": step})
    with pytest.raises(InvalidInput, match=r"attacks\.fgsm\.smallest.*at least one gray level, 1/16"):
        read(17, **sixteenths, smallest={"largest": 0.05, "coarse": 1, "bisections": 0})


# Attacks that round by themselves


class _Watched:
    """An oracle over a linear network that keeps what it is asked."""

    rejects = False

    def __init__(self) -> None:
        self.net, self.seen = Linear(torch.randn(3, 64, generator=seeded(1)) / 4, torch.zeros(3)), list[Tensor]()

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        self.seen.append(images)
        with torch.no_grad():
            return self.net(images).softmax(1)

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        self.seen.append(images)
        leaf = images.clone().requires_grad_()
        logits = self.net(leaf)
        values = objective(logits, torch.arange(len(images)))
        return Ascent(logits.detach(), values.detach(), torch.autograd.grad(values.sum(), leaf)[0])

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        return self.gradient(images, owners, objective).gradients.sign()


def _on(images: Tensor) -> bool:
    return torch.equal(images, DIGITS.rounded(images))


def _task(count: int = 6) -> Perturb:
    images = DIGITS.rounded(torch.rand(count, 1, 8, 8, generator=seeded(2)))
    labels = _Watched().net(images).argmax(1)
    return Perturb(images, labels, images[:2], images.mean(0), levels=DIGITS)


def test_the_smallest_step_is_looked_for_among_all_levels_and_no_others() -> None:
    oracle, task = _Watched(), _task()
    finals = SmallestEpsilon(1.0, 16, 0).ascend(task, oracle, seeded())
    assert all(_on(images) for images in [*oracle.seen, finals])
    steps = ((finals - task.images).abs().amax((1, 2, 3)) * 16).round()
    assert 1 <= float(steps.min()) < 16  # some fall before the end of the scan
    last = oracle.probabilities(finals, torch.arange(6)).argmax(1)
    assert bool((last != task.labels).all())


def test_one_step_keeps_the_limit_though_its_bytes_differ() -> None:
    task, oracle = _task(), _Watched()
    for k in range(1, 6):
        finals = Fgsm(k / 16).ascend(task, oracle, seeded())
        before, after = DIGITS.to_bytes(task.images), DIGITS.to_bytes(finals)
        limit = Limit("linf", k / 16)
        sizes = limit.sizes(before, after)
        assert bool(limit.kept(sizes, DIGITS).all())
        assert not bool(limit.kept(sizes + 15 / 255, DIGITS).any())
        if k == 3:
            assert {47, 48} >= set((sizes * 255).round().int().tolist())


def test_gradient_ascent_starts_apart_and_stays_on_the_levels() -> None:
    oracle = _Watched()
    task = Fool((1, 8, 8), torch.arange(3), 4, torch.full((1, 8, 8), 0.4), DIGITS)
    finals = GradientAscent("softmax", (1 / 16,), steps=8).ascend(task, oracle, seeded())
    assert all(_on(images) for images in [*oracle.seen, finals])
    assert len({image.numpy().tobytes() for image in oracle.seen[0]}) == 12  # noise of less than a level would be lost


def _searched(search: Generator[Query, Tensor, T], asked: list[Tensor]) -> T:
    net = _Watched().net
    try:
        query = next(search)
        while True:
            asked.append(query.images.clone())
            query = search.send(net(query.images).softmax(1).detach())
    except StopIteration as finished:
        return finished.value


def test_one_pixel_paints_and_patches_have_colours_of_the_levels() -> None:
    task, asked = _task(), list[Tensor]()
    finals = _searched(OnePixel(pixels=3, population=8, iterations=4).search(task, seeded()), asked)
    assert all(_on(images) for images in [*asked, finals])
    for kind in PATCH_KINDS:
        assert _on(_searched(build_bank(task, 2, 1, 2, kind, seeded()), []).patches)


# A detector of images off the levels


class _Detector:
    """A network behind a detector that turns away whatever is not on the 17 levels, and counts."""

    def __init__(self) -> None:
        given = digits(0, 20)
        flat = torch.from_numpy(given.images[given.training]).flatten(1) / 255
        labels = torch.from_numpy(given.labels[given.training])
        means = torch.stack([flat[labels == label].mean(0) for label in range(10)])
        self.bare = classifier(Linear(20 * means, -10 * means.square().sum(1)), (1, 8, 8), 10)
        self.asked = self.off = 0

    def _turned_away(self, images: Tensor) -> Tensor:
        off = (images != DIGITS.rounded(images)).flatten(1).any(1)
        self.asked, self.off = self.asked + len(images), self.off + int(off.sum())
        return off

    def victim(self) -> Classifier:
        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            return self.bare.probabilities(images, rng) * ~self._turned_away(images)[:, None]

        def logits(images: Tensor, rng: torch.Generator) -> Tensor:
            assert self.bare.logits is not None
            away = torch.where(self._turned_away(images), 1000.0, -1000.0)[:, None]
            return torch.cat([self.bare.logits(images, rng), away], 1)

        return replace(self.bare, probabilities=probabilities, logits=logits, rejects=True)


def _attacked(victim: Classifier, read: Battery) -> dict[str, np.ndarray]:
    """What was fooled, of every entry."""
    on = ground(read)
    prepared, plan = prepare(victim, on, None, "a digest"), entries(read)
    found = run_entries(prepared, plan, folder=None, determined_by={}, workers=1, progress=Silent())
    answers_to(victim, [Unknown(prepared, "a digest").question(), Beginnings(prepared, plan, "a digest").question()])
    measure(on, victim, prepared.clean)
    false_on_final_images(victim, prepared.clean, on, found)
    assert all(isinstance(result, ShardResult) for result in found.values())
    return {name: result.fooled for name, result in found.items() if isinstance(result, ShardResult)}


def test_a_detector_of_images_off_the_levels_gains_nothing() -> None:
    detector, read = _Detector(), read_battery("digits-v1", tier="smoke")
    behind = _attacked(detector.victim(), read)
    assert (detector.asked > 50_000, detector.off) == (True, 0)
    bare = _attacked(detector.bare, read)
    assert {name: int(fooled.sum()) for name, fooled in behind.items()} == {
        name: int(fooled.sum()) for name, fooled in bare.items()
    }
    # It is no straw man: were images rounded to 256 levels, no evolved one would pass it.
    detector = _Detector()
    one_pixel = read.spec.attacks.one_pixel.model_copy(update={"exact": None})
    within = dict.fromkeys(("fgsm", "projected_ascent", "transfer", "square", "hop_skip_jump"))  # their ε are of 16
    ascent = read.spec.attacks.gradient_ascent.model_copy(update={"starts": (1 / 16,)})
    kept = {"one_pixel": one_pixel, "gradient_ascent": ascent}
    attacks = read.spec.attacks.model_copy(update=kept | within)
    finer = replace(read, spec=read.spec.model_copy(update={"levels": 256, "attacks": attacks}))
    passed = _attacked(detector.victim(), finer)
    assert detector.off > 50_000
    assert (int(behind["evolution"].sum()) > 0, int(passed["evolution"].sum())) == (True, 0)
