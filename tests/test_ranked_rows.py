"""What a record may say that its battery ranks, and the columns, words and lines that follow from it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foolbench.leaderboard.board.board import controls_of
from foolbench.leaderboard.board.columns import FOOL_TASKS, columns_of, definitions_of
from foolbench.leaderboard.board.export import leaderboard_csv
from foolbench.leaderboard.board.rank import Board, SharedResamples, board
from foolbench.leaderboard.record.battery import BatteryRef, RankedRow
from foolbench.leaderboard.record.describe import summary_of, weakest
from foolbench.leaderboard.record.record import Record
from foolbench.leaderboard.record.store import dump_record, parse_record
from foolbench.leaderboard.record.unranked import unranked
from foolbench.leaderboard.site.charts import THEMES, Line
from record_attacks import BUDGET, SIX, TITLES
from record_rows import FIRST, ranked_row
from records import RECIPES, record

SEVEN = replace(RECIPES[1], battery="digits-v2", ranked=(*SIX, "square"), beside=("plasma",))


def ranking(made: Record, *names: str, **titles: str) -> Record:
    """The record as if its battery ranked these attacks, with other titles."""
    rows = [ranked_row(name, titles.get(name, name)) for name in names]
    return made.model_copy(update={"battery": made.battery.model_copy(update={"ranked": rows})})


# the record


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"entries": ["plasma", "square"]}, "expected attacks of one task in a row, got both in row"),
        ({"entries": ["plasma", "cppn", "plasma"]}, "expected each attack once in a row, got plasma twice in row"),
        ({"entries": []}, "battery.ranked.7.entries: List should have at least 1 item"),
        ({"entries": ["noise"]}, "expected ranked attacks of the battery, none of them a control, got noise"),
        ({"entries": ["apgd"]}, "expected ranked attacks of the battery, none of them a control, got apgd"),
        ({"control": "cppn"}, "expected a control of the battery, got cppn"),
        ({"control": "silence"}, "expected a control of the battery, got silence"),
        ({"name": "cppn"}, "expected each row once in the ranking, got cppn twice"),
        ({"name": "clean_accuracy"}, "expected attacks that are named otherwise than scores and evidence"),
        ({"name": "survival_score"}, "expected attacks that are named otherwise than scores and evidence"),
        ({"name": "../../x"}, "battery.ranked.7.name: String should match pattern"),
        ({"entries": ["../../x"]}, "expected ranked attacks of the battery, none of them a control, got ../../x"),
    ],
)
def test_a_ranking_that_cannot_be_is_refused(row: dict[str, Any], told: str) -> None:
    content = json.loads(dump_record(record(SEVEN)))
    content["battery"]["ranked"].append({"name": "row", "title": "Row", "entries": ["plasma"]})
    assert parse_record(json.dumps(content).encode(), Path("whole")).battery.counted[-1] == "plasma"
    content["battery"]["ranked"][-1].update(row)
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_record(json.dumps(content).encode(), Path("record.json"))


@pytest.mark.parametrize("name", ["../../x", "a-1", "A", "", "x" * 41, "originals"])
def test_an_attacks_name_that_is_no_name_is_refused(name: str) -> None:
    """It becomes the name of files of a site."""
    content = json.loads(dump_record(record(SEVEN)))
    content["battery"]["attacks"][name] = content["battery"]["attacks"]["plasma"]
    with pytest.raises(ValueError, match=r"record\.json: expected a record of schema 1, got battery"):
        parse_record(json.dumps(content).encode(), Path("record.json"))


def test_what_hurts_most_is_said_with_the_rows_own_title() -> None:
    made = ranking(record(SEVEN), "one_pixel", "square", square="Square, my own words")
    low = weakest(made)
    assert low is not None
    assert low[0].name == "square"
    assert "; Square, my own words hurts it most" in summary_of(made)
    assert weakest(ranking(made)) is None


@pytest.mark.parametrize("row", [{"entries": ["plasma", "cppn", "evolution"]}, {"control": "noise"}])
def test_a_row_may_count_an_attack_that_another_counts_too(row: dict[str, Any]) -> None:
    content = json.loads(dump_record(record(SEVEN)))
    content["battery"]["ranked"].append({"name": "row", "title": "Row", "entries": ["plasma"]} | row)
    battery = parse_record(json.dumps(content).encode(), Path("whole")).battery
    assert battery.counted == (*SEVEN.ranked, "plasma")
    assert battery.task_of(battery.ranked[-1]) == "fool"
    assert battery.unranked == ()


# a board


def test_a_board_of_seven_is_ranked_by_all_seven() -> None:
    made = record(SEVEN)
    assert unranked(made) is None
    scores = SharedResamples(made, np.random.default_rng(3)).scores(made)
    assert np.mean(scores) == pytest.approx(made.scores.robust_score.value, abs=0.3)
    stopped = record(replace(SEVEN, missing={"square": "out of budget"}))
    assert unranked(stopped) == f"{TITLES['square']}: out of budget"
    assert unranked(record(replace(SEVEN, absent=("square",)))) == f"{TITLES['square']}: no result"
    assert unranked(record(replace(SEVEN, absent=("plasma",)))) is None
    assert unranked(ranking(made)) == "its battery ranks no attack"


def test_one_board_ranks_one_set_of_attacks() -> None:
    one, other = record(SEVEN), record(replace(SEVEN, name="other", seed=40))
    assert len(board([one, other]).ranked) == 2
    for odd in (ranking(other, *SIX), ranking(other, "square", *SIX)):
        with pytest.raises(ValueError, match="expected all records of digits-v2 to rank the same attacks, got others"):
            board([one, odd])


def test_titles_are_those_of_the_newest_record() -> None:
    old, new = record(SEVEN), record(replace(SEVEN, name="newer", seed=20))
    assert old.provenance.started < new.provenance.started
    new = ranking(new, *SEVEN.ranked, fgsm="Fast gradient sign")
    for records in ([old, new], [new, old]):
        columns = columns_of(board(records).battery)
        assert [c.title for c in columns.rows if c.key == "fgsm"] == ["Fast gradient sign"]


def test_controls_are_the_batterys() -> None:
    made = board([record(SEVEN)])
    assert [control.title for control in controls_of(made)] == [TITLES["noise"], TITLES["random_cppn"]]
    attacks = {name: attack for name, attack in made.battery.attacks.items() if name != "noise"}
    without = Board(made.battery.model_copy(update={"attacks": attacks}), made.standings)
    assert [control.title for control in controls_of(without)] == [TITLES["random_cppn"]]


# its columns


def battery(*ranked: str) -> BatteryRef:
    return ranking(record(SEVEN), *ranked).battery


@pytest.mark.parametrize(
    ("ranked", "score", "worst", "survives", "ran"),
    [
        (SIX, "over the six rows", "lowest of the six survivals", "Survives all three", "all three"),
        (SEVEN.ranked, "over the seven rows", "lowest of the seven", "Survives all four", "all four"),
        (("fgsm", "square"), "over the two rows", "lowest of the two", "Survives both", "both"),
        (("fgsm", "cppn"), "over the two rows", "lowest of the two", "Survives all", "all of them"),
        (("fgsm",), "over the ranked rows", "The lowest survival:", "Survives all", "all of them"),
        ((), "over the ranked rows", "The lowest survival:", "Survives all", "all of them"),
    ],
)
def test_columns_are_told_by_what_is_ranked(
    ranked: tuple[str, ...], score: str, worst: str, survives: str, ran: str
) -> None:
    columns = columns_of(battery(*ranked))
    assert [c.key for c in columns.rows] == list(ranked)
    assert score in columns.kept[0].definition
    assert score in columns.kept[1].definition
    assert worst in columns.kept[2].definition
    assert columns.survives.title == survives
    assert columns.survives.denominator == f"evaluation images that {ran} were run on"
    for column in columns.rows:
        fool = column.key in ("evolution", "cppn", "gradient_ascent")
        assert column.higher_is_better
        assert f"log(q ÷ {FIRST.get(column.key, 10)})" in column.definition
        assert f"log({BUDGET[column.key]:,} ÷" in column.definition
        assert column.definition.endswith(f"of {TITLES[column.key]}: share of what {TITLES[column.key]} fooled.")
        assert ("Times clean accuracy" in column.definition) == fool
        assert "whichever" not in column.definition
        assert column.denominator == (FOOL_TASKS if fool else "all of its evaluation images")


def test_a_rows_column_says_what_it_counts_and_over_what() -> None:
    made = battery()
    nested = ranked_row("plasma").model_copy(update={"entries": ["plasma", "cppn", "evolution"], "reason": "2 is one"})
    within = RankedRow(name="linf", title="L∞", entries=["fgsm", "square"], curve=[0.1, 0.25], epsilon=0.1)
    two = columns_of(made.model_copy(update={"ranked": [nested, within]})).rows
    assert "It counts Plasma, CPPN (indirect encoding), Evolution (direct encoding): whichever" in two[0].definition
    assert "Why 10: 2 is one." in two[0].definition
    assert two[0].denominator == FOOL_TASKS
    assert "the area under robust accuracy over ε from 0 to 0.25" in two[1].definition
    assert "log(" not in two[1].definition
    assert two[1].denominator == "all of its evaluation images"


def test_a_definition_stands_once_for_each_way_in_which_it_is_told() -> None:
    told = definitions_of({"a": columns_of(battery(*SIX)), "b": columns_of(battery(*SEVEN.ranked))})
    anchors = {definition.anchor: definition.boards for definition in told}
    assert len(anchors) == len(told)
    assert (anchors["col-robust_score"], anchors["col-robust_score-b"]) == (("a",), ("b",))
    assert (anchors["col-fgsm"], anchors["col-square"]) == (("a", "b"), ("b",))
    none = [definition.column.key for definition in definitions_of({})]
    kept = ["robust_score", "survival_score", "worst_case", "clean_accuracy"]
    assert none == [*kept, "survives_all_perturb", "clean_rejection"]


def test_a_row_named_like_another_column_is_refused() -> None:
    made = record(SEVEN)
    rows = [RankedRow(name="fgsm_low", title="Low", entries=["square"]), *made.battery.ranked[:-1]]
    odd = made.model_copy(update={"battery": made.battery.model_copy(update={"ranked": rows})})
    with pytest.raises(ValueError, match="expected ranked rows named otherwise than other columns, got fgsm_low"):
        leaderboard_csv([board([odd])], {id(odd): "index.html"})


# its lines


def test_lines_can_be_told_apart_by_place() -> None:
    lines = [Line(str(i), str(i), record(SEVEN).attacks["fgsm"], i) for i in range(14)]
    looks = [(line.colour, line.shape, line.double) for line in lines]
    assert [colour for colour, _, _ in looks[:6]] == [f"~line{i}" for i in range(6)]
    assert [shape for _, shape, _ in looks[:3]] == ["circle", "square", "triangle-up"]
    for one, other in combinations(looks, 2):
        assert one[1] != other[1] or one[0] != other[0]
        assert one[0] != other[0] or one[2] is not other[2]  # plain and double lines of one colour
    for theme in THEMES.values():
        assert len({theme[f"line{i}"] for i in range(7)}) == 7
