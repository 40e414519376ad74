"""A Record as rich renderables and as plain text: the report that ends a run. Prints nothing; reads only the record."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ...leaderboard.record.battery import BatteryRef
from ...leaderboard.record.describe import declared_of, missed_of
from ...leaderboard.record.doubts import doubted, tally, told
from ...leaderboard.record.record import AttackResult, Measure, Record
from ...leaderboard.record.survival import survival_of
from ...leaderboard.record.words import (
    DASH,
    counts,
    duration,
    in_words,
    percent,
    printable,
    quantity,
    score,
    score_interval,
    share_interval,
    signed,
)
from .report_rows import ranked_rows
from .report_table import Section, bar

WIDTH = 120
"""Columns of the report where it is no terminal's."""


def render(record: Record, folder: Path | None = None) -> RenderableType:
    """The whole report: headline, attacks, settings, controls, transfer, the bare model, flags, where to look next."""
    parts: list[RenderableType] = [_headline(record), ranked_rows(record), _attacks(record)]
    parts += [
        part
        for part in (_beside(record), _settings(record), _difference(record), _transfer(record), _flags(record))
        if part
    ]
    parts.append(_ending(record, folder))
    return Group(*parts)


def text(record: Record, folder: Path | None = None) -> str:
    """The report as plain text: what `report.txt` holds, whatever terminal or notebook it is made in."""
    written = io.StringIO()
    plain = Console(
        file=written, width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False, _environ={}
    )
    plain.print(render(record, folder))
    return written.getvalue()


def _headline(record: Record) -> Panel:
    scores, battery = record.scores, record.battery
    lines = Text()
    lines.append("robust score   ", "bold")
    if scores.robust_score.value is None:
        lines.append(f"{DASH}  {scores.robust_score.reason}\n")
    else:
        lines.append(score(scores.robust_score), "bold red" if doubted(record.flags) else "bold green")
        lines.append(f" of 100   95% interval {score_interval(scores.robust_score)}\n")
    lines.append("survival       ", "bold")
    survival = record.scores.survival_score
    if survival.value is None:
        lines.append(f"{DASH}  {survival.reason}\n")
    else:
        lines.append(f"{score(survival)} of 100   {score_interval(survival)}, at the full budget\n")
    lines.append("clean accuracy ", "bold")
    lines.append(f"{_share(scores.clean_accuracy)}\n")
    if scores.clean_rejection.k:
        lines.append("clean rejected ", "bold")
        lines.append(f"{_share(scores.clean_rejection)}\n")
    lines.append("worst case     ", "bold")
    lines.append(_with(scores.worst_case, " survive the row that hurts most"))
    changing = sum(battery.task_of(row) == "perturb" for row in battery.ranked)
    every = {1: "the row", 2: "both rows"}.get(changing, f"all {in_words(changing)} rows")
    lines.append("all of Perturb ", "bold")
    lines.append(_with(scores.survives_all_perturb, f" of the images survive {every} on natural images"))
    if record.tau is not None:
        lines.append("τ              ", "bold")
        lines.append(f"{record.tau:.4g}: a fooling image must be this confident to count\n")
    if declared := declared_of(record):
        lines.append("declared       ", "bold")
        lines.append("; ".join(declared) + "\n")
    if record.flags:
        lines.append("flags          ", "bold")
        doubt = doubted(record.flags)
        lines.append(f"{tally(record.flags)}\n", "yellow")
        lines.append(f"               {doubt}: not ranked, see below\n" if doubt else "", "bold red")
    tier = "" if battery.tier == "standard" else f" · {battery.tier} tier"
    lines.rstrip()
    return Panel(
        lines,
        title=Text(printable(str(record.submission.get("name", "submission")), 70), "bold"),
        title_align="left",
        subtitle=f"{battery.name}{tier} · {battery.digest[:8]}",
        subtitle_align="right",
        padding=(1, 2),
    )


def _attacks(record: Record) -> Table:
    table = Section(
        "Attacks", "fooled: lower is better; 95% Wilson intervals; median queries to success", ("setting", "≥.99")
    )
    for name in ("attack", "setting"):
        table.add_column(name)
    for name in ("fooled", "k/n", "95%", "survival", "≥.99", "queries"):
        table.add_column(name, justify="right", no_wrap=True)
    clean = record.scores.clean_accuracy.value
    battery = record.battery
    for name in battery.counted:
        if name in record.attacks:
            _attack_row(table, _title(battery, name), record.attacks[name], clean)
    for name in battery.unranked:
        if name in record.attacks:
            _attack_row(table, _title(battery, name), record.attacks[name], clean, " (unranked)")
    for name, control in record.controls.items():
        _attack_row(table, _title(battery, name), control, None, " (control)")
    return table


def _title(battery: BatteryRef, name: str) -> str:
    """What people read for an attack or control of the battery; its name, where the battery does not know it."""
    return printable(battery.attacks[name].title if name in battery.attacks else name, 60)


def _beside(record: Record) -> Text | None:
    """What the table of attacks leaves out: why one was not measured, and what a search missed."""
    why: dict[str, list[str]] = {}
    for name, attack in record.attacks.items():
        if attack.fooling_ratio.value is None:
            why.setdefault(attack.fooling_ratio.reason or "not measured", []).append(_title(record.battery, name))
    lines = [f" {DASH} {_said(names, reason)}" for reason, names in why.items()]
    known = {n: said for n, a in record.attacks.items() if (said := missed_of(a)) is not None}
    lines += [f" {_title(record.battery, n)} {said}" for n, said in known.items()]
    return Text("\n".join(lines), "yellow") if lines else None


def _said(names: list[str], reason: str) -> str:
    """Why these were not measured; a reason that says "not run" says it all."""
    if reason.startswith("not run"):
        return f"{', '.join(names)}: {reason}"
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not measured: {reason}"


def _attack_row(table: Table, name: str, attack: AttackResult, clean: float | None, note: str = "") -> None:
    ratio, style = attack.fooling_ratio, "dim" if note else ""
    title, setting = Text(name + note), Text(attack.title, "dim")
    if attack.mode == "surrogate":
        setting = Text(f"by transfer, {attack.budget} sources", "yellow")
    if ratio.value is None:
        table.add_row(title, setting, DASH, style=style)
        return
    survival, flat = survival_of(attack, clean), attack.fooling_ratio_99
    table.add_row(
        title,
        setting,
        bar(ratio.value),
        counts(ratio),
        share_interval(ratio),
        DASH if survival is None else f"{percent(survival)}%",
        "" if flat is None or flat.value is None else f"{percent(flat.value)}%",
        quantity(attack.queries),
        style=style,
    )


def _settings(record: Record) -> Table | None:
    table = Section("Other settings", "shown beside the headline, not ranked", ("median size",))
    table.add_column("attack")
    table.add_column("setting")
    for name in ("fooled", "k/n", "95%", "median size"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in (*record.battery.counted, *record.battery.unranked):
        attack = record.attacks.get(name)
        title = _title(record.battery, name)
        for variant in attack.variants.values() if attack is not None else ():
            ratio = variant.fooling_ratio
            if ratio.value is None:
                continue
            size = "" if variant.median_size is None else _size(variant.median_size, variant.limit or "")
            table.add_row(title, variant.title, bar(ratio.value), counts(ratio), share_interval(ratio), size)
            title = ""
    return table if table.row_count else None


def _size(value: float, limit: str) -> str:
    return f"{value:.0f} px" if "pixel" in limit else f"ε {value:.3g}"


def _difference(record: Record) -> Table | None:
    if record.difference is None or record.bare is None:
        return None
    table = Section(
        "With the defenses, minus without", "paired: same images, same seeds; in points, with 95% intervals"
    )
    for name in ("", "bare model", "defended", "difference"):
        table.add_column(name, justify="left" if name == "" else "right")
    bare, full = record.bare.scores, record.scores
    rows: list[tuple[str, Measure, Measure, str, float]] = [
        ("clean accuracy", bare.clean_accuracy, full.clean_accuracy, "clean_accuracy", 100),
        ("robust score", bare.robust_score, full.robust_score, "robust_score", 1),
        ("survival score", bare.survival_score, full.survival_score, "survival_score", 1),
    ]
    for title, before, after, key, factor in rows:
        shown = [DASH if m.value is None else f"{m.value * factor:.1f}" for m in (before, after)]
        table.add_row(Text(title, "bold"), *shown, signed(record.difference[key], factor))
    for row in record.battery.ranked:
        if row.name in record.difference and row.name in record.bare.rows:
            pair = [part.rows[row.name].endurance for part in (record.bare, record)]
            shown = [DASH if m.value is None else f"{m.value * 100:.1f}" for m in pair]
            title = Text(f"endurance: {printable(row.title, 60)}")
            table.add_row(title, *shown, signed(record.difference[row.name], 100))
    return table


def _transfer(record: Record) -> Table | None:
    if not record.transfer:
        return None
    title = "Transfer, in %"
    table = Section(
        title, "images that fooled the one, tried on the other: panel → submission / submission → panel; any label"
    )
    models = list(dict.fromkeys(c.source for c in record.transfer if c.source != "submission"))
    table.add_column("attack")
    for model in models:
        table.add_column(Text(printable(model, 40)), justify="right", overflow="fold")
    cells = {(c.source, c.victim, c.attack): c.any_label for c in record.transfer}
    tried = {attack for _, _, attack in cells}
    for name in (*record.battery.counted, *record.battery.unranked):
        pairs = [(cells.get((m, "submission", name)), cells.get(("submission", m, name))) for m in models]
        if name in tried:
            told = [f"{_cell(there)} / {_cell(back)}" for there, back in pairs]
            table.add_row(Text(_title(record.battery, name)), *told)
    return table


def _cell(measure: Measure | None) -> str:
    return DASH if measure is None or measure.value is None else percent(measure.value)


def _flags(record: Record) -> RenderableType | None:
    if not record.flags:
        return None
    table = Table(
        box=None, show_header=False, padding=(0, 1), title="Flags", title_justify="left", title_style="bold yellow"
    )
    table.add_column(no_wrap=True, style="yellow")
    table.add_column(no_wrap=True)
    table.add_column()
    titles = {name: attack.title for name, attack in record.battery.attacks.items()}
    for row in told(record.flags, titles):
        doubt = row.kind == "doubt"
        table.add_row(Text(f"! {row.code}", "bold red" if doubt else "yellow"), row.kind, "\n".join(row.sentences))
    return table


def _ending(record: Record, folder: Path | None) -> Text:
    provenance = record.provenance
    text = Text()
    where = f"{provenance.backend} on {provenance.device}, {provenance.workers} workers"
    text.append(f"\n{where}, {duration(provenance.seconds)}\n", "dim")
    if not record.rankable:
        text.append(f"Not rankable: {record.unranked_reason}.\n", "yellow")
    if folder is not None:
        text.append("Record and evidence: ")
        text.append(f"{folder}/record.json, {folder}/evidence/\n")
        text.append("Next: ")
        text.append(f"foolbench leaderboard {folder} --out site", "bold")
    return text


def _with(measure: Measure, rest: str) -> str:
    return _share(measure) + ("" if measure.value is None else rest) + "\n"


def _share(measure: Measure) -> str:
    if measure.value is None:
        return f"{DASH}  {measure.reason}"
    interval = share_interval(measure)
    kn = f"{counts(measure)}, " if measure.n else ""
    return f"{percent(measure.value)}%  ({kn}{interval})"
