"""The record of a whole run: its keys are a contract, its numbers agree with one another, and nothing is made up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flagged import Rounding
from foolbench.bench import evaluate
from foolbench.bench.evaluation.pipeline import Run
from foolbench.leaderboard.record.store import RunFolder, dump_record, parse_record
from planted import RANKED, SMALL_CONTROLS, battery, evidence, halves, left_or_right, linear_onnx, timeless

PERTURB = ("deepception", "one_pixel", "fgsm")
Json = dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A submission in ONNX behind a defense, on a battery with a panel, all six attacks and both controls."""
    folder = tmp_path_factory.mktemp("submission")
    panel = {"models": [linear_onnx(folder, name, left_or_right(gain=gain)) for name, gain in (("a", 8), ("b", 5))]}
    battery(folder, *halves(10), controls=SMALL_CONTROLS, train=halves(8, seed=1), panel=panel)
    model = linear_onnx(folder, "net", left_or_right(gain=6))
    submission = {
        "schema": 1,
        "name": "Halves behind five bits",
        "authors": ["A. Author"],
        "battery": "./battery.yaml",
        "model": {"kind": "onnx", "path": model["path"], "sha256": model["sha256"], "output": "logits"},
        "defenses": [{"kind": "bit_depth", "bits": 5}],
    }
    (folder / "submission.yaml").write_text(yaml.safe_dump(submission))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield evaluate(folder / "submission.yaml", out=folder / "run", device="cpu")


@pytest.fixture(scope="module")
def content(run: Run) -> Json:
    """record.json, as anybody's parser sees it."""
    return json.loads((run.folder / "record.json").read_bytes())


def measures(value: Any, where: str = "") -> Iterator[tuple[str, Json]]:
    """Every {value, low, high} in a record."""
    if isinstance(value, dict):
        if {"value", "low", "high"} <= set(value):
            yield where, value
        for key, inner in value.items():
            if key not in ("parameters", "properties", "evidence"):
                yield from measures(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from measures(inner, f"{where}[{i}]")


def attacks_of(content: Json) -> Iterator[tuple[str, Json]]:
    for part in (content, content["bare"] or {"attacks": {}, "controls": {}}):
        yield from part["attacks"].items()
        yield from part["controls"].items()


def test_the_keys_are_all_there(content: Json) -> None:
    assert content["schema"] == 1
    assert {"battery", "submission", "digest", "scores", "tau", "rows", "attacks", "controls", "bare"} <= set(content)
    assert {"difference", "transfer", "seen", "flags", "provenance"} <= set(content)

    assert content["battery"]["name"] == "planted"
    assert content["battery"]["tier"] == "standard"
    assert content["submission"]["defenses"] == [{"kind": "bit_depth", "bits": 5}]
    for digest in (content["digest"], content["battery"]["digest"]):
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert 0.5 < content["tau"] < 1

    scores = content["scores"]
    assert set(scores) == {
        *("clean_accuracy", "clean_rejection", "robust_score", "survival_score", "worst_case", "survives_all_perturb")
    }
    for name in ("clean_accuracy", "clean_rejection", "survives_all_perturb"):
        assert isinstance(scores[name]["k"], int)
        assert isinstance(scores[name]["n"], int)

    assert tuple(content["attacks"]) == tuple(RANKED)
    assert tuple(content["controls"]) == ("noise", "random_cppn")
    assert tuple(content["rows"]) == tuple(content["bare"]["rows"]) == tuple(RANKED)
    for row in content["battery"]["ranked"]:
        assert {"name", "title", "entries", "first", "budget", "curve", "epsilon", "control", "reason"} == set(row)
    for name, row in content["rows"].items():
        wanted = {"endurance", "survival", "endurance_99", "survival_99", "lift", "words", "tasks", "lost", "by"}
        assert {*wanted, "counts", "lost_99"} == set(row), name
        assert len(row["tasks"]) == len(row["lost"]) == len(row["by"]) == (8 if name in PERTURB else 4)
    wanted = {"task", "mode", "fooling_ratio", "robust_accuracy", "fooling_ratio_99", "median_confidence", "queries"}
    wanted |= {"gradients", "seconds", "curve", "tasks"}
    for name, attack in attacks_of(content):
        assert wanted <= set(attack), name
        assert set(attack["fooling_ratio"]) >= {"value", "k", "n", "low", "high"}
        assert attack["task"] == ("perturb" if name in PERTURB else "fool")
        assert attack["mode"] == ("gradient" if name in ("fgsm", "gradient_ascent") else "black_box")
        assert (attack["robust_accuracy"] is None) == (attack["task"] == "fool")
        assert (attack["fooling_ratio_99"] is None) == (attack["task"] == "perturb")
        assert len(attack["tasks"]) == (8 if attack["task"] == "perturb" else 4 if name in RANKED else 2)
        assert attack["seconds"] > 0

    provenance = content["provenance"]
    assert {"versions", "device", "commit", "dirty", "started", "seconds", "seeds"} <= set(provenance)
    assert {"python", "torch", "numpy", "foolbench"} <= set(provenance["versions"])
    assert datetime.fromisoformat(provenance["started"]).utcoffset() is not None
    assert len(provenance["seeds"]["attack"]["one_pixel"]) == 3  # one a shard of three images
    seeds = [seed for some in provenance["seeds"]["attack"].values() for seed in some]
    assert len(set(seeds)) == len(seeds)


def test_the_bare_model_and_the_difference(content: Json) -> None:
    bare, difference = content["bare"], content["difference"]
    assert {"scores", "tau", "rows", "attacks", "controls", "flags"} <= set(bare)
    assert tuple(bare["attacks"]) == tuple(RANKED)
    assert set(difference) == {"clean_accuracy", "robust_score", "survival_score", *RANKED}
    for name in ("clean_accuracy", "robust_score", "survival_score"):
        gap = content["scores"][name]["value"] - bare["scores"][name]["value"]
        assert difference[name]["value"] == pytest.approx(gap)
    for name in RANKED:
        mine, theirs = (part["rows"][name]["endurance"]["value"] for part in (content, bare))
        assert difference[name]["value"] == pytest.approx(mine - theirs)


def test_the_transfer_matrix_goes_both_ways(content: Json) -> None:
    cells = content["transfer"]
    there = {(c["source"], c["victim"], c["attack"]) for c in cells}
    pairs = [("a", "submission"), ("b", "submission"), ("submission", "a"), ("submission", "b")]
    assert there == {(*pair, attack) for pair in pairs for attack in RANKED}
    assert len(cells) == len(there)
    for cell in cells:
        if cell["any_label"]["value"] is not None:
            assert cell["same_label"]["k"] <= cell["any_label"]["k"] <= cell["any_label"]["n"]
    fgsm = {c["source"]: c for c in cells if c["attack"] == "fgsm" and c["victim"] == "submission"}
    assert (fgsm["a"]["any_label"]["k"], fgsm["a"]["any_label"]["n"]) == (8, 8)  # one hyperplane, whatever the gain


def test_every_number_has_its_interval_or_its_reason(content: Json) -> None:
    found = dict(measures(content))
    assert len(found) > 100
    for where, measure in found.items():
        if measure["value"] is None:
            assert measure["reason"], where
            assert measure["low"] is measure["high"] is None, where
        else:
            assert measure["reason"] is None, where
            assert measure["low"] - 1e-9 <= measure["value"] <= measure["high"] + 1e-9, where
            if measure["n"] is not None:
                assert measure["value"] == measure["k"] / measure["n"], where
            elif "difference" not in where:
                assert 0 <= measure["value"] <= 100, where


def test_attacks_agree_with_their_tasks(content: Json) -> None:
    for name, attack in attacks_of(content):
        counted = [row for row in attack["tasks"] if row["counts"]]
        won = [row for row in counted if row["fooled"]]
        ratio = attack["fooling_ratio"]
        assert (ratio["k"], ratio["n"]) == (len(won), len(counted)), name
        queries = sorted(row["queries"] for row in won)
        assert all(1 <= q <= attack["budget"] for q in queries), name
        assert attack["queries"] == (float(np.median(queries)) if queries else None), name
        assert (attack["median_confidence"] is None) == (not won), name
        asked, fooled = [list(x) for x in zip(*attack["curve"], strict=True)] or [[], []]
        assert asked == sorted(set(queries)), name
        assert fooled == sorted(set(fooled)), name  # rises with every step
        assert (fooled[-1] if fooled else 0) == ratio["k"], name
        if attack["task"] == "perturb":
            assert attack["robust_accuracy"]["k"] == len(counted) - len(won)
            assert attack["robust_accuracy"]["n"] == len(attack["tasks"])
            assert [row["image"] for row in attack["tasks"]] == list(range(8))
        for variant in attack["variants"].values():
            assert (variant["curve"][-1][1] if variant["curve"] else 0) == variant["fooling_ratio"]["k"]
            assert variant["queries"] is None or variant["queries"] <= variant["budget"]
    assert content["attacks"]["fgsm"]["fooling_ratio"]["value"] == 1  # there was something to agree on
    assert content["attacks"]["evolution"]["fooling_ratio"]["k"]


def test_rows_agree_with_the_attacks(content: Json) -> None:
    """The planted battery ranks each attack by its name: what its rows came to follows from its tasks."""
    said = {row["name"]: row for row in content["battery"]["ranked"]}
    for part in (content, content["bare"]):
        accuracy = part["scores"]["clean_accuracy"]["value"]
        for name, row in part["rows"].items():
            tasks = part["attacks"][name]["tasks"]
            looks = 3 if name in ("fgsm", "gradient_ascent") else 1
            lost = [t["queries"] * looks if t["counts"] and t["fooled"] else None for t in tasks]
            assert row["lost"] == lost, name
            where = [[t["image"], t["truth"]] if name in PERTURB else [t["run"], t["target"]] for t in tasks]
            assert row["tasks"] == where, name
            first, budget = said[name]["first"], said[name]["budget"]
            assert (first, budget) == (looks, {"fgsm": 3}.get(name, budget))
            assert budget <= part["attacks"][name]["budget"] * looks
            held = [
                1.0
                if when is None
                else min(1, max(0, np.log(when / first) / np.log(budget / first)))
                if budget > first
                else 0.0
                for when in lost
            ]
            whole = 1.0 if name in PERTURB else accuracy
            right = [float(t["counts"]) for t in tasks]
            assert row["endurance"]["value"] == pytest.approx(whole * np.multiply(held, right).mean()), name
            stood = [t["counts"] and not t["fooled"] for t in tasks]
            assert row["survival"]["value"] == pytest.approx(whole * np.mean(stood)), name
            assert {by for by in row["by"] if by is not None} <= {name, *part["attacks"][name]["variants"]}
            assert [by is None for by in row["by"]] == [when is None for when in lost]
    assert any(None not in row["lost"] for row in content["rows"].values())  # FGSM takes every image


def test_scores_agree_with_the_rows(content: Json) -> None:
    for part in (content, content["bare"]):
        endurance, survival = (
            [row[what]["value"] for row in part["rows"].values()] for what in ("endurance", "survival")
        )
        assert part["scores"]["robust_score"]["value"] == pytest.approx(100 * sum(endurance) / 6)
        assert part["scores"]["survival_score"]["value"] == pytest.approx(100 * sum(survival) / 6)
        assert part["scores"]["worst_case"]["value"] == pytest.approx(min(survival))
        rows = [part["attacks"][name]["tasks"] for name in PERTURB]
        alive = sum(all(row["counts"] and not row["fooled"] for row in some) for some in zip(*rows, strict=True))
        assert (part["scores"]["survives_all_perturb"]["k"], part["scores"]["survives_all_perturb"]["n"]) == (alive, 8)


def test_evidence_is_there_for_every_claim(run: Run, content: Json) -> None:
    bare = run.folder / "evidence" / "bare"
    for folder, part in ((run.folder / "evidence", content), (bare, content["bare"])):
        for name, attack in (part["attacks"] | part["controls"]).items():
            made = evidence(folder, name)
            assert made["images"].dtype == np.uint8
            assert made["images"].shape == (len(attack["tasks"]), 1, 8, 8)
            assert made["fooled"].tolist() == [bool(row["fooled"]) for row in attack["tasks"]]
            assert made["confidence"].tolist() == [row["confidence"] for row in attack["tasks"]]
            if attack["task"] == "perturb":
                assert made["image"].tolist() == [row["image"] for row in attack["tasks"]]
            else:
                assert made["target"].tolist() == [row["target"] for row in attack["tasks"]]
    assert {f"{name}.npz" for name in content["attacks"]["fgsm"]["variants"]} <= {
        path.name for path in (run.folder / "evidence").iterdir()
    }


def test_runs_and_shards_have_random_streams_of_their_own(run: Run) -> None:
    for name in ("evolution", "cppn", "gradient_ascent"):
        first, second = evidence(run.folder / "evidence", name)["images"].reshape(2, 2, -1)
        assert (first != second).any(1).all(), name


def test_the_record_survives_the_store(run: Run) -> None:
    path = run.folder / "record.json"
    assert RunFolder(path.parent).record == run.record
    assert dump_record(RunFolder(path.parent).record) == path.read_bytes()
    assert RunFolder(run.folder).record == run.record
    images = RunFolder(run.folder).images("one_pixel")
    assert images is not None
    assert len(images) == 8


def test_others_may_join_the_keys_but_none_may_leave(content: Json) -> None:
    more = content | {"greeting": "hello"}
    assert parse_record(json.dumps(more).encode(), Path("record.json")).model_extra == {"greeting": "hello"}
    for key in set(content) - {"transfer_reason", "unranked_reason", "certificate"}:
        less = {k: v for k, v in content.items() if k != key}
        with pytest.raises(ValueError, match="schema" if key == "schema" else f"{key}: Field required"):
            parse_record(json.dumps(less).encode(), Path("record.json"))


def test_the_same_submission_gives_the_same_record(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, with the panel attacked anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    again = evaluate(run.folder.parent / "submission.yaml", out=tmp_path / "run", device="cpu", workers=1)
    assert timeless(again.record) == timeless(run.record)


# What was not measured


def test_without_gradients_and_without_a_panel_white_box_cells_stay_empty(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8), controls=SMALL_CONTROLS, train=halves(8, seed=1))
    made = evaluate(Rounding(), battery=planted, out=tmp_path / "run", device="cpu")
    content = json.loads((made.folder / "record.json").read_bytes())
    for name in ("fgsm", "gradient_ascent"):
        attack = content["attacks"][name]
        assert attack["tasks"] == attack["curve"] == []
        for part in (attack, *attack["variants"].values()):
            numbers = ("fooling_ratio", "fooling_ratio_99", "robust_accuracy", "label_change")
            for number in numbers:
                if part[number] is not None:
                    assert part[number]["value"] is part[number]["k"] is part[number]["n"] is None
                    assert part[number]["reason"].startswith("FB502: ")
            for number in ("median_confidence", "queries", "median_size", "seconds"):
                assert part[number] is None
        assert (attack["robust_accuracy"] is None) == (name == "gradient_ascent")
    scores = content["scores"]
    assert scores["robust_score"]["value"] is scores["survival_score"]["value"] is scores["worst_case"]["value"] is None
    for name in ("fgsm", "gradient_ascent"):
        row = content["rows"][name]
        assert row["endurance"]["value"] is row["survival"]["value"] is None
        assert row["tasks"] == row["lost"] == row["by"] == []
    assert scores["robust_score"]["reason"] == "not measured: FGSM, Gradient ascent"
    assert scores["survives_all_perturb"]["value"] is None
    assert scores["clean_accuracy"]["value"] == 1
    assert content["attacks"]["one_pixel"]["fooling_ratio"]["n"] == 8
    assert content["bare"] is content["difference"] is content["transfer"] is None
    assert content["transfer_reason"] == "the battery has no panel"
    assert content["rankable"] is False
    assert content["unranked_reason"]
    assert set(made.failures) == {"fgsm", "gradient_ascent"}
    assert not (made.folder / "evidence" / "fgsm.npz").exists()
    for where, measure in measures(content):
        assert measure["value"] is not None or measure["reason"], where


def test_a_shipped_battery_ranks_what_is_complete_alone(run: Run) -> None:
    """The planted battery is a user's own: complete, and still unranked."""
    assert run.failures == {}
    assert run.record.scores.robust_score.value is not None
    assert not run.record.rankable
    assert run.record.unranked_reason == "a battery of the user's own has a board of its own"
