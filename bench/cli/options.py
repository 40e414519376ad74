"""The arguments and options that several commands share.

Every option states its own name. Where one is left to Typer, Typer may derive it from `metavar` instead of from the
parameter (0.27 makes `--TIER` of `tier: Annotated[…, Option(metavar="TIER")]`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...models.choices import Backend
from ..choices import DeviceName, Tier
from ..errors import InvalidInput, Problem, Where

ProgressKind = Literal["auto", "rich", "plain", "none"]
"""How progress is shown; `auto` is `rich` on a terminal that can redraw, and `plain` elsewhere."""

ListKind = Literal["attacks", "defenses", "models", "batteries", "recipes"]
"""What `foolbench list` lists."""

SubmissionArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SUBMISSION.yaml",
        help="Name the file that describes the model, its defenses and the battery (the data and the attacks).",
        show_default=False,
    ),
]
TierOption = Annotated[
    Tier,
    typer.Option(
        "--tier",
        help="Choose how much to run: `standard` runs the whole battery, `smoke` about 1/20 of it, to try things out. "
        "Smoke runs are never ranked.",
    ),
]
DeviceOption = Annotated[
    DeviceName,
    typer.Option("--device", help="Choose where to compute: `auto` takes a CUDA GPU if there is one, else the CPU."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Work on N parts of the run side by side; the results stay the same. [default: one per CPU core, or one "
        "on a GPU]",
        show_default=False,
    ),
]
BackendOption = Annotated[
    Backend,
    typer.Option(
        "--backend",
        help="Choose what computes the model's answers: `auto` decides by a fixed rule, `compiled` is torch.compile.",
    ),
]
MaxBatchOption = Annotated[
    int | None,
    typer.Option(
        "--max-batch",
        metavar="N",
        min=1,
        help="Send at most N images through the model at once, to use less memory. [default: the battery's batch size]",
        show_default=False,
    ),
]
ImagesOption = Annotated[
    str,
    typer.Option(
        "--images",
        metavar="N|I,J",
        help="Take the first N images that the model classifies correctly, or the images at positions I, J, … of the "
        "battery.",
    ),
]
FoolingRunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Take the fooling images of this finished run's folder. [default: evolve some first]",
        show_default=False,
    ),
]
ProgressOption = Annotated[
    ProgressKind,
    typer.Option(
        "--progress",
        help="Choose how progress is shown on stderr: `rich` redraws a table, `plain` prints lines, `auto` is rich on "
        "a terminal and plain elsewhere.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and everything else on stderr.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.", hidden=True)]


def images_of(text: str) -> int | tuple[int, ...]:
    """`--images`: a count, or positions with a comma among them (`7,` is one). Raises InvalidInput otherwise."""
    given = tuple(text.removesuffix(",").split(","))
    if all(part.strip().isascii() and part.strip().isdigit() for part in given):
        rows = tuple(int(part) for part in given)
        if "," in text and len(set(rows)) == len(rows):
            return rows
        if "," not in text and rows[0] > 0:
            return rows[0]
    expected = "a count, or different positions such as 0,5,12"
    raise InvalidInput(Problem("FB114", expected, repr(text), "--images 4", Where(key="--images")))
