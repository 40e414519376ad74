"""Deepception on victims whose weakness was planted, so that what it must find is known."""

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from foolbench.attacks.base import Perturb
from foolbench.attacks.deepception import Deepception, margins, targeted_margins
from foolbench.attacks.patches.bank import PATCH_KINDS, build_bank
from foolbench.attacks.patches.paste import grid_corners
from torch.nn.functional import unfold

PATTERN = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
DIGITS = Deepception(side=2, stride=1, copies=4)


def levels(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed)) / 255


def labelled(labels: torch.Tensor, seed: int) -> torch.Tensor:
    """8x8 images in 8-bit levels whose last decimal digit is the class, in every pixel; none is black or white."""
    tens = torch.randint(6, 20, (len(labels), 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    return (10 * tens + labels[:, None, None, None]) / 255


def patterns(images: torch.Tensor) -> torch.Tensor:
    """How many windows of each 1-channel image are exactly the pattern."""
    windows = unfold(images, 2)
    return (windows == PATTERN.view(1, 4, 1)).all(1).sum(1)


def patch_lover(images: torch.Tensor, needed: int = 1) -> torch.Tensor:
    """The last digit of most pixels, out of patches' reach; 7 where the pattern is `needed` times, a bit before."""
    digits = (images.flatten(1) * 255).round().long() % 10
    own = torch.stack([(digits == digit).sum(1) for digit in range(10)], 1).argmax(1)
    answers = torch.full((len(images), 10), 0.001)
    answers[torch.arange(len(images)), own] += 0.4
    answers[:, 7] += torch.where(patterns(images) >= needed, 0.9, 0.05 * patterns(images))
    return answers / answers.sum(1, keepdim=True)


@pytest.fixture
def task() -> Perturb:
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 9, 0, 1, 2])
    images, donors = labelled(labels, seed=1), labelled(torch.arange(10), seed=2)
    donors[7, 0, 3:5, 4:6] = PATTERN
    return Perturb(images, labels, donors, donors.mean(0))


class Driven:
    """A search run to its end: the finals, and who asked how much."""

    def __init__(self, attack, task: Perturb, victim=patch_lover, seed: int = 0):
        self.queries = torch.zeros(len(task.images), dtype=torch.int64)
        self.setup, self.rounds, self.probes = 0, [], []
        search = attack.search(task, torch.Generator().manual_seed(seed))
        try:
            query = next(search)
            while True:
                assert query.images.dtype == torch.float32
                assert len(query.images) == len(query.owners) > 0
                assert query.images.min() >= 0
                assert query.images.max() <= 1
                own = query.owners[query.owners >= 0]
                self.setup += len(query.owners) - len(own)
                self.queries += torch.bincount(own, minlength=len(task.images))
                self.rounds.append(len(own))
                self.probes.append(query.images[query.owners >= 0])
                query = search.send(victim(query.images))
        except StopIteration as end:
            self.finals = end.value


def fooled(run: Driven, task: Perturb, victim=patch_lover) -> torch.Tensor:
    return victim(run.finals).argmax(1) != task.labels


def test_finds_the_planted_patch_on_every_image_with_one_copy(task):
    run = Driven(DIGITS, task)
    assert fooled(run, task).all()
    assert (patch_lover(run.finals).argmax(1) == 7).all()
    assert (patterns(run.finals) == 1).all()
    assert ((run.finals != task.images).sum((1, 2, 3)) == 4).all()
    assert (run.queries == 9 * 25).all()
    assert run.setup == 10 + 10 * 49


def test_no_control_finds_it(task):
    for kind in ("mean_color", "noise", "random_donor"):
        run = Driven(dataclasses.replace(DIGITS, patch=kind), task)
        assert not fooled(run, task).any(), kind
        assert ((run.queries >= 9 * 25) & (run.queries <= DIGITS.most_queries)).all()


def test_two_copies_are_added_where_one_is_not_enough(task):
    def victim(images):
        return patch_lover(images, needed=2)

    one = Driven(dataclasses.replace(DIGITS, copies=1), task, victim)
    two = Driven(DIGITS, task, victim)
    assert not fooled(one, task, victim).any()
    assert (patterns(one.finals) == 1).all()
    assert fooled(two, task, victim).all()
    assert (patterns(two.finals) == 2).all()
    assert ((two.finals != task.images).sum((1, 2, 3)) == 8).all()
    assert (two.queries == 9 * 25 + 8).all()


@pytest.mark.parametrize("kind", PATCH_KINDS)
@pytest.mark.parametrize("spare", [False, True])
def test_a_constant_victim_is_never_fooled_and_gets_no_second_copy(task, kind, spare):
    def constant(images):
        """Knows the donors, or there would be no patch of another class; takes all else for 0."""
        known = (images[:, None] == task.donors[None]).flatten(2).all(2)
        answers = torch.tensor([0.3, 0.2] + [0.0625] * 8).repeat(len(images), 1)
        return torch.where(known.any(1, keepdim=True), known.float(), answers)

    task.labels[:] = 0
    run = Driven(dataclasses.replace(DIGITS, patch=kind, spare_centre=spare), task, constant)
    assert not fooled(run, task, constant).any()
    assert (run.queries == 9 * (16 if spare else 25) + DIGITS.keep).all()
    assert ((run.finals != task.images).sum((1, 2, 3)) <= 4).all()


def scattered(images: torch.Tensor) -> torch.Tensor:
    """A fixed random linear net, so that searches take many different ways."""
    weights = torch.randn(images[0].numel(), 10, generator=torch.Generator().manual_seed(9))
    return ((images.flatten(1) - 0.5) @ weights * 0.3).softmax(1)


@pytest.fixture
def linear_task() -> Perturb:
    images, donors = levels(20, 3, 12, 12, seed=3), levels(40, 3, 12, 12, seed=4)
    return Perturb(images, scattered(images).argmax(1), donors, donors.mean(0))


@pytest.mark.parametrize("kind", PATCH_KINDS)
@pytest.mark.parametrize("spare", [False, True])
def test_limits_of_area_place_pixels_and_queries(linear_task, kind, spare):
    attack = Deepception(side=3, stride=2, copies=4, bank=4, patch=kind, spare_centre=spare)
    run = Driven(attack, linear_task, scattered)
    changed = (run.finals != linear_task.images).any(1)
    assert (changed.flatten(1).sum(1) <= 4 * 9).all()
    if spare:
        assert not changed[:, 3:9, 3:9].any()
    assert torch.equal((run.finals * 255).round() / 255, run.finals)
    assert (run.queries <= attack.most_queries).all()
    one = Driven(dataclasses.replace(attack, copies=1), linear_task, scattered)
    assert (one.queries == 4 * len(grid_corners(linear_task.mean, 3, 5, spare))).all()
    # A longer run starts as a shorter one and never ends with a larger margin.
    assert run.rounds[: len(one.rounds)] == one.rounds
    margin, margin_of_one = (margins(scattered(r.finals), linear_task.labels) for r in (run, one))
    assert (margin <= margin_of_one).all()


def test_the_finals_are_the_best_images_asked_about(linear_task):
    run = Driven(Deepception(side=3, stride=2, copies=1, bank=4), linear_task, scattered)
    asked = torch.cat(run.probes)
    for image, label, final in zip(linear_task.images, linear_task.labels, run.finals, strict=True):
        near = asked[(asked != image).flatten(1).sum(1) <= 27]
        least = margins(scattered(near), label.expand(len(near))).min()
        assert margins(scattered(final[None]), label[None])[0] <= least + 1e-6


def test_every_changed_pixel_comes_from_one_donor_patch(linear_task):
    attack = Deepception(side=3, stride=2, copies=4, bank=4)
    run = Driven(attack, linear_task, scattered)
    filling = SimpleNamespace(search=lambda task, rng: build_bank(task, 3, 2, 4, "donor", rng))
    bank = Driven(filling, linear_task, scattered).finals
    assert bank.patches.shape == (5, 3, 3, 3)
    assert len(set(bank.classes.tolist())) == 5
    corners = grid_corners(linear_task.mean, 3, 5)
    for image, label, final in zip(linear_task.images, linear_task.labels, run.finals, strict=True):
        explained = []
        for patch, donor_class in zip(bank.patches, bank.classes, strict=True):
            covered = torch.zeros(12, 12, dtype=torch.bool)
            copies = 0
            for row, column in corners:
                if torch.equal(final[:, row : row + 3, column : column + 3], patch):
                    assert not covered[row : row + 3, column : column + 3].any()
                    covered[row : row + 3, column : column + 3] = True
                    copies += 1
            outside = (final == image).all(0) | covered
            explained.append(bool(outside.all()) and 1 <= copies <= 4 and bool(donor_class != label))
        assert sum(explained) == 1


def test_same_seed_same_bits_and_nothing_given_is_written_to(linear_task):
    before = [tensor.clone() for tensor in (linear_task.images, linear_task.donors, linear_task.mean)]
    for kind in PATCH_KINDS:
        attack = Deepception(side=3, stride=2, copies=3, patch=kind)
        first, again = (Driven(attack, linear_task, scattered, seed=5) for _ in range(2))
        assert torch.equal(first.finals, again.finals)
        assert first.rounds == again.rounds
    for kept, tensor in zip(before, (linear_task.images, linear_task.donors, linear_task.mean), strict=True):
        assert torch.equal(kept, tensor)


def test_being_rejected_is_no_success(task):
    def shy(images):
        """Turns away whatever holds the pattern, and is sure of class 0 otherwise."""
        answers = torch.full((len(images), 10), 0.02)
        answers[:, 0] = 0.82
        seen = patterns(images) > 0
        answers[seen] = 0.0
        answers[seen, 7] = 0.3
        return answers

    task.labels[:] = 0
    run = Driven(DIGITS, task, shy)
    answers = shy(run.finals)
    accepted = answers.amax(1) > 1 - answers.sum(1)
    assert (answers.argmax(1)[accepted] == 0).all()
    probabilities = torch.tensor([[0.1, 0.3, 0.0], [0.1, 0.6, 0.0], [0.5, 0.2, 0.3]])
    zero = torch.zeros(3, dtype=torch.int64)
    assert margins(probabilities, zero).tolist() == pytest.approx([0.3, -0.3, 0.2])
    assert targeted_margins(probabilities, zero + 1).tolist() == pytest.approx([0.3, -0.3, 0.3])


def test_targets_are_aimed_at(task):
    aimed = dataclasses.replace(task, targets=torch.full_like(task.labels, 7))
    run = Driven(DIGITS, aimed)
    assert (patch_lover(run.finals).argmax(1) == 7).all()


def test_what_it_does_with_few_donors(task):
    alone = dataclasses.replace(task, donors=task.donors[:1])
    run = Driven(DIGITS, alone)
    same = task.labels == 0
    assert same.any()
    assert torch.equal(run.finals[same], task.images[same])
    assert run.queries[same].sum() == 0
    assert (run.queries[~same] >= 25).all()
    none = dataclasses.replace(task, donors=task.donors[:0])
    for kind in ("donor", "mean_color", "shuffled", "random_donor"):
        with pytest.raises(ValueError, match=f"expected at least one donor image for '{kind}' patches, got none"):
            Driven(dataclasses.replace(DIGITS, patch=kind), none)
    assert (Driven(dataclasses.replace(DIGITS, patch="noise"), none).queries >= 225).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"side": 0}, "expected side of at least 1, got 0: raise it"),
        ({"patch": "dog"}, "expected patch to be one of donor, mean_color, shuffled, noise, random_donor, got 'dog'"),
        ({"side": 9}, "expected a side of at most 8 for images of 8x8 pixels, got 9: use a smaller side"),
        ({"side": 7, "spare_centre": True}, "expected a position outside the image's centre for a patch of side 7"),
    ],
)
def test_wrong_parameters_are_refused(task, fields, message):
    with pytest.raises(ValueError, match=message):
        Driven(dataclasses.replace(DIGITS, **fields), task)


def test_fools_a_trained_cifar_net():
    root = Path(os.environ.get("FOOLBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "onnx" / "cifar10_onepixel_lenet.onnx").exists():
        pytest.skip("no trained nets: set FOOLBENCH_TEST_DATA")
    import onnxruntime

    net = root / "onnx" / "cifar10_onepixel_lenet.onnx"
    session = onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"])
    mean = torch.tensor([125.307, 122.95, 113.865]).view(1, 3, 1, 1)
    deviation = torch.tensor([62.9932, 62.0887, 66.7048]).view(1, 3, 1, 1)

    def victim(images):
        given = ((images * 255).round() - mean) / deviation
        answers = [np.asarray(session.run(None, {"input": part.numpy()})[0]) for part in given.split(250)]
        return torch.from_numpy(np.concatenate(answers)).softmax(1)

    def load(name):
        data = np.load(root / "cifar10" / name)
        images = torch.from_numpy(data["x"].astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2).contiguous()
        return images, torch.from_numpy(data["y"].astype(np.int64))

    (images, truth), (pool, classes) = load("test1000.npz"), load("train4000.npz")
    labels = victim(images[:100]).argmax(1)
    right = (labels == truth[:100]).nonzero()[:30, 0]
    donors = torch.cat([pool[classes == c][:2] for c in range(10)])
    task = Perturb(images[right], labels[right], donors, pool.mean(0))
    run = Driven(Deepception(side=8, stride=4, copies=4), task, victim)
    assert fooled(run, task, victim).sum() >= 25
