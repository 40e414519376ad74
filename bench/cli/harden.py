"""The command `foolbench harden`: its options, and what they mean to `harden.harden`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from .options import DEVICES, PROGRESS, DebugOption, DeviceOption, JsonOption, ProgressOption, one_of

HOWS = ("fooling-class", "adversarial", "detector", "density")
NETWORKS, ATTACKS = ("lenet", "mlp", "resnet"), ("fgsm", "pgd")

HardenModel = Annotated[
    Path | None,
    typer.Argument(
        metavar="SUBMISSION.yaml|MODEL.onnx",
        help="The model to start from. [default: a network trained from scratch]",
        show_default=False,
    ),
]
HardenOut = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Where to write the submission.", show_default=False)
]
HardenHow = Annotated[
    str,
    typer.Option(
        "--how", metavar="RECIPE", help="fooling-class, adversarial, detector or density.", show_default=False
    ),
]
NetworkOption = Annotated[
    str, typer.Option(metavar="KIND", help="lenet, mlp or resnet: what is trained from scratch; the detector's kind.")
]
BatteryOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Whose training images to use. [default: the submission's, else digits-v1]",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(metavar="S", min=0, help="Of everything that is drawn.")]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Of each training. [default: as many as show 160,000 images]", show_default=False
    ),
]
TrainingImagesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=20, help="Training images to use, spread over all. [default: all]", show_default=False
    ),
]
RoundsOption = Annotated[int, typer.Option(metavar="N", min=1, help="fooling-class: rounds of retraining.")]
RunsOption = Annotated[int, typer.Option(metavar="N", min=1, help="Evolutions for fooling images, of each encoding.")]
GenerationsOption = Annotated[int, typer.Option(metavar="N", min=1, help="Generations of each evolution.")]
AttackOption = Annotated[str, typer.Option(metavar="KIND", help="adversarial, detector: fgsm or pgd.")]
EpsilonOption = Annotated[
    float | None,
    typer.Option(
        metavar="E",
        min=0.003,
        max=1.0,
        help="Distance of adversarial images, in pixel values of [0, 1]. [default: the battery's]",
        show_default=False,
    ),
]
StepsOption = Annotated[int, typer.Option(metavar="N", min=1, help="Of PGD, in training.")]
CleanWeightOption = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        min=0.0,
        max=1.0,
        help="adversarial: weight of the loss on clean images. [default: 0.5 for fgsm, 0 for pgd]",
        show_default=False,
    ),
]
DimensionsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="density: principal components. [default: the best of a few]", show_default=False
    ),
]
RejectOption = Annotated[
    float,
    typer.Option(metavar="SHARE", min=0.001, max=0.5, help="detector, density: clean images to reject."),
]


def harden(
    context: typer.Context,
    out: HardenOut,
    how: HardenHow,
    model: HardenModel = None,
    network: NetworkOption = "lenet",
    battery: BatteryOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    training_images: TrainingImagesOption = None,
    rounds: RoundsOption = 3,
    runs: RunsOption = 10,
    generations: GenerationsOption = 100,
    attack: AttackOption = "fgsm",
    epsilon: EpsilonOption = None,
    steps: StepsOption = 7,
    clean_weight: CleanWeightOption = None,
    dimensions: DimensionsOption = None,
    reject: RejectOption = 0.02,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Train a defense and write a submission that is ready to run. Interrupted? The same command goes on."""
    one_of("--how", how, HOWS)
    one_of("--network", network, NETWORKS)
    one_of("--attack", attack, ATTACKS)
    one_of("--device", device, DEVICES)
    one_of("--progress", progress, PROGRESS)
    from ..harden.harden import harden as hardened
    from ..harden.options import Hardening
    from ..machine.device import DeviceName
    from . import harden_screen

    given: dict[str, Any] = {"how": how, "network": network, "seed": seed, "epochs": epochs, "images": training_images}
    given |= {"rounds": rounds, "runs": runs, "generations": generations, "attack": attack, "epsilon": epsilon}
    given |= {"steps": steps, "clean_weight": clean_weight, "dimensions": dimensions, "reject": reject}
    where = cast(DeviceName, device)
    with harden_screen.shown(progress, context.obj, as_json) as display:
        done = hardened(model, Hardening(**given), out, battery=battery, device=where, told=display)
    harden_screen.print_hardened(done, as_json)
