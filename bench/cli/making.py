"""The commands `foolbench train` and `foolbench panel`: what batteries and examples are made of, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DebugOption, DeviceOption, ProgressOption, WorkersOption
from .output import progress_shown


def train(
    name: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="Name a recipe; `foolbench list recipes` shows all.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Write the model files into this folder.")
    ] = Path("trained"),
    debug: DebugOption = False,
) -> None:
    """Train one of the example models again.

    The seed is fixed: the same machine with the same library versions makes the same files, byte for byte.
    """
    from ..harden import recipes

    recipe = recipes.recipe(name)
    typer.echo(f"{recipe.title}: about {recipe.seconds:.0f} s", err=True)
    typer.echo(str(recipe.make(out)))


def panel(
    context: typer.Context,
    battery: Annotated[
        str,
        typer.Argument(
            metavar="BATTERY", help="Name a shipped battery, or the YAML file of your own.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write the images into this .npz file.", show_default=False)
    ],
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Attack a battery's reference models.

    Whoever makes a battery does this once: the images that fool its reference models are then tried on every victim.
    """
    from ..battery.ground import Execution
    from ..evaluation.attack_panel import build

    with progress_shown(progress, context.obj) as display:
        digest = build(battery, out, Execution(device, workers), display)
    typer.echo(f"{out}: sha256 {digest}")
