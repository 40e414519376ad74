"""A probe in the terminal: every number with a line that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...leaderboard.record.words import DASH, plural, quantity
from ...leaderboard.site.probed import REPEATED
from ..probe.record import ProbeRecord, RepeatedInstances

_PROPERTIES = (
    ("Local", "local_ratio", "the strongest window alone on the mean image, over the median window"),
    ("", "local_range", "orders of magnitude between the strongest and the weakest window"),
    ("Spatial", "spatial_range", "orders of magnitude by which the strongest window's p varies with its position"),
    ("Activation–inhibition", "activators", "share of measured positions on another image that raise p beyond chance"),
    ("", "inhibitors", "share of measured positions that lower p beyond chance"),
    ("", "threshold", "|change of ln p| that counts as chance: what its pixels in random order do"),
    ("Cumulative", "gain", "p with all copies over p with one, at the best positions"),
    ("", "gain_random", "the same at random positions"),
    ("", "correlation", "rank correlation of copies and p, best positions: 1 always rises, -1 always falls"),
    ("", "correlation_random", "the same at random positions"),
    ("", "falls", "images where all copies make less of p than one, best positions"),
    ("", "falls_random", "the same at random positions"),
)


def render(record: ProbeRecord, folder: Path) -> RenderableType:
    """The report of a probe that lies in `folder`."""
    shown = ", ".join(str(image.image) for image in record.images[:12]) + (" …" if len(record.images) > 12 else "")
    head = Text(f"{record.name}", "bold")
    head.append(f" on {record.battery}: {plural(len(record.images), 'image')} ({shown})\n", "not bold")
    head.append("p is the probability of each image's own class; numbers are medians [quartiles] over images.", "dim")
    parts: list[RenderableType] = [head, _properties(record)]
    parts += [_repeated(found) for found in record.repeated_instances]
    parts.append(Text(f"\n{folder}/probe.json and {plural(len(record.files), 'picture')}: {_kinds(record.files)}"))
    return Group(*parts)


def _properties(record: ProbeRecord) -> Table:
    table = _table("How it responds to patches", "after Ouarti & Carmona 2018, reconstructed")
    table.add_column("property", no_wrap=True)
    table.add_column("", justify="right")
    table.add_column("")
    for title, key, meaning in _PROPERTIES:
        found = record.summary[key]
        said = Text(meaning, "dim")
        if reason := found.get("reason"):
            said = Text(f"not measured: {reason}", "yellow")
        elif 0 < found["n"] < len(record.images):
            said.append(f" ({found['n']} of {len(record.images)} images)")
        table.add_row(Text(title, "bold"), _told(found), said)
    return table


def _repeated(found: RepeatedInstances) -> Table:
    table = _table(
        f"Repeated instances, {plural(len(found.images), 'image')} of {found.attack}",
        f"{found.source}; after Nguyen 2015, whose test was by hand: reconstructed",
    )
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")
    if found.summary is None:
        table.add_row(DASH, Text(f"not measured: {found.reason}", "yellow"))
        return table
    for key, meaning in REPEATED if found.summary["repeats"]["k"] else REPEATED[:2]:
        table.add_row(_told(found.summary[key]), Text(meaning, "dim"))
    return table


def _told(value: Mapping[str, Any]) -> str:
    if "median" in value:
        if value["median"] is None:
            return DASH
        low, middle, high = (quantity(value[key]).replace("-", "−") for key in ("q25", "median", "q75"))
        return f"{middle} [{low}, {high}]"
    return f"{value['k']} of {value['n']}" if value["n"] else DASH


def _kinds(files: list[str]) -> str:
    kinds = list(dict.fromkeys(name.removesuffix(".png").split("-")[0] for name in files))
    said = {"maps": "maps of each image", "added": "copies added", "removed": "copies removed", "motif": "motifs"}
    return ", ".join(said[kind] for kind in kinds)


def _table(title: str, caption: str) -> Table:
    heading = Text(f"\n{title}", "bold")
    heading.append(f"  {caption}", "dim not bold")
    return Table(title=heading, title_justify="left", box=None, padding=(0, 1), show_header=False, title_style="")
