"""Records and evidence on disk."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foolbench.bench.errors import Unexpected
from foolbench.leaderboard.record.store import RunFolder, dump_record, parse_record
from records import RECIPES, record, write_run


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    made = record(RECIPES[0])
    (tmp_path / "record.json").write_bytes(dump_record(made))
    assert RunFolder(tmp_path).record == made
    assert list(json.loads((tmp_path / "record.json").read_bytes()))[:4] == [
        "schema",
        "battery",
        "submission",
        "digest",
    ]
    assert dump_record(RunFolder(tmp_path).record) == (tmp_path / "record.json").read_bytes()


def test_a_record_holds_finite_numbers() -> None:
    with pytest.raises(ValueError, match="expected finite numbers in the record"):
        dump_record(record(RECIPES[1]).model_copy(update={"tau": math.nan}))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda c: b"{", "expected JSON, got"),
        (lambda c: b"[" * 100_000, "expected JSON, got"),
        (lambda c: b'{"schema": 1, "tau": NaN}', "expected JSON, got NaN, which is not JSON"),
        (lambda c: json.dumps(c | {"schema": 2}).encode(), "expected a record of schema 1, got 2"),
        (lambda c: json.dumps([c]).encode(), "expected a record of schema 1, got None"),
        (lambda c: json.dumps(c | {"scores": {}}).encode(), "scores.clean_accuracy: Field required"),
    ],
)
def test_what_is_not_a_record_is_refused(tmp_path: Path, spoil: Callable[[dict], bytes], told: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(spoil(json.loads(dump_record(record(RECIPES[1])))))
    with pytest.raises(Unexpected, match=re.escape(told)) as raised:
        parse_record(path.read_bytes(), path)
    assert str(raised.value).startswith(str(path))


def test_evidence_of_another_shape_is_refused(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path, RECIPES[1]))
    images = run.images("one_pixel")
    assert images is not None
    assert images.shape == (60, 1, 8, 8)
    assert run.images("one_pixel_9") is None
    for wrong, told in (
        (images.astype(np.float32), "expected uint8 images (n, 1, 8, 8), got float32 (60, 1, 8, 8)"),
        (images[..., :4], "expected uint8 images (n, 1, 8, 8), got uint8 (60, 1, 8, 4)"),
        (np.array([object()], dtype=object), "expected an npz with an array `images`"),
    ):
        np.savez(run.path / "evidence" / "fgsm.npz", images=wrong)
        with pytest.raises(ValueError, match=re.escape(told)):
            run.images("fgsm")
