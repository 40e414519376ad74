"""What `foolbench harden` shows while it works, on stderr, and what it prints when it is done. rich on use."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .screen import Interrupted, Signals, leave, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from ..harden.harden import Hardened
    from ..harden.steps import Row, Step

EVERY = 30.0
"""Seconds between two plain lines of a phase that is at work."""


class Quiet:
    """Counts only."""

    def __init__(self) -> None:
        self.steps: Sequence[Step] = ()
        self.done = 0

    def begin(self, steps: Sequence[Step], done: int) -> None:
        """See StepProgress."""
        self.steps, self.done = steps, done

    def share(self, done: float) -> None:
        """See StepProgress."""

    def finished(self, step: Step, row: Row) -> None:
        """See StepProgress."""
        self.done += 1

    def end(self) -> None:
        """The work is over, however it ended."""

    def so_far(self) -> str:
        """What to say after "Stopped"."""
        if not self.steps or self.done == len(self.steps):
            return ""
        at = self.steps[self.done]
        return f" at {100 * self.done // len(self.steps)}% ({at.phase}, {at.title}; {self.done} steps saved)"


class Lines(Quiet):
    """One line when a phase ends, and one every 30 seconds while it works."""

    def begin(self, steps: Sequence[Step], done: int) -> None:
        """See StepProgress."""
        super().begin(steps, done)
        self.told = time.monotonic()
        found = f", {done} of them done before" if done else ""
        self._say(f"{len(steps)} steps{found}")

    def finished(self, step: Step, row: Row) -> None:
        """See StepProgress."""
        super().finished(step, row)
        last = self.done == len(self.steps) or self.steps[self.done].phase != step.phase
        if last or "epoch" not in step.title or time.monotonic() - self.told >= EVERY:
            self.told = time.monotonic()
            self._say(f"{self.done}/{len(self.steps)} {step.phase}, {step.title}: {said(row)}")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bar(Quiet):
    """A bar for the whole, with what the last step said."""

    def __init__(self, console: Console):
        super().__init__()
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", style="dim"),
            console=console,
        )

    def begin(self, steps: Sequence[Step], done: int) -> None:
        """See StepProgress."""
        super().begin(steps, done)
        self.task = self.bar.add_task(self._title(), total=len(steps), completed=done, said="")
        self.bar.start()

    def share(self, done: float) -> None:
        """See StepProgress."""
        self.bar.update(self.task, completed=done)

    def finished(self, step: Step, row: Row) -> None:
        """See StepProgress."""
        super().finished(step, row)
        self.bar.update(self.task, completed=self.done, description=self._title(), said=said(row))

    def end(self) -> None:
        """See Quiet."""
        self.bar.stop()

    def _title(self) -> str:
        if self.done >= len(self.steps):
            return "done"
        step = self.steps[self.done]
        return f"{step.phase}, {step.title}"


@contextmanager
def harden_progress(kind: str, signals: Signals, as_json: bool) -> Iterator[Quiet]:
    """A display of the given kind that ends with the work; interrupted, it tells how far it got."""
    from rich.console import Console

    signals.again()
    console = Console(stderr=True)
    if kind == "auto":
        kind = "rich" if console.is_terminal and not console.is_dumb_terminal else "plain"
    display = Bar(console) if kind == "rich" else Lines() if kind == "plain" else Quiet()
    try:
        yield display
    except Interrupted:
        display.end()
        leave(f"Stopped{display.so_far()}", signals.exit_code, as_json)
    finally:
        display.end()


def said(row: Row) -> str:
    """A step's line in words: its numbers, how many fooling images were confident, and which images it is about."""
    found = []
    for key, value in row.items():
        if isinstance(value, float) and key not in ("seconds", "flat_confidence"):
            found.append(f"{key.replace('_', ' ')} {value:.3g}")
        elif isinstance(value, dict) and "at_flat" in value:
            cell = value["at_flat"]
            found.append(f"{key} fools {cell['fooled']}/{cell['of']} at {100 * row['flat_confidence']:g}%")
    return ", ".join(found) + (f" on {row['on']}" if "on" in row else "")


def print_hardened(done: Hardened, as_json: bool) -> None:
    """What was made, what it is worth on held-out images, and how to evaluate it."""
    submission = done.folder / "submission.yaml"
    if as_json:
        print_json({"schema": 1, "folder": str(done.folder), "submission": str(submission), "log": done.log})
        return
    log, measured = done.log, done.log["submission"]
    lines = [f"{log['start']['title']}, {log['title']}; {log['battery']['name']}, seed {log['seed']}"]
    held = log["images"]["held_out"]
    lines.append(f"On {held} training images that the recipe did not train on, fit to or choose by:")
    lines += [f"  {title:<34}{measured[key]:.3f}" for key, title in _titles(log) if measured.get(key) is not None]
    lines += _fooled(log["steps"])
    lines += [f"Written: {submission}", f"Next:    foolbench evaluate {submission}"]
    print("\n".join(lines))


def _titles(log: dict[str, Any]) -> list[tuple[str, str]]:
    at = f"at {log['epsilon']:.3g}"
    return [
        ("clean_accuracy", "clean accuracy"),
        ("clean_rejected", "clean images rejected"),
        ("fgsm_fooled", f"fooled by FGSM {at}"),
        ("pgd_fooled", f"fooled by PGD {at}, 40 steps"),
    ]


def _fooled(steps: list[dict[str, Any]]) -> list[str]:
    """A line for each round of fooling images."""
    lines = []
    for row in steps:
        if "evolution" in row and "at_flat" in row["evolution"]:
            cells = [(name, row[name]["at_flat"]) for name in ("evolution", "cppn")]
            said = ", ".join(f"{name} {cell['fooled']}/{cell['of']}" for name, cell in cells)
            lines.append(f"  {row['phase']} is fooled at {100 * row['flat_confidence']:g}% by {said}")
    return lines
