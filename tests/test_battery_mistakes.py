"""Mistakes in a battery of one's own: each is told once, in words, at its place."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from foolbench.bench.battery.battery import form_of, read_battery
from foolbench.bench.errors import InvalidInput, Problem
from foolbench.bench.reading.fields import fields, make_field, members
from foolbench.bench.submission.submission import Submission
from pydantic import BaseModel
from small_runs import BATTERY, changed, nearest_mean, submit

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
