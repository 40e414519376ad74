"""Tables of the report: a heading that may be wider than the table, columns that a narrow terminal does without."""

from __future__ import annotations

from copy import copy

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ...leaderboard.record.words import percent

WIDE = 112
"""Columns of a terminal that shows every column of every table."""


class Section(Table):
    """A table under a heading that may be wider than itself."""

    def __init__(self, title: str, caption: str, spare: tuple[str, ...] = ()):
        super().__init__(box=None, padding=(0, 1), header_style="underline")
        self.heading, self.spare = Text(f"\n{title}", "bold"), spare
        self.heading.append(f"  {caption}", "dim not bold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """On a narrow terminal it does without the columns in `spare`."""
        yield self.heading
        shown = copy(self)
        if options.max_width < WIDE:
            shown.columns = [column for column in self.columns if column.header not in self.spare]
        yield from Table.__rich_console__(shown, console, options)


def bar(value: float) -> Text:
    """A share as a bar of five blocks and a number, red where it is high."""
    full = round(value * 5)
    text = Text("█" * full + "·" * (5 - full), "red" if value > 0.5 else "yellow" if value > 0.1 else "green")
    return text.append(f" {percent(value):>5}%", "bold")
