"""The table of what scores tell apart: pairs, rows and agreement with known answers, and the submissions it makes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foolbench.bench import read_submission
from foolbench.leaderboard.board.rank import SharedResamples
from foolbench.leaderboard.record.battery import AttackRef, BatteryRef, RankedRow
from foolbench.leaderboard.record.record import Measure, Provenance, Record, RowResult, Scores, Seen
from foolbench.leaderboard.record.rows import column
from foolbench.leaderboard.record.store import dump_record
from planted import battery, halves, left_or_right, linear_onnx

BENCHMARKS = Path(__file__).parent / "benchmarks"
FOOL = RankedRow(name="search", title="Search", entries=["search"], first=1, budget=10_000)
LINF = RankedRow(name="linf", title="L∞", entries=["fgsm"], first=1, budget=1, curve=[0.1, 0.2], epsilon=0.1)
N = 40


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a part of the script, which finds the others beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def measured(value: float) -> Measure:
    return Measure(value=value)


def made(
    name: str,
    queries: Sequence[float | None],
    epsilons: Sequence[float | None],
    flat: Sequence[float | None] | None = None,
    **changes: Any,
) -> Record:
    """A record of one Fool row, a cell a class, and one L∞ row, an image a task, all right before."""
    flat = queries if flat is None else flat
    held, held_flat = (FOOL.held(column(lost)) for lost in (queries, flat))
    area = LINF.held(column(epsilons))
    rows = {
        "search": RowResult(
            endurance=measured(float(held.mean())),
            survival=measured(sum(q is None for q in queries) / len(queries)),
            endurance_99=measured(float(held_flat.mean())),
            survival_99=measured(sum(q is None for q in flat) / len(flat)),
            tasks=[(0, k) for k in range(len(queries))],
            lost=list(queries),
            lost_99=list(flat),
        ),
        "linf": RowResult(
            endurance=measured(float(area.mean())),
            survival=measured(0.5),
            tasks=[(i, 0) for i in range(len(epsilons))],
            counts=[True] * len(epsilons),
            lost=list(epsilons),
        ),
    }
    none, score = Measure(value=None, reason="left out"), 50 * (float(held.mean()) + float(area.mean()))
    record = Record(
        schema=1,
        battery=BatteryRef(
            name="two-rows", tier="standard", digest="0" * 64, shape=(1, 8, 8), classes=["a", "b"], shipped=False,
            attacks={"search": AttackRef(title="Search", sentence="Share.", task="fool"),
                     "fgsm": AttackRef(title="FGSM", sentence="Share.", task="perturb")},
            ranked=[FOOL, LINF],
        ),
        submission={"name": name}, digest=f"{abs(hash(name)):064x}"[:64],
        scores=Scores(
            clean_accuracy=measured(1.0), clean_rejection=none, robust_score=measured(score), survival_score=none,
            worst_case=none, survives_all_perturb=none,
        ),
        tau=0.9, rows=rows, attacks={}, controls={}, bare=None, difference=None, transfer=None,
        seen=Seen(classes=2, tau=0.9, confidence=1.0, randomised=False, difference=0.0, zero_gradient_share=0.0,
                  mismatch=None),
        flags=[], rankable=False,
        provenance=Provenance(
            versions={}, device="cpu", backend="torch", commit=None, dirty=None, source_digest="", seconds=1.0,
            started="2026-01-01T00:00:00Z", seeds={},
        ),
    )  # fmt: skip
    return record.model_copy(update=changes)


def never(n: int = N) -> list[float | None]:
    return [None] * n


# scores of the same resamples


def test_a_score_by_each_of_its_kinds() -> None:
    """Half of the cells fall at 100 of 10,000 queries, half-way on the log axis, and none of them at a flat 0.99; half
    of the images fall between ε 0.1 and 0.2, three quarters of the way, and so stand at the headline 0.1."""
    record = made("one", [100.0, None], [0.2, None], flat=[None, None])
    resamples = SharedResamples(record, np.random.default_rng(0))
    assert resamples.score(record) == pytest.approx(100 * (0.75 + 0.875) / 2)
    assert resamples.score(record, "endurance_99") == pytest.approx(100 * (1 + 0.875) / 2)
    assert resamples.score(record, "survival") == pytest.approx(100 * (0.5 + 1) / 2)
    assert resamples.score(record, "survival_99") == 100
    assert resamples.score(record) == pytest.approx(record.scores.robust_score.value)
    assert resamples.scores(record, "endurance_99").std() > 0
    assert (resamples.scores(record, "survival_99") == 100).all()


def test_pairs_are_told_apart_by_what_the_score_sees(parts: Any) -> None:
    """A twin and one that loses a single image more are no other; one that loses half of its images is, and one that
    falls to searches sooner is too, by endurance alone."""
    one = made("one", [None] * 10, never())
    others = {
        "twin": (made("twin", [None] * 10, never()), 0, 0),
        "one image": (made("one image", [None] * 10, [0.1, *never(N - 1)]), 0, 0),
        "half": (made("half", [None] * 10, [*[0.1] * (N // 2), *never(N // 2)]), 1, 1),
        "sooner": (made("sooner", [30.0] * 10, never()), 1, 0),
    }
    slow = made("slow", [3000.0] * 10, never())
    measure = parts("discrimination_measure")
    for name, (other, endurance, survival) in others.items():
        given = measure.scored([slow if name == "sooner" else one, other])
        assert measure.separated(given, "endurance at τ") == (endurance, 1), name
        assert measure.separated(given, "survival") == (survival, 1), name


def test_a_flat_confidence_tells_others_apart(parts: Any) -> None:
    one, other = (made(name, [100.0] * 10, never(), flat=[q] * 10) for name, q in (("one", 100.0), ("two", None)))
    measure = parts("discrimination_measure")
    given = measure.scored([one, other])
    assert measure.separated(given, "endurance at τ") == (0, 1)
    assert measure.separated(given, "endurance at 0.99") == (1, 1)
    assert measure.separated(given, "mean of both") == (1, 1)
    for one in given:
        assert one.own["mean of both"] == (one.own["endurance at τ"] + one.own["endurance at 0.99"]) / 2


def test_rows_at_their_ends_and_agreement(parts: Any) -> None:
    each = {"low": 1.0, "middle": 100.0, "high": None}
    low, middle, high = (made(name, [queries] * 10, never()) for name, queries in each.items())
    found = parts("discrimination_measure").table_of([high, low, middle], {"low": 0.1, "middle": 0.2, "other": 0.3})
    search, linf = found["rows"]
    assert search["endurance"] == pytest.approx({"min": 0, "median": 0.5, "max": 1, "ceiling": 1 / 3, "floor": 1 / 3})
    assert (linf["endurance"]["ceiling"], linf["endurance_99"]) == (1, None)
    assert found["stuck"] == [{"row": "L∞", "of": "endurance", "end": "ceiling", "share": 1}]
    assert found["agreement"]["endurance at τ"] == {"tau": pytest.approx(1), "n": 2}
    assert found["not_ordered"] == ["high"]
    backwards = parts("discrimination_measure").table_of([low, middle, high], {"low": 0.3, "middle": 0.2, "high": 0.1})
    assert backwards["agreement"]["survival"]["tau"] < 0  # the two that fall are equal by survival
    assert backwards["agreement"]["endurance at τ"] == {"tau": pytest.approx(-1), "n": 3}
    equal = parts("discrimination_measure").table_of([low, high], {"low": 0.3, "high": 0.3})
    assert equal["agreement"]["survival"] == {"tau": None, "n": 2}
    told = parts("discrimination_tables").markdown(found)
    assert "| L∞ | endurance | 1.00 | 1.00 | 1.00 | **100%** | 0% |" in told
    assert "| endurance at τ | 3 of 3 | 1.00 | 1.00 over 2 |" in told


def test_what_cannot_be_compared_is_said(parts: Any) -> None:
    measure = parts("discrimination_measure")
    one, two = made("one", [1.0], never()), made("two", [2.0], never())
    unmeasured = two.scores.model_copy(update={"robust_score": Measure(value=None, reason="it was stopped")})
    stopped = two.model_copy(update={"scores": unmeasured})
    with pytest.raises(ValueError, match="expected at least 2 submissions with a robust score, got 1"):
        measure.table_of([one, stopped])
    third = made("three", [3.0], never())
    assert measure.table_of([one, stopped, third])["left_out"] == [{"name": "two", "reason": "it was stopped"}]
    another = two.model_copy(update={"battery": two.battery.model_copy(update={"digest": "1" * 64})})
    with pytest.raises(ValueError, match="expected records of one battery, got two-rows standard 00000000, two-rows"):
        measure.table_of([one, another])
    # Of a submission that was evaluated twice the newer record counts.
    later = two.provenance.model_copy(update={"started": "2026-01-02T00:00:00Z"})
    assert measure.newest([two.model_copy(update={"provenance": later, "tau": 0.5}), two])[0].tau == 0.5


# the script


def test_from_runs_to_files(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = parts("discrimination")
    for record in (made("one", [1.0] * 10, never()), made("two", [None] * 10, never())):
        (tmp_path / "runs" / str(record.submission["name"])).mkdir(parents=True)
        (tmp_path / "runs" / str(record.submission["name"]) / "record.json").write_bytes(dump_record(record))
    (tmp_path / "order.json").write_text('{"one": 0.1, "two": 0.4}')
    files = {"--json": tmp_path / "found.json", "--markdown": tmp_path / "found.md", "--order": tmp_path / "order.json"}
    options = [str(x) for pair in files.items() for x in pair]
    monkeypatch.setattr(sys, "argv", ["discrimination.py", "--runs", str(tmp_path / "runs"), *options])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    found = json.loads(files["--json"].read_text())
    assert found["pairs"]["survival"] == {"separated": 1, "pairs": 1, "share": 1}
    assert files["--markdown"].read_text().startswith("### two-rows, standard tier: 2 submissions, 1 pairs")
    files["--order"].write_text('{"one": "high"}')
    with pytest.raises(SystemExit, match=r"expected {submission's name: robust accuracy} in"):
        script.main()


def test_finished_submissions_are_kept_and_failures_told(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, zoo, nets = parts("discrimination"), parts("discrimination_zoo"), parts("defenses_models")
    stated = battery(tmp_path / "battery", *halves(12)).load().digest
    small = battery(tmp_path / "battery", *halves(12), digest=stated)
    linear_onnx(tmp_path, "halves", left_or_right())
    net = nets.Model("halves", "digits", "digits-v1", (1, 8, 8), nets.File(tmp_path / "halves.onnx"), ())
    kept = [
        zoo.Kept("halves", lambda folder: nets.write_submission(net, None, folder)),
        zoo.Kept("nothing", lambda folder: folder / "submission.yaml"),
    ]
    console = script.Console()
    (tmp_path / "out").mkdir()
    failed = script.make(kept, small, tmp_path / "out", 1, console)
    assert list(failed) == ["nothing"]
    assert failed["nothing"].startswith("FB100")
    assert len(list((tmp_path / "out" / "runs").glob("halves-*/record.json"))) == 1
    monkeypatch.setattr(script, "evaluate", lambda *given, **more: pytest.fail("it ran again"))
    assert list(script.make(kept, small, tmp_path / "out", 1, console)) == ["nothing"]
    assert "halves: kept" in capsys.readouterr().out


def test_there_are_enough_submissions_and_each_can_be_read(parts: Any, tmp_path: Path) -> None:
    zoo, real = parts("discrimination_zoo"), parts("real_data")
    data = real.data_folder()
    for which, least in (("digits", 21), ("mnist", 13)):
        if which == "mnist" and data is None:
            continue
        kept = zoo.zoo(which, data, None)
        assert len({one.name for one in kept}) == len({one.slug for one in kept}) == len(kept) >= least
        for one in kept:
            if one.name.startswith("LeNet-5, "):
                continue  # minutes of training
            given = read_submission(one.make(tmp_path / which / one.slug))
            assert (given.spec.name, given.spec.battery) == (one.name, zoo.BATTERIES[which])
    with pytest.raises(real.DataError, match="FOOLBENCH_TEST_DATA"):
        zoo.zoo("mnist", None, None)
