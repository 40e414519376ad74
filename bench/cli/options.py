"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidInput, Problem

SubmissionArgument = Annotated[
    Path, typer.Argument(metavar="SUBMISSION.yaml", help="The submission.", show_default=False)
]
TierOption = Annotated[
    str, typer.Option(metavar="TIER", help="standard, or smoke: about 1/20 of the work, never ranked.")
]
DeviceOption = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Shards worked on side by side. [default: one a core; one on a GPU]",
        show_default=False,
    ),
]
BackendOption = Annotated[
    str, typer.Option(metavar="BACKEND", help="What answers: auto (a fixed rule), onnxruntime, torch or compiled.")
]
MaxBatchOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Images sent through the network at once, at most, to bound memory. [default: the battery's batch]",
        show_default=False,
    ),
]
ImagesOption = Annotated[
    str, typer.Option(metavar="N|I,J", help="How many images that the victim gets right, or which of the battery's.")
]
FoolingRunOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN", help="Take a finished run's fooling images; else some are evolved.", show_default=False
    ),
]
ProgressOption = Annotated[str, typer.Option(metavar="KIND", help="auto, rich, plain or none.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; everything else on stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", hidden=True)]

BACKENDS = ("auto", "onnxruntime", "torch", "compiled")
TIERS, DEVICES, PROGRESS = ("standard", "smoke"), ("auto", "cpu", "cuda"), ("auto", "rich", "plain", "none")


def one_of(name: str, value: str, legal: tuple[str, ...]) -> None:
    """Raise InvalidInput where an option's value is none of the legal words."""
    if value not in legal:
        from ..reading.wording import nearest  # on use: it brings Pydantic

        message = f"{name}: expected one of {', '.join(legal)}, got {value!r}."
        raise InvalidInput(Problem("FB113", message, f"{name} {nearest(value, list(legal)) or legal[0]}"))


def images_of(text: str) -> int | tuple[int, ...]:
    """`--images`: a count, or positions with a comma among them (`7,` is one). Raises InvalidInput otherwise."""
    given = tuple(text.removesuffix(",").split(","))
    if all(part.strip().isascii() and part.strip().isdigit() for part in given):
        rows = tuple(int(part) for part in given)
        if "," in text and len(set(rows)) == len(rows):
            return rows
        if "," not in text and rows[0] > 0:
            return rows[0]
    message = f"--images: expected a count, or different positions such as 0,5,12, got {text!r}."
    raise InvalidInput(Problem("FB114", message, "--images 4"))
