"""`evaluate` for Python: a submission's path, a submission that was read, or a torch module."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ...models.choices import Backend
from ...models.head import Output
from ...models.preprocess import Preprocess
from ..battery.battery import Battery, read_battery
from ..battery.ground import Execution, execution_problems
from ..choices import DeviceName, Tier
from ..reading.arguments import count
from ..running.progress import Progress
from ..submission.submission import GivenSubmission, read_submission
from ..victim.assemble import Subject, subject_of, subject_of_module
from .door import call_problems, refuse
from .finished import Run
from .pipeline import evaluate_subject


def evaluate(
    subject: str | os.PathLike[str] | GivenSubmission | torch.nn.Module,
    *,
    battery: str | os.PathLike[str] | Battery | None = None,
    tier: Tier = "standard",
    out: str | os.PathLike[str] | None = None,
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
    backend: Backend = "auto",
    max_batch: int | None = None,
    name: str | None = None,
    preprocess: Preprocess | None = None,
    output: Output | None = None,
    reject_index: int | None = None,
) -> Run:
    """Run a subject through a battery and return the record and the folder that holds it and its evidence.

    The folder is the same as the command line's: `record.json`, `report.txt`, `evidence/*.npz` and the finished
    shards. `print(run)` is the report, and a notebook shows a run by itself.

    Args:
        subject: a `submission.yaml`'s path, what `read_submission` returned, or a torch module that takes
            `(n, c, h, w)` float32 images and returns `(n, K)`.
        battery: a shipped battery's name, a path (of a submission's, relative to its folder), or what `read_battery`
            returned, whose tier counts then; a submission names its own, a module needs one (default `digits-v1`).
        tier: `standard`, or `smoke` for about 1/20 of the work.
        out: the run's folder. Finished shards found there are used; in the default, `runs/<name>-<digest>`, also
            those of the runs beside it.
        device: `auto` takes the GPU where there is one; `cpu` or `cuda`.
        workers: shards worked on side by side, at least 1; default: one a core on the CPU, one on a GPU. Changes no
            result.
        progress: told what happens; default: nothing is.
        backend: which implementation answers: `auto` (a fixed rule), `onnxruntime`, `torch` or `compiled`.
        max_batch: the most images to send through the network at once, at least 1, to bound memory; default: the
            battery's batch.
        name: modules only: what to call it, 1 to 120 printable characters (default: its class's name).
        preprocess: modules only: what the module expects of pixels in [0, 1] (default: just those).
        output: modules only: what it returns, `logits` (the default) or `probabilities`.
        reject_index: modules only: which of its K + 1 outputs, counted from 0, means "none of the classes", if one
            does.

    Raises:
        InvalidInput: an argument has a value or a type that means nothing, or is for modules and stands beside a
            submission; all such arguments are told at once, before any work. Also a submission, a battery or a model
            that cannot be run as it is, and an `out` that holds another run.
        ModelFailure: the model or a defense fails while it is run, or answers with NaN.
        EnvironmentFault: data that are missing or altered, a full disk, too little memory, no GPU for `cuda`, a folder
            in which another run is at work.

        All three are FoolbenchErrors, whose `problems` say what was expected, what came and what to do.
    """
    given = {"name": name, "preprocess": preprocess, "output": output, "reject_index": reject_index}
    problems = call_problems(subject, battery, tier, out, progress, given)
    refuse([*problems, *execution_problems(device, workers, backend, max_batch)])
    execution = Execution(device, workers, backend, max_batch)
    if isinstance(subject, torch.nn.Module):
        chosen = _chosen("digits-v1" if battery is None else battery, tier)
        refuse([] if reject_index is None else count("reject_index", reject_index, 0, chosen.classes))
        made = _module(subject, name, preprocess, output, reject_index)
    else:
        read = subject if isinstance(subject, GivenSubmission) else read_submission(subject)
        chosen = _chosen(read.spec.battery if battery is None else battery, tier, read.folder)
        made = subject_of(read)
    return evaluate_subject(made, chosen, execution, out=None if out is None else Path(out), progress=progress)


def _chosen(battery: str | os.PathLike[str] | Battery, tier: Tier, folder: Path | None = None) -> Battery:
    return battery if isinstance(battery, Battery) else read_battery(battery, tier=tier, folder=folder)


def _module(
    module: torch.nn.Module,
    name: str | None,
    preprocess: Preprocess | None,
    output: Output | None,
    reject_index: int | None,
) -> Subject:
    return subject_of_module(
        module,
        name or type(module).__name__,
        preprocess or Preprocess(),
        output=output or "logits",
        reject_index=reject_index,
    )
