"""A finished evaluation, and what it shows of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...leaderboard.record.record import Record
from ...leaderboard.record.words import printable


@dataclass(frozen=True, repr=False)
class Run:
    """A finished evaluation: `print(run)` is its report, and a notebook shows it as a table."""

    record: Record
    """Every number of the run, task by task; what `record.json` holds."""
    folder: Path
    """Where the record, the report, the evidence and the finished shards lie."""

    @property
    def failures(self) -> dict[str, str]:
        """Attacks that were not measured, and why. A run with any is partial and cannot be ranked."""
        attacks = self.record.attacks
        failed = [name for name, attack in attacks.items() if not attack.tasks and not attack.needless]
        return {name: attacks[name].fooling_ratio.reason or "" for name in failed}

    def __repr__(self) -> str:
        """One line: what was measured, its two first scores, and where it lies."""
        record = self.record
        name = printable(str(record.submission.get("name", "submission")), 70)
        tier = "" if record.battery.tier == "standard" else f" ({record.battery.tier} tier)"
        scores = f"robust score {record.scores.robust_score}, clean accuracy {record.scores.clean_accuracy}"
        return f"<Run of {name!r} on {record.battery.name}{tier}: {scores}, in {self.folder}>"

    def __str__(self) -> str:
        """The report, as it stands in `report.txt`."""
        from .report import text  # on use: it brings rich

        return text(self.record, self.folder).rstrip("\n")

    def _repr_html_(self) -> str:
        """What a notebook shows: one self-contained piece of HTML without scripts."""
        from .notebook import html

        return html(self.record, self.folder)
