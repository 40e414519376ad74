"""The numbers that a board shows, each with its definition: table, methods page and downloads all read this list. What
is ranked, and in which words, is the battery's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..record.battery import BatteryRef, RankedRow
from ..record.record import Measure, Record
from ..record.words import in_words, printable, score, score_interval, share, share_interval

FOOL_TASKS = "classes × independent runs"


@dataclass(frozen=True)
class Column:
    """One number of a record."""

    key: str
    """In addresses, in the CSV and in the anchor on the methods page."""
    title: str
    definition: str
    denominator: str
    higher_is_better: bool
    kind: Literal["share", "score"]
    of: Callable[[Record], Measure]
    bootstrap: bool = True
    """Whether its interval is a bootstrap over tasks; else Wilson's, of a proportion."""

    def value(self, measure: Measure) -> str:
        """The number as the table shows it, without its unit."""
        return score(measure) if self.kind == "score" else share(measure)

    def interval(self, measure: Measure) -> str:
        """Its 95% interval as the table shows it; empty where there is none."""
        return score_interval(measure) if self.kind == "score" else share_interval(measure)


CLEAN = Column(
    "clean_accuracy",
    "Clean accuracy",
    "Share of unattacked evaluation images that the victim accepts and labels right.",
    "all evaluation images",
    True,
    "share",
    lambda r: r.scores.clean_accuracy,
    False,
)
REJECTED = Column(
    "clean_rejection",
    "Clean rejection",
    "Share of unattacked evaluation images that the victim rejects: its largest class probability does not exceed "
    "the probability it gives to “none of these”.",
    "all evaluation images",
    False,
    "share",
    lambda r: r.scores.clean_rejection,
    False,
)


@dataclass(frozen=True)
class Columns:
    """All numbers of one board."""

    kept: tuple[Column, ...]
    """Robust score, survival, worst case and clean accuracy: better high."""
    rows: tuple[Column, ...]
    """One for each ranked row, in the battery's order: its endurance, better high."""
    survives: Column

    @property
    def table(self) -> tuple[Column, ...]:
        """In the table, in its order."""
        return (*self.kept, *self.rows)

    @property
    def all(self) -> tuple[Column, ...]:
        """In downloads and on the methods page, in their order."""
        return (*self.table, self.survives, REJECTED)


def columns_of(battery: BatteryRef | None) -> Columns:
    """The columns of a battery's board, by its ranked rows. None: as they are told where there is no board yet."""
    ranked = battery.ranked if battery else []
    rows = tuple(_row(row, battery) for row in ranked) if battery else ()
    perturb = sum(battery.task_of(row) == "perturb" for row in ranked) if battery else 0
    return Columns((_score(len(ranked)), _survival(len(ranked)), _worst(len(ranked)), CLEAN), rows, _survives(perturb))


def keys_of(several: Sequence[Columns]) -> list[str]:
    """The keys of several boards' columns, each once, in the order of `Columns.all`."""
    first, rows = columns_of(None), dict.fromkeys(c.key for columns in several for c in columns.rows)
    return [*(c.key for c in first.kept), *rows, first.survives.key, REJECTED.key]


@dataclass(frozen=True)
class Definition:
    """A column as the methods page tells it."""

    column: Column
    anchor: str
    """`col-KEY`; with the name of a board behind it where an earlier board has the column in other words."""
    boards: tuple[str, ...]
    """The slugs of the boards that have it so."""


def definitions_of(several: Mapping[str, Columns]) -> list[Definition]:
    """Every column of the boards, by their slugs, once for each way in which it is told, in the order of
    `Columns.all`. Without boards, what any board shows."""
    made = []
    for key in keys_of(list(several.values())):
        told: dict[tuple[str, str, str], list[tuple[str, Column]]] = {}
        for slug, columns in (several or {"": columns_of(None)}).items():
            for column in columns.all:
                if column.key == key:
                    said = (column.title, column.definition, column.denominator)
                    told.setdefault(said, []).append((slug, column))
        for place, found in enumerate(told.values()):
            anchor = f"col-{key}-{found[0][0]}" if place else f"col-{key}"
            made.append(Definition(found[0][1], anchor, tuple(slug for slug, _ in found)))
    return made


def _row(row: RankedRow, battery: BatteryRef) -> Column:
    def of(record: Record) -> Measure:
        found = record.rows.get(row.name)
        return found.endurance if found else Measure(value=None, reason="no result in its record")

    titles = [printable(battery.attacks[name].title, 60) for name in row.entries]
    several = f" It counts {', '.join(titles)}: whichever gets there first." if len(titles) > 1 else ""
    if row.curve:
        how = (
            f"Endurance: the area under robust accuracy over ε from 0 to {row.curve[-1]:.3g}, as a share of that "
            "range; an image is lost at the smallest ε at which any of the attacks takes it."
        )
    else:
        how = (
            f"Endurance: log(q ÷ {row.first:,}) ÷ log({row.budget:,} ÷ {row.first:,}) for a task that was lost after q "
            "forward passes (a gradient is three), between 0 and 1; 1 for one that never was."
        )
        how += " Times clean accuracy." if battery.task_of(row) == "fool" else ""
        how += f" Why {row.first:,}: {row.reason}." if row.reason else ""
    ratio = battery.attacks[row.entries[0]].sentence
    own = f" Beside it, on an entry’s page, stands the fooling ratio of {titles[0]}: {ratio[:1].lower()}{ratio[1:]}"
    told = f"{how}{several}{own}"
    tasks = "all of its evaluation images" if battery.task_of(row) == "perturb" else FOOL_TASKS
    return Column(row.name, printable(row.title, 60), told, tasks, True, "share", of)


def _score(rows: int) -> Column:
    over = f"{in_words(rows)} rows" if rows > 1 else "ranked rows"
    return Column(
        "robust_score",
        "Robust score",
        f"The mean over the {over} of 100 × endurance: how long tasks hold out, from 0 (lost to what an attack tries "
        "before it has learned anything) to 1 (never lost). So a victim must be useful, safe and graded: one that "
        "rejects everything scores 0, and one that costs an attacker a hundred times more scores higher although both "
        "fall in the end. The interval is a bootstrap over tasks.",
        f"{over}, equal weights",
        True,
        "score",
        lambda r: r.scores.robust_score,
    )


def _survival(rows: int) -> Column:
    over = f"{in_words(rows)} rows" if rows > 1 else "ranked rows"
    return Column(
        "survival_score",
        "Survival",
        f"The mean over the {over} of 100 × survival at the full budget: robust accuracy on changed natural images, "
        "and clean accuracy × (1 − fooling ratio) on images of nothing. The interval is a bootstrap over tasks.",
        f"{over}, equal weights",
        True,
        "score",
        lambda r: r.scores.survival_score,
    )


def _worst(rows: int) -> Column:
    lowest = f"lowest of the {in_words(rows)} survivals" if rows > 1 else "lowest survival"
    return Column(
        "worst_case",
        "Worst case",
        f"The {lowest}: what is left under the row that hurts this victim most.",
        "that row’s own",
        True,
        "share",
        lambda r: r.scores.worst_case,
    )


def _survives(attacks: int) -> Column:
    title, none, ran = "Survives all", "no ranked row on natural images", "all of them"
    if attacks == 2:
        title, none, ran = "Survives both", "neither of the two rows on natural images", "both"
    elif attacks > 2:
        number = in_words(attacks)
        title, none = f"Survives all {number}", f"none of the {number} rows on natural images"
        ran = f"all {number}"
    return Column(
        "survives_all_perturb",
        title,
        f"Share of images that the victim gets right and that {none} changed.",
        f"evaluation images that {ran} were run on",
        True,
        "share",
        lambda r: r.scores.survives_all_perturb,
        False,
    )


FLAGS = {
    "randomised": "Two identical queries got different answers, so each final image was judged ten times.",
    "zero_gradient": "The input gradient vanishes on part of the images; attacks that follow it are blind there.",
    "misdeclared": "A defense says something of itself that is not so: that nothing in it is random, that it rejects "
    "nothing, or that its gradient is exact. Attacks adapt to what is said.",
    "masking": "An attack without gradients, or with another model’s, does better than the victim’s own gradient; or "
    "FGSM does less with a larger ε, or does not bring the victim down to chance with any. The gradient misleads, and "
    "the white-box numbers overstate the robustness.",
    "single_step": "Many steps of the gradient fool what a single step leaves, beyond the intervals: one step alone "
    "says little of robustness. The row over ε counts the stronger.",
    "stateful": "An answer depends on what was asked before, or on what shares its batch.",
    "memorised": "The victim does better on the evaluation images than on images that it cannot know.",
    "recognition": "The victim tells the attacks’ first images from others of the same kind, or their kinds from other "
    "nonsense.",
    "withheld": "The answers tell hardly more than a label, which blinds a search and makes nothing safe.",
    "not_converged": "The last tenth of the budget still gained more than the interval: more budget would fool more.",
    "surrogate": "The victim could not be differentiated, so white-box numbers come from images made on other models "
    "or along finite differences.",
    "rejects_clean": "The victim rejects more than 5% of clean images.",
    "saturated": "The victim is so sure of clean images that τ is 1.0 in float32; a fooling image must be as sure.",
    "underconfident": "The victim is far better than chance and hardly surer than chance: the reading at 99% is void, "
    "that at τ counts.",
    "gradient_mismatch": "The differentiable copy of the model and the submission’s own answers disagree.",
}
"""What each flag means; an entry's page adds that entry's own evidence."""
