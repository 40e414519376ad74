"""What an entry's page shows beyond the record's own fields: tables cut from it, ready for the template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import JsonValue

from ..record.battery import BatteryRef
from ..record.describe import missed_of
from ..record.record import AttackResult, Measure, Record, TransferCell
from ..record.rows import RankedRow, RowResult
from ..record.survival import survival_of
from ..record.words import percent, printable, quantity
from .charts import Line, fooled_by


@dataclass(frozen=True)
class Attacked:
    """One attack of the battery, and what it did to this victim."""

    title: str
    ranked: bool
    attack: AttackResult | None
    """None: the record holds no result of it."""
    survival: float | None
    """0 to 1."""
    package: str | None
    """The installed package that the attack comes from; None: foolbench itself."""
    missed: str | None
    """What it missed of what is there, in words; None where that is not known."""


def attacked(record: Record, battery: BatteryRef) -> list[Attacked]:
    """The battery's attacks, those that its rows count first; controls are none of them."""
    names = [*((name, True) for name in battery.counted), *((name, False) for name in battery.unranked)]
    return [
        Attacked(
            printable(battery.attacks[name].title, 60),
            is_ranked,
            record.attacks.get(name),
            _survival(record, name),
            battery.attacks[name].package,
            missed_of(record.attacks[name]) if name in record.attacks else None,
        )
        for name, is_ranked in names
    ]


def _survival(record: Record, name: str) -> float | None:
    attack = record.attacks.get(name)
    return None if attack is None else survival_of(attack, record.scores.clean_accuracy.value)


@dataclass(frozen=True)
class Ranked:
    """A ranked row as its table shows it."""

    title: str
    counted: str
    """Its attacks, in words."""
    over: str
    """What endurance is measured over."""
    result: RowResult | None
    took: str
    """How many tasks were lost, and which attacks took them."""


def ranked_of(record: Record, battery: BatteryRef) -> list[Ranked]:
    """The ranked rows, in the battery's order."""
    titles = titles_of(battery)
    made = []
    for row in battery.ranked:
        result = record.rows.get(row.name)
        counted = ", ".join(titles[name] for name in row.entries)
        made.append(Ranked(printable(row.title, 60), counted, _over(row), result, _took(record, row, titles)))
    return made


def _over(row: RankedRow) -> str:
    if row.curve:
        return f"ε 0 to {quantity(row.curve[-1])}, survival at {quantity(row.epsilon)}"
    return f"{row.first:,} to {row.budget:,} passes"


def _took(record: Record, row: RankedRow, titles: Mapping[str, str]) -> str:
    result = record.rows.get(row.name)
    if result is None or not result.tasks:
        return ""
    attacks = {setting: name for name in row.entries for setting in (name, *_settings(record, name))}
    by = [titles.get(attacks.get(setting, setting), setting) for setting in result.by if setting is not None]
    told = f"{len(by)} of {sum(result.counts) if result.counts else len(result.tasks)}"
    if len(row.entries) == 1 or not by:
        return told
    each = sorted(dict.fromkeys(by), key=lambda title: (-by.count(title), title))
    return f"{told}: {', '.join(f'{printable(title, 60)} {by.count(title)}' for title in each)}"


def _settings(record: Record, name: str) -> tuple[str, ...]:
    attack = record.attacks.get(name)
    return () if attack is None else tuple(attack.variants)


def titles_of(battery: BatteryRef) -> dict[str, str]:
    """What people read for each of the battery's attacks and controls, by name."""
    return {name: printable(attack.title, 60) for name, attack in battery.attacks.items()}


@dataclass(frozen=True)
class Matrix:
    """One direction of transfer: rows are models, columns attacks."""

    title: str
    head: str
    attacks: tuple[str, ...]
    rows: tuple[tuple[str, tuple[TransferCell | None, ...]], ...]


def transfer_of(record: Record, battery: BatteryRef) -> list[Matrix]:
    """The panel's images on this victim, and this victim's images on the panel; attacks in the battery's order. The
    victim is the one name that stands in every cell."""
    cells, order = record.transfer or [], (*battery.counted, *battery.unranked)
    if not cells:
        return []
    common = set.intersection(*({c.source, c.victim} for c in cells))
    if len(common) == 1:
        me = common.pop()
        incoming = [c for c in cells if c.victim == me]
        outgoing = [c for c in cells if c.victim != me]
        return [
            *_matrix("The panel’s images on this victim", "made on", incoming, "source", order),
            *_matrix("This victim’s images on the panel", "shown to", outgoing, "victim", order),
        ]
    pairs = [c.model_copy(update={"source": f"{c.source} → {c.victim}"}) for c in cells]
    return _matrix("Transfer", "made on → shown to", pairs, "source", order)


def _matrix(title: str, head: str, cells: list[TransferCell], by: str, order: Sequence[str]) -> list[Matrix]:
    if not cells:
        return []
    names = list(dict.fromkeys(getattr(c, by) for c in cells))
    place = {name: i for i, name in enumerate(order)}
    attacks = tuple(sorted({c.attack for c in cells}, key=lambda a: (place.get(a, len(order)), a)))
    at = {(getattr(c, by), c.attack): c for c in cells}
    rows = tuple((printable(n), tuple(at.get((n, a)) for a in attacks)) for n in names)
    return [Matrix(title, head, attacks, rows)]


def heat(measure: Measure) -> str:
    """The class that shades a cell: heat-0 to heat-9, or heat-none."""
    return "heat-none" if measure.value is None else f"heat-{min(9, int(measure.value * 10))}"


def curve_table(lines: Sequence[Line]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The table twin of the curves: the share fooled (%) within 10, 100, ... queries, and within the whole budget."""
    drawn = [(line.title, line.attack) for line in lines if line.attack.curve and line.attack.fooling_ratio.n]
    if not drawn:
        return [], []
    most = max(attack.budget for _, attack in drawn)
    stops = [10**d for d in range(1, len(str(most))) if 10**d < most]
    rows = []
    for title, attack in drawn:
        cells = ["" if (y := fooled_by(attack, x)) is None else percent(y) for x in stops]
        rows.append((title, [*cells, percent(attack.curve[-1][1] / (attack.fooling_ratio.n or 1))]))
    return [*(f"{x:,}" for x in stops), "budget"], rows


@dataclass(frozen=True)
class Compared:
    """One line of the paired comparison with the bare model."""

    title: str
    bare: float | None
    defended: float | None
    difference: Measure
    is_score: bool


def compared(record: Record, battery: BatteryRef) -> list[Compared]:
    """Clean accuracy, scores and each row's endurance, without and with the defenses."""
    bare, difference = record.bare, record.difference
    if bare is None or difference is None:
        return []
    rows, titles = [], {row.name: printable(row.title, 60) for row in battery.ranked}
    for key, measure in difference.items():
        if key in titles:
            pair = [part.rows[key].endurance.value if key in part.rows else None for part in (bare, record)]
            rows.append(Compared(f"Endurance: {titles[key]}", pair[0], pair[1], measure, False))
            continue
        one, two = getattr(bare.scores, key, None), getattr(record.scores, key, None)
        title = key.replace("_", " ").capitalize()
        values = [m.value if isinstance(m, Measure) else None for m in (one, two)]
        rows.append(Compared(title, values[0], values[1], measure, key.endswith("_score")))
    return sorted(rows, key=lambda r: (not r.is_score, r.title.startswith("Endurance")))


_PROPERTIES = {
    "images": ("All four", "images measured"),
    "local_ratio": ("Local", "strongest window over the median window"),
    "local_range": ("Local", "orders of magnitude between the strongest and the weakest window"),
    "spatial_range": ("Spatial", "orders of magnitude by which one patch’s response varies with its position"),
    "threshold": ("Activation–inhibition", "threshold that pixel-shuffled patches set (|Δ ln p|)"),
    "activators": ("Activation–inhibition", "share of measured positions where it activates beyond the threshold"),
    "inhibitors": ("Activation–inhibition", "share of measured positions where it inhibits beyond the threshold"),
    "correlation": ("Cumulative", "rank correlation of copies and response, best positions"),
    "correlation_random": ("Cumulative", "rank correlation of copies and response, random positions"),
    "gain": ("Cumulative", "response with all copies over one copy, best positions"),
    "gain_random": ("Cumulative", "response with all copies over one copy, random positions"),
    "falls": ("Cumulative", "images where copies lower the response, best positions"),
    "falls_random": ("Cumulative", "images where copies lower the response, random positions"),
}


def properties_of(properties: Mapping[str, JsonValue] | None) -> list[tuple[str, str, str]]:
    """`(property, what, numbers)` of the measured properties; keys that are not known are shown as they are."""
    rows = []
    for key, value in (properties or {}).items():
        group, what = _PROPERTIES.get(key, ("", key.replace("_", " ")))
        if told := _told(value):
            rows.append((group, what, told))
    order = list(_PROPERTIES)
    return sorted(rows, key=lambda r: next((i for i, k in enumerate(order) if _PROPERTIES[k] == r[:2]), 99))


def _told(value: JsonValue) -> str:
    if isinstance(value, dict):
        if "median" in value:
            if value["median"] is None:
                return f"— {printable(str(value.get('reason') or 'not defined on any image'))}"
            text = f"median {_number(value['median'])}"
            if value.get("q25") is not None:
                text += f", quartiles {_number(value['q25'])} to {_number(value.get('q75'))}"
            return f"{text} ({_number(value['n'])} images)" if "n" in value else text
        if value.get("n") and "k" in value:
            return f"{_number(value['k'])} of {_number(value['n'])}"
        return ", ".join(
            f"{printable(str(k))} {_number(v)}" for k, v in value.items() if not isinstance(v, dict | list)
        )
    return "" if isinstance(value, list) else _number(value)


def _number(value: JsonValue) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "—" if value is None else printable(str(value))
    return quantity(value).replace("-", "−")


_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def submission_yaml(submission: Mapping[str, Any]) -> str:
    """The submission as given, as YAML again; marks that turn the reading direction are made visible."""
    text = yaml.safe_dump(dict(submission), sort_keys=False, allow_unicode=True, width=100)
    return _BIDI.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def curves_of(record: Record, battery: BatteryRef) -> list[tuple[str, str, list[Line]]]:
    """`(id, title, lines)` for each task: the attacks that the record holds, each with its place in the battery."""
    titles = titles_of(battery)
    lines = [
        (battery.attacks[name].task, Line(name, titles[name], record.attacks[name], place))
        for place, name in enumerate((*battery.counted, *battery.unranked))
        if name in record.attacks
    ]
    groups = (("fool", "Images of nothing, taken for a class"), ("perturb", "Changed natural images"))
    return [(key, title, [line for task, line in lines if task == key]) for key, title in groups]
