"""A probe in a run's folder: what of it reaches the entry's page, and what does not."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Execution, Ground
from foolbench.bench.probe.files import default_folder, write_probe
from foolbench.bench.probe.probe import probe
from foolbench.bench.victim.assemble import Assembled, Subject
from foolbench.leaderboard.record.store import RunFolder
from foolbench.leaderboard.site.probed import repeated_tests
from foolbench.leaderboard.site.site import SiteSummary, build
from foolbench.models.base import Classifier
from foolbench.models.certificate import Certificate
from PIL import Image
from records import HOSTILE, RECIPES, Recipe, write_run
from small_runs import foolbench, one_document

NUMBER = {"median": 0.25, "q25": 0.125, "q75": 0.5, "n": 2}


def with_probe(folder: Path, **changes: Any) -> Path:
    """A run whose probe found a motif in two of three images; `changes` are made to the probe's record."""
    run = write_run(folder, RECIPES[1])
    record = RunFolder(run).record
    found = {"copies": 3, "confidence": [0.9, 0.8, 0.7, 0.4], "control": [[0.9, 0.9, 0.9, 0.8], [0.9, 0.7, 0.9, 0.6]]}
    fewer = {"copies": 2, "confidence": [1.0, 0.6, 0.5], "control": [[1.0, 1.0, 1.0]]}
    test = {
        "attack": "cppn",
        "source": f"made on {HOSTILE}",
        "reason": None,
        "summary": {"images": 3, "repeats": {"k": 2, "n": 3}, "fall": NUMBER},
        "images": [found, {"copies": 0, "confidence": [0.9], "control": []}, fewer],
    }
    probed = {
        "schema": 1,
        "digest": record.digest,
        "battery": record.battery.name,
        "battery_digest": record.battery.digest,
        "repeated_instances": [test],
    }
    (run / "probe").mkdir()
    (run / "probe" / "probe.json").write_text(json.dumps({**probed, **changes}))
    for i in (0, 2):
        Image.fromarray(np.full((30, 50, 3), 60 * i, np.uint8)).save(run / "probe" / f"motif-cppn-{i:02d}.png")
    return run


def built(folder: Path) -> tuple[SiteSummary, Path, str]:
    summary = build([folder / "runs"], folder / "site")
    (page,) = (folder / "site" / "e").glob("*/index.html")
    return summary, page.parent, page.read_text(encoding="utf-8")


def test_the_page_shows_a_probes_repeated_instances(tmp_path: Path) -> None:
    run = with_probe(tmp_path / "runs")
    with (run / "probe" / "motif-cppn-02.png").open("ab") as file:
        file.write(b"<script>alert(1)</script>")
    (test,), files = repeated_tests(RunFolder(run))
    assert test.rows == (
        ("images in which a motif repeats", "2 of 3"),
        ("confidence lost by removing the copies but the motif", "median 0.25, quartiles 0.125 to 0.5"),
    )
    # Medians over the images that have so many copies; of random windows, over the means of the draws.
    assert [cell.split()[0] for cell in test.curves[0][1]] == ["0.95", "0.7", "0.6", "0.4"]
    assert [cell.split()[0] for cell in test.curves[1][1]] == ["0.95", "0.9", "0.95", "0.7"]
    assert "3 copies" in test.pictures[0].alt
    summary, folder, text = built(tmp_path)
    assert summary.left_out == ()
    assert 'id="repeated-cppn"' in text
    assert "<script>alert" not in text
    assert (folder / "charts" / "removed-cppn-dark.svg").is_file()
    assert sorted(files) == ["probe/motif-cppn-00.png", "probe/motif-cppn-02.png"]
    for name, data in files.items():
        assert f'src="{name}"' in text
        assert (folder / name).read_bytes() == data
        assert b"script" not in data
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (50, 30)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("", "expected a probe of schema 1, got probe: Invalid JSON"),
        (DEEP, "expected a probe of schema 1, got probe: Invalid JSON"),
        ({"schema": 2}, "expected a probe of schema 1, got schema"),
        ({"digest": "0" * 64}, "expected a probe of the run's own submission and battery, got another"),
        ({"battery_digest": "0" * 64}, "expected a probe of the run's own submission and battery, got another"),
        ({"images": [{"copies": 1, "confidence": [7.0], "control": []}]}, "less than or equal to 1.001"),
        ({"images": [{"copies": 1, "confidence": [float("nan")], "control": []}]}, "expected a probe of schema 1"),
        ({"images": [{"copies": 1, "confidence": [1.0], "control": [[1.0, 1.0]]}]}, "curves of equal length"),
        ({"attack": "../../x"}, "expected a probe of schema 1, got repeated_instances.0.attack"),
        (b"<html>", "motif-cppn-00.png: expected a picture of the probe"),
    ],
    ids=["empty", "deep", "schema", "stale", "battery", "probability", "nan", "ragged", "path", "picture"],
)
def test_a_probe_that_is_none_is_left_out_and_the_site_stands(tmp_path: Path, change: Any, told: str) -> None:
    run = with_probe(tmp_path / "runs")
    path = run / "probe" / "probe.json"
    whole = json.loads(path.read_bytes())
    if isinstance(change, bytes):
        (run / "probe" / "motif-cppn-00.png").write_bytes(change)
    elif isinstance(change, str):
        path.write_text(change)
    else:
        (test,) = whole["repeated_instances"]
        (whole if change.keys() <= whole.keys() else test).update(change)
        path.write_text(json.dumps(whole))
    summary, folder, text = built(tmp_path)
    (error,) = summary.left_out
    assert told in str(error)
    assert 'id="repeated"' not in text
    assert not (folder / "probe").exists()


def test_the_command_says_what_it_leaves_out(tmp_path: Path) -> None:
    with_probe(tmp_path / "runs", digest="0" * 64)
    done = foolbench("leaderboard", tmp_path / "runs", "--out", tmp_path / "site")
    assert (done.returncode, done.stdout.count("1 entry")) == (0, 1)
    assert "not shown: " in done.stderr
    assert "of the run's own submission and battery" in done.stderr
    done = foolbench("leaderboard", tmp_path / "runs", "--out", tmp_path / "site", "--json")
    (left_out,) = one_document(done)["left_out"]
    assert (left_out["code"], left_out["got"], left_out["fix"]) == ("FB112", "another", "probe again")
    assert left_out["file"].endswith("probe.json")


def test_a_probe_of_ones_own_run_goes_into_its_folder_and_onto_its_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", Recipe("constant", tier="smoke"))
    answer = torch.full((10,), 0.05)
    answer[3] = 0.55

    def assemble(ground: Ground) -> Assembled:
        victim = Classifier(ground.spec.shape, 10, ground.device, lambda x, rng: answer.expand(len(x), 10), None)
        return Assembled(victim, None, Certificate(agrees=False, reason="no gradient"), "constant", "0" * 64)

    for digest, own in ((RunFolder(run).record.digest, True), ("0" * 64, False)):
        found = probe(
            Subject("constant", {}, digest, assemble), read_battery("digits-v1"), Execution("cpu"), images=(0, 1)
        )
        assert default_folder(found).parts[0] == "runs"
        assert (default_folder(found, run) == run / "probe") is own
        write_probe(found, run / "probe")
        summary, _, text = built(tmp_path)
        assert len(summary.left_out) == (not own)
        assert bool(re.search("evolved here, 4,000 queries", text)) is own
