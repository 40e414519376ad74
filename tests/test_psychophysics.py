"""The four properties on victims whose answers are known in closed form."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from foolbench.attacks.base import Perturb
from foolbench.attacks.responses.psychophysics import Properties, Psychophysics
from foolbench.attacks.responses.statistics import quartiles, share, spearman
from scipy.stats import spearmanr
from torch.nn.functional import unfold

STAR = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
DIGITS = Psychophysics(side=2, stride=1, copies=4)


@pytest.fixture
def task() -> Perturb:
    """Gray 8x8 images, each with one star, of classes 0, 1, 2, 0, 1; a flat mean image."""
    images = torch.randint(60, 200, (5, 1, 8, 8), generator=torch.Generator().manual_seed(1)) / 255
    for position, image in enumerate(images):
        image[0, position : position + 2, 3:5] = STAR
    return Perturb(images, torch.tensor([0, 1, 2, 0, 1]), images[:0], torch.full((1, 8, 8), 128 / 255))


def measured(task: Perturb, victim, settings: Psychophysics = DIGITS, seed: int = 0):
    """The properties, and the queries of each image."""
    queries = torch.zeros(len(task.images), dtype=torch.int64)
    search = settings.measure(task, torch.Generator().manual_seed(seed))
    query = next(search)
    try:
        while True:
            queries += torch.bincount(query.owners, minlength=len(queries))
            one = victim(query.images)[:, None].float()
            query = search.send(torch.cat([one, one, one], 1) / 3)
    except StopIteration as end:
        properties: Properties = end.value
    return properties, queries


def stars(images: torch.Tensor) -> torch.Tensor:
    return (unfold(images, 2) == STAR.view(1, 4, 1)).all(1).sum(1)


def test_where_position_does_not_matter_spatial_is_zero(task):
    properties, queries = measured(task, lambda images: torch.where(stars(images) > 0, 0.8, 0.01))
    assert (properties.spatial_range == 0).all()
    assert properties.spatial_map.shape == (5, 7, 7)
    # On the mean image the star is the one window that answers: the others are all at the base rate.
    assert properties.local_ratio == pytest.approx(np.full(5, 80), rel=1e-5)
    assert properties.local_range == pytest.approx(np.full(5, np.log10(80)), rel=1e-5)
    for position, found in enumerate(properties.local_map):
        assert np.unravel_index(found.argmax(), found.shape) == (position, 3)
    assert (queries == 49 * (4 + DIGITS.shuffles) + 2 * DIGITS.copies).all()


def test_spatial_is_the_orders_of_magnitude_between_positions(task):
    def victim(images):
        """A star counts a thousand times more in the top row than elsewhere."""
        return torch.where(stars(images[:, :, :2]) > 0, 0.9, torch.where(stars(images) > 0, 0.0009, 0.0001))

    properties, _ = measured(task, victim)
    assert properties.spatial_range == pytest.approx(np.full(5, 3.0), rel=1e-5)
    assert properties.spatial_map[:, 0] * 3 == pytest.approx(np.full((5, 7), 0.9))
    assert properties.spatial_map[:, 1:] * 3 == pytest.approx(np.full((5, 6, 7), 0.0009))


def test_additive_victim_has_a_rising_curve(task):
    properties, _ = measured(task, lambda images: 0.1 + 0.1 * stars(images))
    for curve in (properties.cumulative, properties.cumulative_random):
        assert curve * 3 == pytest.approx(np.tile([0.2, 0.3, 0.4, 0.5], (5, 1)), rel=1e-5)
    assert (properties.correlation == 1).all()
    assert (properties.correlation_random == 1).all()
    assert properties.gain == pytest.approx(np.full(5, 2.5), rel=1e-5)
    assert properties.summary()["falls"] == {"value": 0.0, "k": 0, "n": 5}


def test_crowded_victim_has_a_falling_curve(task):
    properties, _ = measured(task, lambda images: torch.where(stars(images) > 0, 0.8 / stars(images).clamp_min(1), 0.1))
    assert (properties.correlation == -1).all()
    assert properties.gain == pytest.approx(np.full(5, 0.25), rel=1e-5)
    assert properties.summary()["falls"] == {"value": 1.0, "k": 5, "n": 5}


def test_planted_activator_and_inhibitor(task):
    task.images[1:, 0, :, 3:5] = task.images[1:, 0, :, :2]  # the one star is in image 0, and shows on no other image
    task.images[:] = torch.where(task.images == 0, 90 / 255, task.images)
    task.images[0, 0, 0:2, 3:5] = STAR

    def victim(images):
        """A star inhibits in the top left corner, activates in the bottom right one, and tells nothing elsewhere."""
        answer = torch.where(stars(images[:, :, :2, :2]) > 0, 0.001, 0.3)
        answer = torch.where(stars(images[:, :, 6:, 6:]) > 0, 0.9, answer)
        return torch.where((images == 128 / 255).float().mean((1, 2, 3)) > 0.5, 0.1 + 0.1 * stars(images), answer)

    properties, _ = measured(task, victim)
    found = properties.activation_map[0]
    assert found[0, 0] == pytest.approx(np.log(0.001 / 0.3), rel=1e-5)
    assert found[6, 6] == pytest.approx(np.log(0.9 / 0.3), rel=1e-5)
    assert np.count_nonzero(found) == 2
    assert properties.threshold[0] == 0
    assert properties.activators[0] == pytest.approx(1 / 49)
    assert properties.inhibitors[0] == pytest.approx(1 / 49)


def test_a_constant_victim_has_no_property(task):
    properties, _ = measured(task, lambda images: torch.full((len(images),), 0.6))
    summary = properties.summary()
    assert summary["local_ratio"] == {"median": 1.0, "q25": 1.0, "q75": 1.0, "n": 5}
    for name in ("local_range", "spatial_range", "threshold", "activators", "inhibitors"):
        assert summary[name]["median"] == 0.0
    assert summary["correlation"] == {"median": None, "q25": None, "q75": None, "n": 0}
    assert json.loads(json.dumps(summary)) == summary


def test_probabilities_are_floored_before_logarithms(task):
    properties, _ = measured(task, lambda images: torch.where(stars(images) > 0, 0.3, 0.0))
    assert properties.local_range == pytest.approx(np.full(5, 5.0), rel=1e-5)
    assert properties.local_map.min() == 0


def test_where_p_stays_at_the_floor_nothing_was_measured(task):
    task.images[1:, 0, :, 3:5] = task.images[1:, 0, :, :2]  # image 0 has the one star
    kept = task.images.clone()

    def victim(images):
        """On natural images p is 0, but 0.3 with a patch in the first column, and 0.9 with a star in its corner."""
        changed = (images[:, None] != kept).flatten(2)
        natural = changed.sum(2).amin(1) <= 4
        nearest = kept[changed.sum(2).argmin(1)]
        first = (images != nearest)[..., 0].flatten(1).any(1)
        answer = torch.where(first, 0.3, 0.0)
        answer = torch.where(stars(images[:, :, :2, :2]) > 0, 0.9, answer)
        return torch.where(natural, answer, 0.1 + 0.1 * stars(images))

    properties, _ = measured(task, victim, dataclasses.replace(DIGITS, level=0.8))
    found = properties.activation_map[0]
    assert np.isnan(found[:, 1:]).all()
    assert found[:, 0] == pytest.approx(np.array([np.log(3), 0, 0, 0, 0, 0, 0]), abs=1e-5)
    assert (properties.threshold[0], properties.inhibitors[0]) == (0, 0)
    assert properties.activators[0] == pytest.approx(1 / 7)  # of the positions measured


@pytest.mark.parametrize(("p", "median"), [(1e-7, None), (1e-5, 0.0)])
def test_a_change_below_the_floor_is_no_zero(task, p: float, median: float | None):
    properties, _ = measured(task, lambda images: torch.full((len(images),), 3 * p))
    assert np.isnan(properties.activation_map).all() == (median is None)
    summary = properties.summary()
    for name in ("threshold", "activators", "inhibitors"):
        assert summary[name]["median"] == median
        assert summary[name]["n"] == (0 if median is None else 5)
        assert ("reason" in summary[name]) == (median is None)
    json.dumps(summary, allow_nan=False)


def test_curves_end_where_no_copy_fits(task):
    wide = Psychophysics(side=5, stride=3, copies=3)
    properties, _ = measured(task, lambda images: images.mean((1, 2, 3)), wide)
    assert properties.local_map.shape == (5, 2, 2)
    assert np.isfinite(properties.cumulative[:, 0]).all()
    assert np.isnan(properties.cumulative[:, 1:]).all()
    assert np.isnan(properties.correlation).all()
    assert (properties.gain == 1).all()


def test_the_other_image_is_the_next_of_another_label(task):
    asked = []

    def victim(images):
        asked.append(images)
        return images.mean((1, 2, 3))

    for labels, others in (([0, 1, 2, 0, 1], [1, 2, 3, 4, 0]), ([0, 0, 1, 0, 0], [2, 2, 3, 2, 2]), ([1] * 5, None)):
        asked.clear()
        others = others or [1, 2, 3, 4, 0]
        measured(dataclasses.replace(task, labels=torch.tensor(labels)), victim)
        probes = asked[2].view(5, 49, 1, 8, 8)
        for probe, other in zip(probes, others, strict=True):
            assert ((probe != task.images[other]).flatten(1).sum(1) <= 4).all()
    alone = dataclasses.replace(task, images=task.images[:1], labels=task.labels[:1])
    with pytest.raises(ValueError, match="expected another natural image, got one image and no donors: give more"):
        measured(alone, victim)
    measured(dataclasses.replace(alone, donors=task.images[3:]), victim)


def test_blocks_join_same_seed_same_bits_and_inputs_stay(task):
    kept = task.images.clone()

    def victim(images):
        return (images.flatten(1) @ torch.linspace(-1, 1, 64)).sigmoid()

    first, again = (measured(task, victim, seed=3)[0] for _ in range(2))
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name), equal_nan=True)
    both = Properties.join([first, again])
    assert both.activation_map.shape == (10, 7, 7)
    assert both.summary()["gain"]["n"] == 10
    assert torch.equal(task.images, kept)


def test_statistics_agree_with_scipy():
    rng = np.random.default_rng(0)
    curves = rng.integers(0, 4, (50, 6)).astype(np.float32)
    curves = curves[[len(set(curve)) > 1 for curve in curves]]
    expected = [spearmanr(np.arange(6), curve)[0] for curve in curves]
    assert spearman(curves) == pytest.approx(np.array(expected), abs=1e-6)
    short = np.array([[1, 3, 2, np.nan], [1, np.nan, np.nan, np.nan], [2, 2, 2, 2]], np.float32)
    assert spearman(short)[0] == pytest.approx(0.5)
    assert np.isnan(spearman(short)[1:]).all()
    assert quartiles(np.array([1, 2, 4, np.nan], np.float32)) == {"median": 2.0, "q25": 1.5, "q75": 3.0, "n": 3}
    assert share(np.array([], bool)) == {"value": None, "k": 0, "n": 0}
    for wrong, message in (({"shuffles": 0}, "shuffles of at least 1"), ({"floor": 0.0}, "floor between 0 and 1")):
        with pytest.raises(ValueError, match=f"expected {message}"):
            dataclasses.replace(DIGITS, **wrong)
