"""Rows of defenses.py that say whether a planted false defense is caught, and whether an honest one is left alone."""

from __future__ import annotations

from pathlib import Path

from defenses_models import Model, write_submission
from defenses_rows import Row, Setting, blank_row, compared_row
from foolbench.bench.battery.battery import Battery
from foolbench.bench.battery.ground import Execution, Ground
from foolbench.bench.errors import InvalidInput, ModelFailure
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.machine.device import choose
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import Subject, subject_of
from foolbench.leaderboard.record.doubts import doubted
from foolbench.leaderboard.record.record import Record
from planted_cases import CASES, Case

CASE = {case.name: case for case in CASES}


def row_of_case(case: Case, model: Model, setting: Setting, folder: Path) -> Row:
    """Measure one case beside the bare network. Raises FoolbenchError, and Absent for a file that is not there.

    A false defense is caught by a doubt; by its score, whose difference from the bare network's has an interval that
    reaches down to 0; or by being refused. `false_alarm` says whether an honest one is in doubt.
    """
    battery = setting.battery_of(model)
    ground = Ground(battery, battery.load(), choose(setting.device))
    told = {"planted": not case.honest}
    try:
        subject = case.subject(ground, folder / "case")
        record = _evaluated(subject, setting, battery)
    except (InvalidInput, ModelFailure) as error:
        if case.honest:
            raise
        refused = "refused: " + ", ".join(problem.code for problem in error.problems)
        return blank_row(case.name, model, setting, refused) | told | {"caught": True, "caught_by": refused}
    bare = record.bare or _evaluated(
        subject_of(read_submission(write_submission(model, None, folder / "bare"))), setting, battery
    )
    row = compared_row(case.name, model, record, bare) | told
    doubt = doubted(record.flags)
    if case.honest:
        return row | {"false_alarm": doubt is not None, "caught_by": doubt}
    reaches = row["low"] is not None and row["low"] <= 0
    by = [*([doubt] if doubt else []), *(["its score reaches the bare network's"] if reaches else [])]
    return row | {"caught": bool(by), "caught_by": "; ".join(by) or None}


def _evaluated(subject: Subject, setting: Setting, battery: Battery) -> Record:
    # One worker: what a victim that counts answers depends on the order of what it is asked.
    return evaluate_subject(
        subject, battery, Execution(setting.device, 1), out=setting.out, progress=setting.progress
    ).record
