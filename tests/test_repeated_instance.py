"""Motifs planted at known places, and victims whose answer to their removal is known."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from foolbench.attacks.responses.motif import find_motif
from foolbench.attacks.responses.repeated_instance import Removals, RepeatedInstance
from torch import Tensor
from torch.nn.functional import unfold

CROSS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
PLACES = [(1, 2), (3, 11), (8, 5), (12, 1), (13, 12), (9, 10)]
TEST = RepeatedInstance(sides=(3,), draws=5)


def planted(places=PLACES, channels: int = 1, side: int = 18, strength: float = 1.0) -> Tensor:
    """Mid-gray, with crosses."""
    image = torch.full((channels, side, side), 128 / 255)
    for row, column in places:
        image[:, row : row + 3, column : column + 3] += strength * (CROSS - 0.5) * 100 / 255
    return image


def crosses(images: Tensor) -> Tensor:
    """Whole crosses of full strength in each image, `(n,)`."""
    windows = unfold(images[:, :1], 3)
    return ((windows - planted([(0, 0)], side=3).view(1, 9, 1)).abs() < 0.01).all(1).sum(1)


def measured(images: Tensor, victim, settings: RepeatedInstance = TEST, seed: int = 0) -> tuple[Removals, Tensor]:
    """The removals with class 1 as every target, and the queries of each image."""
    queries = torch.zeros(len(images), dtype=torch.int64)
    search = settings.measure(images, torch.ones(len(images), dtype=torch.int64), torch.Generator().manual_seed(seed))
    query = next(search)
    try:
        while True:
            queries += torch.bincount(query.owners, minlength=len(queries))
            assert query.images.min() >= 0
            assert query.images.max() <= 1
            confidence = victim(query.images).float()
            query = search.send(torch.stack([1 - confidence, confidence], 1))
    except StopIteration as end:
        return end.value, queries


def found(image: Tensor, **changes):
    settings = {"sides": (3,), "threshold": 0.9, "contrast": 0.5, "least": 3, "most": 16, "windows": 256} | changes
    sides = settings.pop("sides")
    return find_motif(image, sides, **settings)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_planted_motif_is_found_at_its_places(channels):
    motif = found(planted(channels=channels))
    assert motif.side == 3
    assert sorted(map(tuple, motif.corners.tolist())) == sorted(PLACES)
    assert motif.similarity == pytest.approx(np.ones(6), abs=1e-5)
    assert 0.9 < motif.explained <= 1


def test_copies_may_differ_in_brightness_and_contrast_but_not_in_shape():
    image = planted(PLACES[:4])
    image += planted(PLACES[4:], strength=-1.0) - 128 / 255  # negatives of the cross: correlation -1
    image[:, 12:15, 1:4] = image[:, 12:15, 1:4] * 0.6 + 0.3
    assert sorted(map(tuple, found(image).corners.tolist())) == sorted(PLACES[:4])
    faint = planted(PLACES[:4]) + planted(PLACES[4:], strength=0.05) - 128 / 255
    assert len(found(faint).corners) == 4
    assert len(found(faint, contrast=0.01).corners) == 6


def test_what_does_not_repeat_has_no_motif():
    rng = torch.Generator().manual_seed(1)
    noise = torch.rand(1, 18, 18, generator=rng)
    ramp = torch.linspace(0, 1, 18).expand(1, 18, 18)
    assert len(found(noise, sides=(4,)).corners) == 0
    assert len(found(torch.full((3, 18, 18), 0.3)).corners) == 0
    assert len(found(planted(PLACES[:2])).corners) == 0
    assert len(found(planted(PLACES[:2]), least=2).corners) == 2
    assert len(found(ramp, contrast=1.0).corners) == 0  # no window holds as much as the whole image
    with pytest.raises(ValueError, match="expected sides of at most 18, got 19: use smaller windows"):
        found(noise, sides=(3, 19))


def test_the_side_that_explains_most_wins():
    stripes = (torch.arange(24)[None, :, None] % 6 < 3).float().expand(1, 24, 24).contiguous()
    motif = found(stripes, sides=(3, 6))
    assert motif.side == 6
    assert len(motif.corners) == 16
    assert motif.explained == pytest.approx(1, abs=1e-5)
    apart = motif.corners[:, None] - motif.corners[None]
    assert ((apart.abs() >= 6).any(2) | (apart == 0).all(2)).all()
    assert len(found(stripes, sides=(3, 6), most=5).corners) == 5


def test_a_counter_of_crosses_loses_confidence_with_each_and_not_with_random_windows():
    image = planted(side=30)  # with room for six windows that touch no cross, wherever they are drawn
    removals, queries = measured(image[None], lambda images: 0.1 + 0.1 * crosses(images))
    assert removals.copies.tolist() == [6]
    assert removals.curve[0, :7] == pytest.approx([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert np.isnan(removals.curve[0, 7:]).all()
    assert removals.control[0, :, :7] == pytest.approx(np.full((5, 7), 0.7))
    assert np.isnan(removals.control[:, :, 7:]).all()
    assert removals.clear.tolist() == [1]
    assert removals.fall == pytest.approx(0.5)
    assert removals.fall_all == pytest.approx(0.6)
    assert removals.fall_control == pytest.approx(0.0)
    assert sorted(map(tuple, removals.corners[0, :6].tolist())) == sorted(PLACES)
    assert (removals.corners[0, 6:] == -1).all()
    assert queries.tolist() == [1 + 6 * (1 + 5)]
    # Flat gray around each cross: what is left without all of them is the canvas.
    assert removals.changed[0] > 3 * removals.changed_control[0]


def test_a_constant_victim_is_flat_and_an_image_without_motif_is_counted_apart():
    blank = planted(PLACES[:1])
    removals, queries = measured(torch.stack([planted(), blank]), lambda images: torch.full((len(images),), 0.8))
    assert queries.tolist() == [37, 1]
    assert removals.curve[0, :7] == pytest.approx(np.full(7, 0.8))
    assert removals.curve[1, 0] == pytest.approx(0.8)
    assert np.isnan(removals.curve[1, 1:]).all()
    assert np.isnan(removals.fall[1])
    summary = removals.summary()
    assert summary["images"] == 2
    assert summary["repeats"] == {"value": 0.5, "k": 1, "n": 2}
    assert summary["falls"] == {"value": 0.0, "k": 0, "n": 1}
    assert summary["fall"]["median"] == 0
    assert json.loads(json.dumps(summary)) == summary
    alone, _ = measured(blank[None], lambda images: torch.full((len(images),), 0.8))
    assert alone.summary()["falls"] == {"value": None, "k": 0, "n": 0}
    assert alone.summary()["fall"] == {"median": None, "q25": None, "q75": None, "n": 0}


def test_the_least_similar_copy_goes_first():
    image = planted()
    image[:, 8, 5] -= 60 / 255
    image[:, 3, 11] -= 30 / 255
    removals, _ = measured(image[None], lambda images: images.mean((1, 2, 3)))
    assert (np.abs(removals.corners[0, :2] - [[8, 5], [3, 11]]) <= 1).all()  # the motif may hold some gray beside it
    assert (np.diff(removals.similarity[0, :6]) >= 0).all()


def test_where_the_image_is_full_of_copies_the_control_must_touch_them():
    image = (torch.arange(12)[None, :, None] % 3 == 0).float().expand(1, 12, 12).contiguous()
    removals, _ = measured(image[None], lambda images: images.mean((1, 2, 3)))
    assert removals.copies[0] == 16
    assert removals.clear[0] == 0


def test_chance_is_measured_on_the_same_pixels_in_random_order():
    noise = torch.rand(6, 1, 18, 18, generator=torch.Generator().manual_seed(1))
    loose = dataclasses.replace(TEST, threshold=0.7)
    summary = measured(noise, lambda images: images.mean((1, 2, 3)), loose)[0].summary()
    assert summary["repeats"]["k"] == 6
    assert summary["repeats_by_chance"]["k"] == 6
    stripes = (torch.arange(18)[:, None] % 6 < 3).float().expand(1, 1, 18, 18)
    stripes = stripes * noise[:1] * 0.5 + 0.25
    wide = dataclasses.replace(TEST, sides=(6,), threshold=0.7)
    summary = measured(stripes, lambda images: images.mean((1, 2, 3)), wide)[0].summary()
    assert (summary["repeats"]["k"], summary["repeats_by_chance"]["k"]) == (1, 0)


def test_same_seed_same_bits_and_images_stay():
    images = torch.stack([planted(), planted(PLACES[:4])])
    kept = images.clone()

    def victim(asked):
        return (asked.flatten(1) @ torch.linspace(-0.1, 0.1, asked[0].numel())).sigmoid()

    first, again, other = (measured(images, victim, seed=seed)[0] for seed in (3, 3, 4))
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name), equal_nan=True)
    assert not np.array_equal(first.control, other.control, equal_nan=True)
    assert np.array_equal(first.curve, other.curve, equal_nan=True)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sides": ()}, "expected sides of at least 2 pixels"),
        ({"least": 17}, "expected 2 <= least <= most, got 17 and 16"),
        ({"draws": 0}, "expected draws of at least 1"),
        ({"threshold": 0.0}, "expected threshold above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        dataclasses.replace(TEST, **wrong)
