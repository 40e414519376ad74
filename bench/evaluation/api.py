"""`evaluate` for Python: a submission's path, a submission that was read, or a torch module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch

from ...models.backend import Backend
from ...models.preprocess import Preprocess
from ..battery.battery import Battery, Tier, read_battery
from ..machine.device import DeviceName
from ..running.progress import Progress
from ..submission.submission import GivenSubmission, read_submission
from ..victim.assemble import subject_of, subject_of_module
from .pipeline import Run, evaluate_subject


def evaluate(
    subject: str | os.PathLike[str] | GivenSubmission | torch.nn.Module,
    *,
    battery: str | Battery | None = None,
    tier: Tier = "standard",
    out: str | os.PathLike[str] | None = None,
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
    backend: Backend = "auto",
    max_batch: int | None = None,
    name: str | None = None,
    preprocess: Preprocess | None = None,
    output: Literal["logits", "probabilities"] = "logits",
    reject_index: int | None = None,
) -> Run:
    """Run a subject through a battery and return the record and the folder that holds it and its evidence.

    Args:
        subject: a `submission.yaml`'s path, what `read_submission` returned, or a torch module that takes
            `(n, c, h, w)` float32 images and returns `(n, K)`.
        battery: a shipped battery's name, a path, or what `read_battery` returned; a submission names its own, a module
            needs one (default `digits-v1`).
        tier: `standard`, or `smoke` for about 1/20 of the work.
        out: the run's folder. Finished shards found there are used; in the default, `runs/<name>-<digest>`, also
            those of the runs beside it.
        device: `auto` takes the GPU where there is one.
        workers: shards worked on side by side; default: one a core on the CPU, one on a GPU. Changes no result.
        progress: told what happens; default: nothing is.
        backend: which implementation answers: `auto` (a fixed rule), `onnxruntime`, `torch` or `compiled`.
        max_batch: the most images to send through the network at once, to bound memory; default: the battery's batch.
        name: modules only: what to call it (default: its class's name).
        preprocess: modules only: what the module expects of pixels in [0, 1] (default: just those).
        output: modules only: what it returns.
        reject_index: modules only: the output that means "none of the classes", if there is one.

    Raises:
        FoolbenchError: InvalidInput, ModelFailure or EnvironmentFault, each saying what was expected, what came and
            what to do.
    """
    where = None if out is None else Path(out)
    how: dict[str, Any] = {"device": device, "workers": workers, "progress": progress}
    how |= {"backend": backend, "max_batch": max_batch}
    if isinstance(subject, torch.nn.Module):
        chosen = battery if isinstance(battery, Battery) else read_battery(battery or "digits-v1", tier=tier)
        made = subject_of_module(
            subject,
            name or type(subject).__name__,
            preprocess or Preprocess(),
            output=output,
            reject_index=reject_index,
        )
        return evaluate_subject(made, chosen, out=where, **how)
    given = subject if isinstance(subject, GivenSubmission) else read_submission(Path(subject))
    if not isinstance(battery, Battery):
        battery = read_battery(battery or given.spec.battery, tier=tier, folder=given.folder)
    return evaluate_subject(subject_of(given), battery, out=where, **how)
