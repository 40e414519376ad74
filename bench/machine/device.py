"""Which device to run on, and what machine this is."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..choices import DeviceName
from ..errors import EnvironmentFault, Problem, Where


def choose(name: DeviceName) -> torch.device:
    """auto: the GPU where there is one. Raises EnvironmentFault when cuda is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        fix, where = "use --device cpu, or mend the driver (`nvidia-smi` shows it)", Where(key="--device cuda")
        raise EnvironmentFault(Problem("FB404", "a CUDA GPU that torch can use", "none that it sees", fix, where))
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    return torch.device("cpu")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device: torch.device) -> int:
    """Shards worked on side by side: one a core on the CPU, one on a GPU."""
    return 1 if device.type == "cuda" else cores()


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make torch give the same bits again, and leave its settings as they were.

    On the CPU each shard has one thread, and shards run side by side: results depend on no machine's core count. On a
    GPU cuDNN chooses deterministic algorithms, in float32 proper (TF32 is off).
    """
    threads, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32


def describe(device: torch.device) -> str:
    """A name that two different devices do not share."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {processor()}"


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def host() -> dict[str, Any]:
    """What of the machine can matter to a reader of timings."""
    return {"system": platform.system(), "machine": platform.machine(), "processor": processor(), "cores": cores()}
