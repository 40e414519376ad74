"""Outcomes of attacks by hand: six evaluation images, of which the victim gets the first four right, one wrong, and
rejects one; three runs at two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from foolbench.attacks.entry import Entry, Limit
from foolbench.attacks.levels import Levels
from foolbench.bench.asking.clean import CleanAnswers
from foolbench.bench.asking.reading import reading_of
from foolbench.bench.battery.rows import RowSpec, passes, ranked_row
from foolbench.bench.running.run import EntryFailure
from foolbench.bench.running.shards import ShardResult
from foolbench.bench.scores.attack_results import Mode, grouped
from foolbench.bench.scores.rows import lost_of
from foolbench.bench.scores.scores import Control, Row, Scoring
from planted import TITLES, Idle

GRADIENT = Mode(gradient=True, reason=None, sources=0)
TRUTH = [0, 1, 0, 1, 0, 1]
LABELS = [0, 1, 0, 1, 1, -1]


def clean(labels: list[int] = LABELS, tau: float | None = 0.9) -> CleanAnswers:
    """A victim's clean answers with these labels; least likely of image 0 is class 2, of the others class 1 or 0."""
    rows = {0: [0.8, 0.15, 0.05], 1: [0.05, 0.8, 0.15], -1: [0.2, 0.2, 0.1]}
    probabilities = torch.tensor([rows[label] for label in labels])
    reading = reading_of(probabilities)
    assert reading.label.tolist() == labels
    count = len(labels)
    return CleanAnswers(
        torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.tensor(TRUTH[:count]), reading, tau, False, 0.0, 0.0
    )


def entry(name: str, group: str | None = None, tasks: int = 6, **changes: Any) -> Entry:
    task = "perturb" if name.split("_")[0] in ("deepception", "one", "fgsm") else "fool"
    box = "white" if (group or name) in ("fgsm", "gradient_ascent") else "black"
    given: dict[str, Any] = {"budget": 100, "targets": () if task == "perturb" else (0, 1)}
    given["limit"] = Limit("pixels", 1) if task == "perturb" else None
    return Entry(name, group or name, name, Idle(), task, box, tasks, 2, **(given | changes))


def outcome(fooled: list[int], *, attacked: list[int] | None = None, **changes: Any) -> ShardResult:
    count = len(fooled)
    values: dict[str, Any] = {
        "images": np.zeros((count, 1, 2, 2), np.uint8),
        "attacked": np.array(attacked or [1] * count, bool),
        "fooled": np.array(fooled, bool),
        "fooled_flat": np.zeros(count, bool),
        "label": np.ones(count, np.int64),
        "confidence": np.linspace(0.5, 0.9, count, dtype=np.float32),
        "share": np.array(fooled, np.float32),
        "size": np.full(count, np.nan),
        "first": np.where(np.array(fooled, bool), 10 * np.arange(1, count + 1), -1),
        "first_flat": np.full(count, -1),
        "spent": np.full(count, 100),
        "refused": np.array([""] * count),
        "counts": np.array([100 * count, 7, 0]),
        "seconds": np.array(1.5),
    }
    return ShardResult(**(values | {k: np.array(v) for k, v in changes.items()}))


ATTACKED = [1, 1, 1, 1, 1, 0]  # the rejected image has nothing to get away from


# ranked rows

FOOLING = ("evolution", "cppn", "gradient_ascent")
SIX: tuple[dict[str, Any], ...] = (
    *({"name": name, "entries": [name], "first": 10} for name in ("evolution", "cppn", "deepception", "one_pixel")),
    *({"name": name, "entries": [name], "first": 3} for name in ("fgsm", "gradient_ascent")),
)
"""A row for each of the six attacks: 10 to 1000 passes without gradients, 3 to 300 along 100 of them."""


def plan(*names: str, **changes: Any) -> list[Entry]:
    """Attacks and controls in three runs at two classes, or on six images; granted 1000 queries or 100 gradients."""
    made = []
    for name in names:
        white = name.startswith(("fgsm", "gradient_ascent"))
        perturb = name.startswith(("deepception", "one_pixel", "fgsm"))
        made.append(entry(name, **({"tasks": 6 if perturb else 3, "budget": 100 if white else 1000} | changes)))
    return made


def lost_at(*passes: float | None, **changes: Any) -> ShardResult:
    """An outcome whose tasks were fooled after so many queries or gradients; None: never."""
    first = [-1 if when is None else when for when in passes]
    return outcome(
        [int(when is not None) for when in passes], first=first, **({"spent": [1000] * len(first)} | changes)
    )


def scoring(
    entries: Sequence[Entry],
    results: Mapping[str, ShardResult | EntryFailure],
    ranked: Sequence[str | dict[str, Any]],
    *,
    of: CleanAnswers | None = None,
    gradient: bool = True,
    levels: int = 256,
    count: int = 200,
) -> Scoring:
    """These outcomes of a battery's entries, ranked by such rows."""
    groups, answers = grouped(entries), of or clean()
    rows = []
    for said in ranked:
        row = ranked_row(RowSpec.model_validate(said), groups, TITLES)
        control = None
        lost = [
            lost_of(one, groups, results, answers, Levels(levels), gradient=gradient)
            for one in (row, *([row.model_copy(update={"entries": [row.control]})] if row.control else []))
        ]
        if row.control is not None:
            control = Control(TITLES[row.control], lost[1], passes(groups[row.control][0]))
        rows.append(Row(row, groups[row.entries[0]][0].task == "fool", lost[0], control))
    return Scoring(rows, answers, count, "hand")


def six(of: CleanAnswers | None = None, count: int = 200, **results: ShardResult | EntryFailure) -> Scoring:
    """All six attacks, each a row; nobody is fooled where nothing else is said."""
    entries = plan(*TITLED)
    nobody = {e.name: outcome([0] * 6, attacked=ATTACKED if e.task == "perturb" else None) for e in entries}
    return scoring(entries, nobody | results, SIX, of=of, count=count)


TITLED = tuple(row["name"] for row in SIX)
