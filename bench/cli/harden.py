"""The command `foolbench harden`: its options, and what they mean to `harden.harden`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..choices import HardenAttack, HardenHow, HardenNetwork
from .options import DebugOption, DeviceOption, JsonOption, ProgressOption

HardenModel = Annotated[
    Path | None,
    typer.Argument(
        metavar="SUBMISSION.yaml|MODEL.onnx",
        help="Name the model to start from. [default: a new network with random weights]",
        show_default=False,
    ),
]
HardenOut = Annotated[
    Path,
    typer.Option("--out", metavar="FOLDER", help="Write the submission into this folder.", show_default=False),
]
HowOption = Annotated[
    HardenHow,
    typer.Option(
        "--how",
        help="Choose the defense: train the model with evolved fooling images as a class of their own; train it with "
        "adversarial images; put a network before it that detects adversarial images; or put a density model before "
        "it that rejects unlikely images.",
        show_default=False,
    ),
]
NetworkOption = Annotated[
    HardenNetwork,
    typer.Option("--network", help="Choose the network that is trained where no model is given, and as the detector."),
]
BatteryOption = Annotated[
    str | None,
    typer.Option(
        "--battery",
        metavar="NAME",
        help="Train on the training images of this battery. [default: the battery of the given submission, else "
        "digits-v1]",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="S", min=0, help="Draw all random numbers of the training from this seed.")
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        min=1,
        help="Train each network for N epochs. [default: as many as show it 160,000 images]",
        show_default=False,
    ),
]
TrainingImagesOption = Annotated[
    int | None,
    typer.Option(
        "--training-images",
        metavar="N",
        min=20,
        help="Use only N of the training images, with the classes in their proportions. [default: all]",
        show_default=False,
    ),
]
RoundsOption = Annotated[
    int,
    typer.Option(
        "--rounds", metavar="N", min=1, help="For fooling-class: evolve fooling images and train again N times."
    ),
]
RunsOption = Annotated[
    int,
    typer.Option(
        "--runs",
        metavar="N",
        min=1,
        help="For fooling-class and density: evolve fooling images N times with each of the two encodings, pixels and "
        "CPPNs.",
    ),
]
GenerationsOption = Annotated[
    int,
    typer.Option(
        "--generations",
        metavar="N",
        min=1,
        help="For fooling-class and density: evolve each time for N generations.",
    ),
]
AttackOption = Annotated[
    HardenAttack,
    typer.Option("--attack", help="For adversarial and detector: choose what makes the adversarial images."),
]
EpsilonOption = Annotated[
    float | None,
    typer.Option(
        "--epsilon",
        metavar="E",
        min=0.003,
        max=1.0,
        help="Change no pixel of an adversarial image, in [0, 1], by more than E. [default: as the battery's FGSM, "
        "else 0.1]",
        show_default=False,
    ),
]
StepsOption = Annotated[
    int, typer.Option("--steps", metavar="N", min=1, help="With --attack pgd: make each image in N steps.")
]
CleanWeightOption = Annotated[
    float | None,
    typer.Option(
        "--clean-weight",
        metavar="W",
        min=0.0,
        max=1.0,
        help="For adversarial: give the loss on clean images this share of the whole loss. [default: 0.5 for fgsm, 0 "
        "for pgd]",
        show_default=False,
    ),
]
DimensionsOption = Annotated[
    int | None,
    typer.Option(
        "--dimensions",
        metavar="N",
        min=1,
        help="For density: describe an image by N principal components. [default: the best of a few numbers]",
        show_default=False,
    ),
]
RejectOption = Annotated[
    float,
    typer.Option(
        "--reject",
        metavar="SHARE",
        min=0.001,
        max=0.5,
        help="For detector and density: set the threshold so that this share of clean images is rejected.",
    ),
]


def harden(
    context: typer.Context,
    out: HardenOut,
    how: HowOption,
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
    """Train a defense and write a submission with it.

    The submission is ready to be evaluated. After an interruption the same command goes on where it stopped.
    """
    from ..harden.harden import harden as hardened
    from ..harden.options import Hardening
    from . import harden_screen

    given = Hardening(
        how,
        network=network,
        seed=seed,
        epochs=epochs,
        images=training_images,
        rounds=rounds,
        runs=runs,
        generations=generations,
        attack=attack,
        epsilon=epsilon,
        steps=steps,
        clean_weight=clean_weight,
        dimensions=dimensions,
        reject=reject,
    )
    with harden_screen.harden_progress(progress, context.obj, as_json) as display:
        done = hardened(model, given, out, battery=battery, device=device, told=display)
    harden_screen.print_hardened(done, as_json)
