"""The maps of a probe and of an entry's page: their colours, their squares, and what the page says of them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from foolbench.leaderboard.record.store import RunFolder
from foolbench.leaderboard.site.heatmaps import example_rows, patch_maps, read_maps
from foolbench.leaderboard.site.maps import EDGE, Frame, drawn, enlarged, pale, scales
from foolbench.leaderboard.site.ramps import cividis, signed
from foolbench.leaderboard.site.site import build
from PIL import Image
from records import OTHERS, RECIPES, Recipe, write_run

# Colours and maps


def test_ramps_begin_and_end_where_they_should() -> None:
    assert cividis(np.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [[0, 32, 81]] * 2 + [[253, 234, 69]] * 2
    light = cividis(np.linspace(0, 1, 50)) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > 0).all()
    assert signed(np.array([0.0])).tolist() == [[247, 247, 247]]
    assert signed(np.array([-1.0, 1.0])).tolist() == [[45, 0, 75], [127, 59, 8]]


def test_scales_are_round_and_hold_what_is_shown() -> None:
    scale = scales([np.array([[1e-9, 0.02]], np.float32)], [np.array([[-3.2, 1.0]], np.float32)])
    assert (scale.low, scale.high, scale.change) == (1e-6, pytest.approx(0.1), 5)
    part = np.array([[np.nan, -3.2]], np.float32)
    assert scales([], [part]).change == 5
    assert scale.activation(part)[0, 1].tolist() == signed(np.array(-0.64)).tolist()
    flat = scales([np.array([[1.0]], np.float32)], [np.array([[0.0]], np.float32)])
    assert (flat.low, flat.high, flat.change) == (1, 10, 1)


@pytest.mark.parametrize(("size", "side", "stride"), [((8, 8), 2, 1), ((28, 28), 7, 3), ((224, 160), 48, 24)])
def test_squares_have_the_scales_colours_and_the_image_is_seen_between_them(
    size: tuple[int, int], side: int, stride: int
) -> None:
    frame = Frame(*size, side, stride)
    zoom = frame.zoom(176)
    assert max(size) * zoom >= 176
    rows, columns = frame.windows
    colours = np.arange(rows * columns * 3, dtype=np.int64).reshape(rows, columns, 3).astype(np.uint8)
    ground = pale(enlarged(np.random.default_rng(2).integers(0, 256, (1, *size), dtype=np.uint8), zoom))
    assert 90 <= ground.min() < ground.max() <= 255
    unmeasured = np.zeros((rows, columns), bool)
    unmeasured[0, 1] = True
    picture = drawn(colours, frame, zoom, ground, unmeasured)
    assert picture.shape == (size[0] * zoom, size[1] * zoom, 3)
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        y, x = (int((i * stride + side / 2) * zoom) for i in (row, column))
        assert (picture[y, x] == colours[row, column]).all()
        down, across = frame.square(row, column, zoom)
        assert ((down.start + down.stop) / 2, (across.start + across.stop) / 2) == pytest.approx((y, x), abs=1)
        assert (picture[down.start - 1, across] == EDGE).all()
    empty = frame.square(0, 1, zoom)
    seen = (picture[empty] == ground[empty]).all(-1)
    assert (picture[empty][~seen] == EDGE).all()
    assert (~seen).sum() == len(seen) == np.trace(~seen)
    assert (picture[empty[0].start - 1, empty[1]] == EDGE).all()
    assert 0.5 < (picture == ground).all(-1).mean() < 0.9


# The entry's page


def with_maps(folder: Path, recipe: Recipe = RECIPES[0], images: int = 9) -> Path:
    run = write_run(folder, recipe)
    record = json.loads((run / "record.json").read_bytes())
    record["attacks"]["deepception"]["parameters"] |= {"side": recipe.shape[1] // 4, "stride": recipe.shape[1] // 8}
    (run / "record.json").write_text(json.dumps(record))
    rng = np.random.default_rng(3)
    maps = {name: rng.random((images, 7, 7), np.float32) for name in ("local", "spatial", "activation")}
    curves = {name: rng.random((images, 4), np.float32) for name in ("cumulative", "cumulative_random")}
    curves["cumulative"][0, 2:] = np.nan
    rows = {"image": np.arange(images) * 2, "other": np.arange(images) + 1}
    np.savez(run / "evidence" / "properties.npz", **rows, **maps, **curves)  # pyright: ignore[reportArgumentType]
    return run


def test_the_page_shows_a_seeded_few_with_words_and_tables(tmp_path: Path) -> None:
    run = with_maps(tmp_path / "runs")
    section, files = patch_maps(RunFolder(run))
    assert section is not None
    assert section.shown == "4 of 9 images"
    assert patch_maps(RunFolder(run))[1] == files
    digest = RunFolder(run).record.digest
    shown = {int(re.findall(r"image\D(\d+)", e.title)[0]) for e in section.examples}
    assert shown == {2 * row for row in example_rows(9, digest)}
    assert example_rows(9, digest) != example_rows(9, "another")
    assert example_rows(2, digest) == [0, 1]
    build([tmp_path / "runs"], tmp_path / "site")
    (page,) = (tmp_path / "site" / "e").glob("*/index.html")
    text = page.read_text(encoding="utf-8")
    for file, data in files.items():
        assert (page.parent / file).read_bytes() == data
        assert f'src="{file}"' in text
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width == 176
    assert len(section.rows) == 4
    assert all(len(cells) == len(section.head) for _, cells in section.rows)
    assert [name for name, _ in section.curves] == ["best positions", "random positions"]
    assert 'id="maps"' in text
    assert 'id="repetition"' in text
    assert not re.search(r"<img(?![^>]* alt=\")", text)
    assert " style=" not in text
    (page.parent / "charts" / "repetition-dark.svg").read_bytes()


def test_activation_is_drawn_over_the_image_it_was_measured_on(tmp_path: Path) -> None:
    run = RunFolder(with_maps(tmp_path))
    section, files = patch_maps(run)
    originals, (row, *_) = run.images("originals"), example_rows(9, run.record.digest)
    assert section is not None
    assert originals is not None
    assert section.examples[0].pictures[-1].label == f"activation–inhibition, image\N{NO-BREAK SPACE}{row + 1}"
    for key, image in (("local", 2 * row), ("activation", row + 1)):
        with Image.open(io.BytesIO(files[f"maps/{2 * row}-{key}.png"])) as picture:
            ground = pale(enlarged(originals[image], 22))
            assert (np.asarray(picture.convert("RGB")) == ground).all(-1).mean() > 0.5
    path = run.path / "evidence" / "properties.npz"
    with np.load(path) as arrays:
        old = {name: array for name, array in arrays.items() if name != "other"}
    np.savez(path, **old)  # an earlier run does not tell
    section, _ = patch_maps(run)
    assert section is not None
    assert section.examples[0].pictures[-1].label == "activation–inhibition, another image"


def test_a_photographs_maps_keep_the_scales_colours(tmp_path: Path) -> None:
    run = RunFolder(with_maps(tmp_path, OTHERS[1]))
    _, files = patch_maps(run)
    found, (row, *more) = read_maps(run, 120, Frame(64, 64, 16, 8)), example_rows(9, run.record.digest)
    assert found is not None
    scale = scales([found.local[[row, *more]], found.spatial[[row, *more]]], [])
    with Image.open(io.BytesIO(files[f"maps/{found.image[row]}-local.webp"])) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[Frame(64, 64, 16, 8).square(2, 3, 3)] == scale.response(found.local[row])[2, 3]).all()


def test_the_page_says_what_of_a_map_was_not_measured(tmp_path: Path) -> None:
    run = with_maps(tmp_path)
    path = run / "evidence" / "properties.npz"
    with np.load(path) as arrays:
        whole = dict(arrays)
    whole["activation"][:] = np.nan
    _, *others = example_rows(9, RunFolder(run).record.digest)
    whole["activation"][others, 0] = 0.5
    np.savez(path, **whole)
    section, _ = patch_maps(RunFolder(run))
    assert section is not None
    said = [cells[2] for _, cells in section.rows]
    assert said[0] == "not measured: p is at the floor, whatever is put there"
    assert said[1:] == ["0.5 to 0.5 (not measured at 42 of 49 positions)"] * len(others)
    assert "struck through: not measured" in section.bars[1].title


def test_a_run_without_maps_has_no_section(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", RECIPES[0])
    assert patch_maps(RunFolder(run)) == (None, {})
    build([tmp_path / "runs"], tmp_path / "site")
    (page,) = (tmp_path / "site" / "e").glob("*/index.html")
    assert 'id="maps"' not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"local": np.zeros((9, 7, 6), np.float32)}, "expected float32 local of shape (9, 7, 7)"),
        ({"spatial": np.full((9, 7, 7), 2, np.float32)}, "expected probabilities and changes that are not infinite"),
        ({"activation": np.full((9, 7, 7), np.inf, np.float32)}, "changes that are not infinite"),
        ({"image": np.arange(9) + 1000}, "expected rows of 120 images"),
        ({"other": np.arange(9) - 2}, "expected the other image of each, of 120, or -1"),
        ({"cumulative": np.array([object()])}, "expected an npz with the properties' arrays"),
    ],
)
def test_evidence_that_is_no_map_is_refused(tmp_path: Path, change: dict[str, np.ndarray], told: str) -> None:
    run = with_maps(tmp_path)
    path = run / "evidence" / "properties.npz"
    with np.load(path) as arrays:
        whole = dict(arrays)
    np.savez(path, **{**whole, **change})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=re.escape(told)):
        read_maps(RunFolder(run), 120, Frame(8, 8, 2, 1))
