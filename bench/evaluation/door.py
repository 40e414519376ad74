"""What `evaluate` and the command line let in: every argument checked before any work, all that is wrong told at once.

Legal words stand in the types alone (`DeviceName`, `Backend`, `Tier`, `Output`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch

from ...models.head import Output
from ...models.preprocess import Preprocess
from ..battery.battery import Battery
from ..choices import Tier
from ..errors import InvalidInput, Problem
from ..reading.arguments import count, is_path, new_folder, word, wrong
from ..reading.values import is_text
from ..submission.submission import GivenSubmission

TOLD = ("begin", "shard", "finished", "end", "say")
"""The methods of a Progress."""


def refuse(problems: list[Problem]) -> None:
    """Raise InvalidInput with these Problems, where there are any."""
    if problems:
        raise InvalidInput(*problems)


def check_out(out: Path | None) -> None:
    """Raise InvalidInput where a run's folder cannot be one, before anything is loaded."""
    refuse([] if out is None else new_folder("out", out))


def call_problems(
    subject: object, battery: object, tier: object, out: object, progress: object, modules_only: Mapping[str, object]
) -> list[Problem]:
    """What is wrong with the arguments of `evaluate` that are no Execution, as far as it shows without a file."""
    return [
        *_subject(subject),
        *_battery(battery, tier),
        *([] if out is None else _out(out)),
        *([] if progress is None else _progress(progress)),
        *(_of_module(modules_only) if isinstance(subject, torch.nn.Module) else _not_of_module(subject, modules_only)),
    ]


def _subject(subject: object) -> list[Problem]:
    if isinstance(subject, torch.nn.Module | GivenSubmission):
        return []
    wanted = "the path of a submission.yaml, what read_submission returned, or a torch.nn.Module"
    if isinstance(subject, type) and issubclass(subject, torch.nn.Module):
        return [wrong("subject", wanted, subject, f"make one of it: {subject.__name__}(…)")]
    if is_path(subject):
        file = Path(subject)
        if file.suffix.lower() != ".onnx":
            return []
        fix = f"write a submission.yaml beside it, with `model: {{kind: onnx, path: {file.name}, …}}`, and name that"
        return [wrong("subject", wanted, file, fix)]
    fix = "wrap it in a torch.nn.Module" if callable(subject) else 'subject="submission.yaml"'
    return [wrong("subject", wanted, subject, fix)]


def _battery(battery: object, tier: object) -> list[Problem]:
    found = word("tier", tier, get_args(Tier))
    if battery is None or is_path(battery):
        return found
    if not isinstance(battery, Battery):
        wanted = "a battery's name, the path of its YAML file, or what read_battery returned"
        return [*found, wrong("battery", wanted, battery, 'battery="digits-v1"')]
    if not found and tier == "smoke" != battery.tier:  # "standard" may be the default: nobody asked for it
        fix = f'read_battery("{battery.spec.name}", tier="smoke")'
        got = f"one that was read at the {battery.tier} tier"
        found = [wrong("battery", 'a battery at the tier "smoke"', battery, fix, got=got)]
    return found


def _out(out: object) -> list[Problem]:
    if is_path(out):
        return new_folder("out", Path(out))
    return [wrong("out", "the path of a folder", out, 'out="runs/mine"')]


def _progress(progress: object) -> list[Problem]:
    if not isinstance(progress, type) and all(callable(getattr(progress, name, None)) for name in TOLD):
        return []
    fix = "leave it out, or see foolbench.bench.running.progress.Progress"
    return [wrong("progress", f"an object with the methods {', '.join(TOLD)}", progress, fix)]


def _of_module(given: Mapping[str, object]) -> list[Problem]:
    name, preprocess, output, reject = (given[key] for key in ("name", "preprocess", "output", "reject_index"))
    found: list[Problem] = []
    if name is not None and not is_text(name):
        found.append(wrong("name", "1 to 120 printable characters", name, 'name="my network"'))
    if preprocess is not None and not isinstance(preprocess, Preprocess):
        fix = "preprocess=foolbench.models.preprocess.Preprocess(mean=(0.5,), std=(0.5,)), with your own values"
        found.append(wrong("preprocess", "a Preprocess", preprocess, fix))
    if output is not None:
        found += word("output", output, get_args(Output), {"softmax": "probabilities", "scores": "logits"})
    return found if reject is None else [*found, *count("reject_index", reject, 0)]


def _not_of_module(subject: object, given: Mapping[str, object]) -> list[Problem]:
    """A submission says these itself."""
    if not (is_path(subject) or isinstance(subject, GivenSubmission)):
        return []  # whatever it was meant to be
    where = {"name": "name", "preprocess": "model.input", "output": "model.output"}
    return [
        wrong(key, "nothing beside a submission, which says this itself", value, fix)
        for key, value in given.items()
        if value is not None
        for fix in [f"leave it out, and write `{where.get(key, f'model.{key}')}` in the submission.yaml"]
    ]
