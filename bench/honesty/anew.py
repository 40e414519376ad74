"""A victim built anew, that no attack has asked: in a process of its own, where that is needed and possible.

Another process shares nothing with the one that was searched, not even what a stranger's code keeps in its modules. It
starts Python and loads torch, which takes seconds. A submission that is data alone (a graph, weights, foolbench's own
defenses) has no code that could keep anything, so where no rank depends on it, it is built anew in this process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...models.base import Classifier
from ..battery.battery import Battery
from ..battery.ground import Execution, Ground
from ..battery.sent import SentBattery
from ..errors import one_line
from ..machine.memory import sparing
from ..victim.assemble import Subject
from .questions import Question, answers_to

REQUEST, ANSWERS = "request.pickle", "answers.npz"


@dataclass(frozen=True)
class Request:
    """All that another process needs to build a victim and ask it."""

    subject: Callable[[Ground], object]
    """`Subject.anew`."""
    battery: SentBattery
    execution: Execution
    """On the device of the run, with what its memory allows at once."""
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Anew:
    """The answers of a victim built anew, and where it was built."""

    answers: list[np.ndarray]
    process: bool
    """Whether in a process of its own."""
    why: str | None
    """Where it was not: why, in a clause."""
    failed: bool = False
    """Whether it was tried, and the other process gave no answers."""


def asked_anew(subject: Subject, ground: Ground, questions: Sequence[Question]) -> Anew:
    """Build the subject's victim anew and ask it. Raises FoolbenchError where that fails."""

    def here(why: str, failed: bool = False) -> Anew:
        victim = sparing(subject.again(ground).victim, ground.memory)
        return Anew(answers_to(victim, questions), False, why, failed)

    if not _needs_process(subject, ground.battery):
        kind = (
            "a module on a battery that ranks nobody" if subject.foreign else "it is data and runs no code of its own"
        )
        return here(kind)
    if subject.anew is None:
        return here("its parts are known to this process alone")
    limit = ground.memory.at_once(ground.spec.batch)
    execution = Execution("cuda" if ground.device.type == "cuda" else "cpu", 1, ground.backend, limit)
    request = Request(subject.anew, SentBattery.of(ground.battery), execution, tuple(questions))
    try:
        whole = pickle.dumps(request)
    except Exception as error:  # a stranger's class may raise anything
        return here(f"it cannot be sent to another process ({one_line(error)})")
    found = _in_a_process(whole, len(questions))
    return Anew(found, True, None) if isinstance(found, list) else here(found, failed=True)


def bare_anew(subject: Subject, ground: Ground, questions: Sequence[Question]) -> Anew:
    """The same of its bare model, which is data, in this process. Raises FoolbenchError."""
    bare = subject.again(ground).bare
    assert bare is not None
    return Anew(answers_to(sparing(bare.victim, ground.memory), questions), False, "the model alone is data")


def _needs_process(subject: Subject, battery: Battery) -> bool:
    ranked = battery.shipped and battery.tier == "standard"
    return ranked or subject.foreign == "package" or (subject.foreign == "module" and battery.shipped)


def _in_a_process(request: bytes, count: int) -> list[np.ndarray] | str:
    """The answers; or, in a clause, why there are none."""
    with TemporaryDirectory(prefix="foolbench-") as temporary:
        folder = Path(temporary)
        (folder / REQUEST).write_bytes(request)
        # What this process can import, the other can too: packages need not lie where Python looks by itself.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
        package = __name__.rpartition(".")[0]
        command = [sys.executable, "-m", f"{package}.anew_process", str(folder)]
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, told = process.communicate()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        try:
            with np.load(folder / ANSWERS, allow_pickle=False) as answers:
                return [answers[f"{i:05d}"] for i in range(count)]
        except (OSError, KeyError, ValueError):
            last = told.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            return f"another process gave no answers ({last[0][:200]})"


def victim_of(request: Request, ground: Ground) -> Classifier:
    """What the other process asks."""
    return sparing(request.subject(ground).victim, ground.memory)  # type: ignore[attr-defined]
