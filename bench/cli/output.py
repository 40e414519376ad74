"""What commands show while they work and print when they are done. Imports rich and torch only on use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .screen import Interrupted, Signals, leave, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from ..battery.battery import Battery
    from ..evaluation.estimate import Estimate
    from ..evaluation.finished import Run
    from ..running.progress import Progress
    from ..victim.assemble import Subject

WIDTH = 120
"""Columns of what is written to a file or a pipe."""


def console() -> Console:
    """Stdout; as wide as the terminal, if it is one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH)


@contextmanager
def progress_shown(kind: str, signals: Signals, as_json: bool = False) -> Iterator[Progress]:
    """A display of the progress that ends with the work, however that ends; interrupted, it tells how far it got."""
    from rich.console import Console

    from .live import progress_of

    signals.again()
    display = progress_of(kind, Console(stderr=True))
    try:
        yield display
    except Interrupted:
        display.end()
        leave(f"Stopped{getattr(display, 'so_far', str)()}", signals.exit_code, as_json)
    finally:
        display.end()


def print_run(run: Run, as_json: bool) -> None:
    """Print the report, or the record as JSON."""
    from ..evaluation.report import render

    if as_json:
        record = run.record.model_dump(mode="json", by_alias=True)
        print_json({"schema": 1, "folder": str(run.folder), "record": record})
    else:
        console().print(render(run.record, run.folder))


def print_estimate(cost: Estimate, subject: Subject, battery: Battery, as_json: bool) -> None:
    """What --dry-run tells."""
    from ..evaluation.estimate import table

    if as_json:
        print_json({"schema": 1, **plain(asdict(cost)), "seconds": cost.seconds})
    else:
        console().print(table(cost, subject, battery))


def plain(value: Any) -> Any:
    """As JSON values; what JSON does not know as text."""
    return json.loads(json.dumps(value, default=str))
