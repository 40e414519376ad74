"""Mistakes in a battery of one's own: each is told once, in words, at its place."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from foolbench.bench.battery.battery import form_of, read_battery
from foolbench.bench.errors import EnvironmentFault, InvalidInput, Problem
from foolbench.bench.reading.fields import fields, make_field, members
from foolbench.bench.submission.submission import Submission
from pydantic import BaseModel
from small_runs import BATTERY, changed, inside, nearest_mean, one_document, submit

NETWORK = nearest_mean().SerializeToString()
MEMBER = {"name": "a", "title": "A", "path": "model.onnx", "sha256": sha256(NETWORK).hexdigest(), "output": "logits"}


def problems(folder: Path, **changes: Any) -> tuple[Problem, ...]:
    submit(folder, battery=changed(BATTERY, **changes))
    with pytest.raises(InvalidInput) as caught:
        read_battery("./battery.yaml", folder=folder)
    return caught.value.problems


# lengths


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"panel": {"models": [MEMBER | {"colour": "red"}]}}, "panel.models[0].colour"),
        ({"panel": {"models": [MEMBER | {"output": "x"}]}}, "panel.models[0].output"),
        ({"panel": {"models": [{"name": 3}]}}, None),
        ({"attacks__gradient_ascent__decays": ["a"]}, "attacks.gradient_ascent.decays[0]"),
        ({"attacks__one_pixel__pixels": [0]}, "attacks.one_pixel.pixels[0]"),
        ({"shape": [1, 0, 8]}, "shape[1]"),
    ],
)
def test_a_list_of_wrong_values_is_not_called_too_short(changes: dict[str, Any], key: str | None, tmp_path: Path):
    found = problems(tmp_path, **changes)
    assert key is None or [problem.where.key for problem in found] == [key]
    assert not any("value" in problem.expected for problem in found)


def test_a_list_that_is_too_short_is_called_so(tmp_path: Path):
    (problem,) = problems(tmp_path, panel={"models": []})
    assert (problem.where.key, problem.message) == ("panel.models", "Expected at least 1 value, got 0.")


# texts of a form


@pytest.mark.parametrize("epsilon", ["8/256", "x/255", "-1/255", "8 / 255", 1.5, [1]])
def test_the_form_of_an_epsilon_is_said_in_words(epsilon: object, tmp_path: Path):
    (problem,) = problems(tmp_path, attacks__fgsm__epsilon=epsilon)
    bound = " of at most 1" if epsilon == 1.5 else ""
    assert problem.expected == f"a number{bound} or gray levels out of 255, such as 8/255"
    assert (problem.where.key, problem.fix) == ("attacks.fgsm.epsilon", "epsilon: 8/255")


def test_no_form_is_shown_as_a_pattern(tmp_path: Path):
    (problem,) = problems(tmp_path, name="My battery")
    words = "at most 64 lower-case letters, digits, dots, hyphens and underscores, such as my-battery"
    assert (problem.expected, problem.fix) == (words, "name: my-battery")
    asked = dict(patterns(form_of(()))) | dict(patterns(Submission))
    assert len(asked) >= 3
    assert [pattern for pattern, words in asked.items() if not words or pattern in words] == []


def patterns(model: type[BaseModel], seen: frozenset[type] = frozenset()) -> list[tuple[str, str | None]]:
    """Every pattern that text in a YAML has to match, with what is said of it."""
    found: list[tuple[str, str | None]] = []
    for info in (fields(model) or {}).values():
        field = make_field(info.annotation, info)
        while field.is_list:
            field = field.item
        for option in members(field.type):
            inner = make_field(option, *field.info)
            marks = [mark for one in inner.info for mark in getattr(one, "metadata", ())]
            found += [(mark.pattern, inner.form) for mark in marks if getattr(mark, "pattern", None)]
            if isinstance(inner.type, type) and issubclass(inner.type, BaseModel) and inner.type not in seen:
                found += patterns(inner.type, seen | {model})
    return found


# files and images


def validated(folder: Path, **changes: Any) -> list[tuple[str, int | None, str]]:
    """What `foolbench validate` says of a submission with this battery: codes, lines and keys, all in the battery."""
    path = submit(folder, battery=changed(BATTERY, **changes))
    errors = one_document(inside("validate", path, "--json"))["errors"]
    assert {error["file"] for error in errors} == {str(folder / "battery.yaml")}
    return [(error["code"], error["line"], error["key"]) for error in errors]


def line(folder: Path, text: str) -> int:
    return (folder / "battery.yaml").read_text().splitlines().index(text) + 1


def test_validate_looks_for_the_files_of_a_panel(tmp_path: Path):
    models = [MEMBER | {"path": "modle.onnx"}, MEMBER | {"path": "gone.onnx"}, MEMBER | {"sha256": "0" * 64}]
    found = validated(tmp_path, panel={"models": models})
    assert found == [
        ("FB108", line(tmp_path, "    path: modle.onnx"), "panel.models[0].path"),
        ("FB108", line(tmp_path, "    path: gone.onnx"), "panel.models[1].path"),
        ("FB201", line(tmp_path, f"    sha256: '{'0' * 64}'"), "panel.models[2].sha256"),
    ]
    assert validated(tmp_path, panel={"models": [MEMBER | {"path": "../model.onnx"}]})[0][0] == "FB109"
    assert inside("validate", submit(tmp_path, battery=changed(BATTERY, panel={"models": [MEMBER]}))).returncode == 0


def test_validate_looks_for_the_evidence_of_a_panel(tmp_path: Path):
    panel = {"models": [MEMBER], "evidence": "panel.npz", "sha256": "0" * 64}
    assert validated(tmp_path, panel=panel) == [("FB400", line(tmp_path, "  evidence: panel.npz"), "panel.evidence")]
    (tmp_path / "panel.npz").write_bytes(b"altered")
    assert validated(tmp_path, panel=panel) == [("FB401", line(tmp_path, f"  sha256: '{'0' * 64}'"), "panel.sha256")]


def test_validate_counts_the_images(tmp_path: Path):
    assert validated(tmp_path, images=41) == [("FB400", line(tmp_path, "images: 41"), "images")]
    assert validated(tmp_path, attacks__fgsm__images=22, attacks__one_pixel__images=21) == [
        ("FB104", line(tmp_path, "    images: 21"), "attacks.one_pixel.images"),
        ("FB104", line(tmp_path, "    images: 22"), "attacks.fgsm.images"),
    ]
    both = validated(tmp_path, images=41, panel={"models": [MEMBER], "evidence": "panel.npz"})
    assert [code for code, *_ in both] == ["FB400", "FB400"]


def test_validate_looks_at_the_smoke_tier_too(tmp_path: Path):
    assert validated(tmp_path, smoke={"imagess": 5}) == [("FB103", line(tmp_path, "  imagess: 5"), "smoke.imagess")]
    assert validated(tmp_path, smoke={"images": 41}) == [("FB400", line(tmp_path, "  images: 41"), "smoke.images")]
    fewer = {"images": 5, "attacks": {"fgsm": {"images": 6}, "one_pixel": {"images": 5}}}
    assert validated(tmp_path, smoke=fewer) == [
        ("FB104", line(tmp_path, "      images: 6"), "smoke.attacks.fgsm.images")
    ]


def test_the_smoke_tier_points_at_what_it_does_not_change_itself(tmp_path: Path):
    submit(tmp_path, battery=changed(BATTERY, images=41, smoke={"batch": 8}))
    with pytest.raises(EnvironmentFault) as caught:
        read_battery("./battery.yaml", tier="smoke", folder=tmp_path).load()
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.line, problem.where.key) == ("FB400", line(tmp_path, "images: 41"), "images")


def test_what_is_missing_of_a_panel_when_it_is_run_is_said_to_be_the_battery_s(tmp_path: Path):
    submit(tmp_path, battery=changed(BATTERY, panel={"models": [MEMBER]}))
    battery = read_battery("./battery.yaml", folder=tmp_path)
    (tmp_path / "model.onnx").unlink()
    assert battery.spec.panel is not None
    with pytest.raises(InvalidInput) as caught:
        battery.panel_path(battery.spec.panel.models[0])
    (problem,) = caught.value.problems
    assert (problem.code, problem.where.file) == ("FB200", tmp_path / "battery.yaml")
    assert (problem.where.line, problem.where.key) == (line(tmp_path, "    path: model.onnx"), "panel.models[0].path")
    assert problem.message == f"Expected model.onnx in the battery's own folder {tmp_path}, got nothing there."
    assert problem.fix == "put the file beside the battery's YAML"


# ranked rows


ROW = {"name": "searches", "entries": ["evolution", "cppn"], "first": 20, "reason": "drawn blindly"}
MISTAKEN_ROWS = {
    # what is ranked: what is said of it, each at its place with its fix
    "an attack that it lacks": (
        ["cppn", "evolutoin"],
        [("ranked[1]", "one of this battery's attacks (", "'evolutoin'", "write evolution")],
    ),
    "one that it lacks, in a row": (
        [ROW | {"entries": ["cppn", "harmless"]}],
        [
            (
                "ranked[0].entries[1]",
                "one of this battery's attacks (",
                "'harmless'",
                "remove it, or add it to `attacks:`",
            )
        ],
    ),
    "a control": (["noise"], [("ranked[0]", "one of this battery's attacks (", "'noise'", "remove it, or add it")]),
    "one twice in a row": (
        [ROW | {"entries": ["cppn", "cppn"]}],
        [("ranked[0].entries[1]", "each attack once", "'cppn' twice", "remove one")],
    ),
    "an attack twice": (["fgsm", "fgsm"], [("ranked[1]", "each attack once", "'fgsm' twice", "remove one")]),
    "two rows of one name": (
        [ROW, ROW | {"entries": ["cppn"]}],
        [("ranked[1].name", "rows of different names", "'searches' twice", "remove one")],
    ),
    "two kinds of tasks": (
        [ROW | {"entries": ["cppn", "fgsm"]}],
        [("ranked[0].entries", "attacks of one task in a row", "fooling and changing ones", "make two rows of it")],
    ),
    "a control that it lacks": (
        [ROW | {"control": "cppn"}],
        [("ranked[0].control", "one of this battery's controls (noise)", "'cppn'", "correct or remove it")],
    ),
    "two at once": (
        [ROW | {"entries": ["gone"], "control": "gone"}, "one_pixle"],
        [
            ("ranked[0].entries[0]", "one of this battery's attacks (", "'gone'", "remove it"),
            ("ranked[0].control", "one of this battery's controls (noise)", "'gone'", "correct or remove it"),
            ("ranked[1]", "one of this battery's attacks (", "'one_pixle'", "write one_pixel"),
        ],
    ),
    "pixels over ε": (
        [{"name": "low", "entries": ["fgsm", "one_pixel"], "over": "epsilon"}],
        [
            (
                "ranked[0].entries[1]",
                "attacks within an ε, for a row over epsilon",
                "one_pixel",
                "remove it, or say over",
            )
        ],
    ),
    "fooling over ε": (
        [{"name": "low", "entries": ["evolution"], "over": "epsilon"}],
        [
            (
                "ranked[0].entries[0]",
                "attacks within an ε, for a row over epsilon",
                "evolution",
                "remove it, or say over",
            )
        ],
    ),
    "no attack": ([ROW | {"entries": []}], [("ranked[0].entries", "at least 1 value", "0", "")]),
    "a name that is none": (
        [ROW | {"name": "Searches!"}],
        [("ranked[0].name", "at most 40 lower-case letters, digits and underscores", "Searches!", "name: my_row")],
    ),
}


@pytest.mark.parametrize("what", MISTAKEN_ROWS)
def test_a_mistaken_row_is_told_at_its_place(what: str, tmp_path: Path):
    ranked, told = MISTAKEN_ROWS[what]
    found = problems(tmp_path, ranked=ranked)
    assert [problem.where.key for problem in found] == [key for key, *_ in told]
    for problem, (_, expected, got, fix) in zip(found, told, strict=True):
        assert problem.code == "FB104" or what == "a name that is none", problem.code
        assert problem.expected.startswith(expected)
        assert got in problem.message
        assert (problem.fix or "").startswith(fix)
        assert problem.where.line is not None


def test_an_attacks_name_alone_is_a_row_of_it(tmp_path: Path):
    alone = {"name": "cppn", "entries": ["cppn"]}
    within = {"name": "low", "entries": ["fgsm"], "over": "epsilon"}
    controlled = ROW | {"entries": ["evolution"], "control": "noise", "title": "Searches"}
    for ranked in ([alone, within, controlled], ["cppn", within, controlled]):
        submit(tmp_path, battery=changed(BATTERY, ranked=ranked))
        first, second, third = read_battery("./battery.yaml", folder=tmp_path).spec.ranking
        assert (first.entries, first.title) == (["cppn"], "CPPN (indirect encoding)")
        assert (first.first, first.budget) == (1, 40)  # ten children in four generations
        assert (second.curve, second.epsilon, second.control) == ([0.1, 0.2], 0.2, None)
        assert (third.first, third.reason, third.control) == (20, "drawn blindly", "noise")
        assert (third.title, third.budget) == ("Searches", 200)
    # Where nothing is said, every attack is a row.
    submit(tmp_path, battery=BATTERY)
    every = read_battery("./battery.yaml", folder=tmp_path).spec.ranking
    assert [row.name for row in every] == [row.entries[0] for row in every] == list(BATTERY["attacks"])
    granted = {row.name: row.budget for row in every}
    assert granted["gradient_ascent"] == 3 * 6  # five steps and a last look; a gradient is three forward passes
