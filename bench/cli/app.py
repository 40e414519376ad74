"""The command line. The only place that prints or exits; torch is imported only by the commands that need it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ..errors import InvalidInput, Problem
from .harden import harden
from .options import (
    BACKENDS,
    DEVICES,
    PROGRESS,
    TIERS,
    BackendOption,
    DebugOption,
    DeviceOption,
    FoolingRunOption,
    ImagesOption,
    JsonOption,
    MaxBatchOption,
    ProgressOption,
    SubmissionArgument,
    TierOption,
    WorkersOption,
    images_of,
    one_of,
)
from .output import console, plain, print_estimate, print_run, shown
from .screen import Signals, guarded, print_json

app = typer.Typer(
    name="foolbench",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing what draws boxes around the help takes longer than all else
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A robustness benchmark for image classifiers: fooling images, adversarial perturbations, defenses.",
)
app.command()(harden)
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Whatever is wrong with a command line; Typer has no public name for it."""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"foolbench {version('foolbench')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_version)
    ] = False,
) -> None: ...


@app.command()
def evaluate(
    context: typer.Context,
    submission: SubmissionArgument,
    tier: TierOption = "standard",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The run's folder. [default: runs/NAME-DIGEST]", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    backend: BackendOption = "auto",
    max_batch: MaxBatchOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would do and cost, measured here; write nothing.")
    ] = False,
    as_json: JsonOption = False,
    progress: ProgressOption = "auto",
    fail_under: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Exit with 1 when the robust score is below this.", show_default=False),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Run a submission through its battery. Interrupted? The same command goes on."""
    one_of("--tier", tier, TIERS)
    one_of("--device", device, DEVICES)
    one_of("--backend", backend, BACKENDS)
    one_of("--progress", progress, PROGRESS)
    from ..battery.battery import Tier, read_battery
    from ..submission.submission import read_submission

    given = read_submission(submission)
    battery = read_battery(given.spec.battery, tier=cast(Tier, tier), folder=given.folder)
    from ..evaluation.pipeline import evaluate_subject
    from ..victim.assemble import subject_of

    subject = subject_of(given)
    how: dict[str, Any] = {"device": device, "workers": workers, "backend": backend, "max_batch": max_batch}
    if dry_run:
        from ..evaluation.estimate import estimate

        print_estimate(estimate(subject, battery, **how), subject, battery, as_json)
        return
    with shown(progress, context.obj, as_json) as display:
        run = evaluate_subject(subject, battery, out=out, progress=display, **how)
    print_run(run, as_json)
    score = run.record.scores.robust_score.value
    if run.failures:
        raise typer.Exit(5)
    if fail_under is not None and (score is None or score < fail_under):
        raise typer.Exit(1)


@app.command()
def probe(
    context: typer.Context,
    submission: SubmissionArgument,
    images: ImagesOption = "4",
    run: FoolingRunOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where to write. [default: RUN/probe where --run is of this submission, else runs/probe-NAME-DIGEST]",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    max_batch: MaxBatchOption = None,
    as_json: JsonOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Show how a model responds to patches: their place, their number; in numbers and pictures."""
    one_of("--device", device, DEVICES)
    one_of("--backend", backend, BACKENDS)
    one_of("--progress", progress, PROGRESS)
    chosen = images_of(images)
    from ..battery.battery import read_battery
    from ..submission.submission import read_submission

    given = read_submission(submission)
    battery = read_battery(given.spec.battery, folder=given.folder)
    from ..probe import files as probe_files
    from ..probe.probe import probe as measured
    from ..victim.assemble import subject_of
    from .probe_report import render

    if out is not None:
        probe_files.check_folder(out)
    how: dict[str, Any] = {"device": device, "backend": backend, "max_batch": max_batch}
    with shown(progress, context.obj, as_json) as display:
        done = measured(subject_of(given), battery, images=chosen, run=run, progress=display, **how)
    folder = out or probe_files.default_folder(done, run)
    record = probe_files.write_probe(done, folder)
    if as_json:
        print_json({**record.model_dump(mode="json", by_alias=True), "folder": str(folder)})
    else:
        console().print(render(record, folder))


@app.command()
def validate(submission: SubmissionArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check a submission: its YAML, its files, its battery. Loads no model; all errors at once."""
    from ..battery.battery import read_battery
    from ..submission.submission import read_submission

    given = read_submission(submission)
    battery = read_battery(given.spec.battery, folder=given.folder)
    if as_json:
        print_json({"schema": 1, "valid": True, "digest": given.digest(), "battery": battery.spec.name})
    else:
        typer.echo(f"{submission}: valid. {given.spec.name!r} on {battery.spec.name}, digest {given.digest()[:16]}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of submission.yaml, for editors."""
    from ..submission.submission import json_schema

    print_json(json_schema())


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(metavar="KIND", help="attacks, defenses, models, batteries or recipes.")],
    debug: DebugOption = False,
) -> None:
    """List what there is."""
    from . import catalogue

    one_of("list", what, tuple(catalogue.KINDS))
    console().print(catalogue.table(what))


@app.command()
def leaderboard(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders, or folders of them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The site's folder.")] = Path("site"),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build the static site from finished runs."""
    from ...leaderboard.site.site import build

    try:
        summary = build(runs, out)
    except ValueError as error:
        message, _, fix = str(error).rpartition(": ")
        raise InvalidInput(Problem("FB112", f"{message or error}.", fix)) from error
    if as_json:
        print_json({"schema": 1, **plain(asdict(summary))})
    else:
        board = "board" if summary.boards == 1 else "boards"
        entry = "entry" if summary.entries == 1 else "entries"
        numbers = f"{summary.entries} {entry} ({summary.ranked} ranked) on {summary.boards} {board}"
        typer.echo(f"{out / 'index.html'}: {numbers}")
        for sentence in summary.left_out:
            typer.echo(f"not shown: {sentence}", err=True)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe; `foolbench list recipes` has them.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write what it makes.")] = Path("trained"),
    debug: DebugOption = False,
) -> None:
    """Train one of the example models again from its seed."""
    from ..harden import recipes

    one_of("train", recipe, tuple(recipes.RECIPES))
    typer.echo(f"{recipes.RECIPES[recipe].title}: about {recipes.RECIPES[recipe].seconds:.0f} s", err=True)
    typer.echo(str(recipes.train(recipe, out)))


@app.command()
def panel(
    context: typer.Context,
    battery: Annotated[str, typer.Argument(help="A battery's name, or a YAML file.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The npz to write.", show_default=False)],
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Attack a battery's reference models. Done once a battery: transfer rows start from the images made here."""
    one_of("--device", device, DEVICES)
    one_of("--progress", progress, PROGRESS)
    from ..evaluation.attack_panel import build
    from ..machine.device import DeviceName

    with shown(progress, context.obj) as display:
        digest = build(battery, out, cast(DeviceName, device), workers, display)
    typer.echo(f"{out}: sha256 {digest}")


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="An error's code, such as FB104.", show_default=False)],
    debug: DebugOption = False,
) -> None:
    """Tell more about an error code."""
    from .explain import EXPLANATIONS

    one_of("explain", code.upper(), tuple(EXPLANATIONS))
    found = EXPLANATIONS[code.upper()]
    typer.echo(f"{code.upper()}: {found.title} (exit code {found.exit_code})\n\n{found.text}")


def main() -> None:
    """Entry point of the `foolbench` command."""
    arguments = sys.argv[1:] or ["--help"]
    signals = Signals()
    with guarded("--json" in arguments, "--debug" in arguments, signals):
        try:
            code = app(arguments, standalone_mode=False, obj=signals)
        except USAGE_ERROR as error:
            raise _usage(error) from None
        sys.exit(code)


def _usage(error: Any) -> InvalidInput:
    command = error.ctx.command_path if error.ctx is not None else "foolbench"
    return InvalidInput(Problem("FB114", f"{command}: {error.format_message()}", f"{command} --help"))


if __name__ == "__main__":
    main()
