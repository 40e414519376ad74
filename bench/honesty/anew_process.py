"""The other process: builds a victim from a request that foolbench itself wrote, asks it, writes its answers."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from ..machine.folder import arrays
from .anew import ANSWERS, REQUEST, Request, victim_of
from .questions import answers_to


def answer(folder: Path) -> None:
    """Answer the request that lies in the folder. Raises whatever keeps it from that; the one who asks reads it."""
    request: Request = pickle.loads((folder / REQUEST).read_bytes())
    with request.execution.on(request.battery.battery()) as ground:
        found = answers_to(victim_of(request, ground), request.questions)
    arrays(folder / ANSWERS, **{f"{i:05d}": answers for i, answers in enumerate(found)})


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
