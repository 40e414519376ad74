"""Charts, and the pictures of a gallery."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
from foolbench.leaderboard.record.record import Measure
from foolbench.leaderboard.site.charts import THEMES, Point, _spread, fooled_by, overview, success_curves
from foolbench.leaderboard.site.gallery import difference, encode, sample
from PIL import Image
from records import FORMULA, HOSTILE, RECIPES, record

# charts


def test_labels_keep_their_distance_and_their_place() -> None:
    assert _spread([50, 10, 90], 10, 0, 100) == [50, 10, 90]
    assert _spread([98, 99, 100], 10, 0, 100) == [80, 90, 100]
    assert _spread([0, 0, 0], 10, 0, 100) == [0, 10, 20]


def test_curves_are_steps_within_the_budget() -> None:
    attack = record(RECIPES[1]).attacks["one_pixel"]
    attack = attack.model_copy(
        update={"curve": [(10, 1), (100, 3)], "budget": 500, "fooling_ratio": Measure(value=0.3, k=3, n=10)}
    )
    assert [fooled_by(attack, q) for q in (1, 9, 10, 99, 100, 500, 501)] == [0.0, 0.0, 0.1, 0.1, 0.3, 0.3, None]


def test_charts_repeat_and_are_wellformed_whatever_the_names() -> None:
    points = [
        Point(name, Measure(value=0.9, low=0.8, high=0.95), Measure(value=40.0 + i), True)
        for i, name in enumerate((HOSTILE, "\x00\u202e & </svg>", FORMULA, "~ink"))
    ]
    drawn = overview(points)
    assert drawn == overview(points)
    assert list(drawn) == ["light", "dark"]
    for theme, svg in drawn.items():
        assert all(not element.tag.endswith("script") for element in ET.fromstring(svg).iter())
        assert THEMES[theme]["accent"] in svg
    texts = [element.text for element in ET.fromstring(drawn["dark"]).iter() if element.tag.endswith("}text")]
    assert {"~ink", FORMULA} <= set(texts)
    assert overview(points[:1]) == {}
    assert success_curves([]) == {}


# galleries


def test_small_pictures_lose_nothing_and_large_ones_become_previews() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 8, 8), (3, 32, 32)):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        data, suffix = encode(image)
        read = np.asarray(Image.open(io.BytesIO(data)))
        assert suffix == "png"
        assert np.array_equal(read.reshape(*shape[1:], shape[0]), image.transpose(1, 2, 0))
        assert encode(image)[0] == data
    data, suffix = encode(rng.integers(0, 256, (3, 224, 224), dtype=np.uint8))
    assert (suffix, Image.open(io.BytesIO(data)).size) == ("webp", (96, 96))
    assert difference(np.array([0, 9, 200], np.uint8), np.array([0, 10, 100], np.uint8)).tolist() == [128, 138, 0]


def test_the_sample_is_seeded_and_holds_failures() -> None:
    attack = record(RECIPES[1]).attacks["one_pixel"]
    chosen = sample(attack, "one_pixel", "d" * 64)
    assert chosen == sample(attack, "one_pixel", "d" * 64)
    assert [attack.tasks[i].fooled for i in chosen] == [True] * 6 + [False] * 2
    assert chosen != sample(attack, "one_pixel", "e" * 64)
