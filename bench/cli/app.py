"""The command line. The only place that prints or exits; torch is imported only by the commands that need it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..choices import unknown_word
from ..errors import Problem
from .harden import harden
from .making import panel, train
from .options import (
    BackendOption,
    DebugOption,
    DeviceOption,
    FoolingRunOption,
    ImagesOption,
    JsonOption,
    ListKind,
    MaxBatchOption,
    ProgressOption,
    SubmissionArgument,
    TierOption,
    WorkersOption,
    images_of,
)
from .output import console, plain, print_estimate, print_run, progress_shown
from .screen import Signals, guarded, print_json
from .usage import USAGE_ERROR, refused

app = typer.Typer(
    name="foolbench",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing what draws boxes around the help takes longer than all else
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how robust image classifiers and their defenses are against fooling images and adversarial changes.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from ..machine.version import own_version

        typer.echo(f"foolbench {own_version()}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None: ...


@app.command()
def evaluate(
    context: typer.Context,
    submission: SubmissionArgument,
    tier: TierOption = "standard",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Write the run into this folder. [default: runs/NAME-DIGEST]",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    backend: BackendOption = "auto",
    max_batch: MaxBatchOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Measure a little, say what the run would do and take, and write nothing."),
    ] = False,
    as_json: JsonOption = False,
    progress: ProgressOption = "auto",
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under",
            metavar="SCORE",
            help="Exit with code 1 if the robust score, of 0 to 100, is below SCORE.",
            show_default=False,
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Attack a submission and report how robust it is.

    The attacks and their budgets stand in the battery that the submission names. After an interruption the same
    command goes on where it stopped.
    """
    from ..submission.submission import read_submission

    given = read_submission(submission)  # what is wrong with it is told before torch is loaded, which takes seconds
    from ..battery.battery import read_battery

    battery = read_battery(given.spec.battery, tier=tier, folder=given.folder)
    from ..battery.ground import Execution
    from ..evaluation.pipeline import evaluate_subject
    from ..victim.assemble import subject_of

    execution = Execution(device, workers, backend, max_batch)
    subject = subject_of(given)
    if dry_run:
        from ..evaluation.estimate import estimate

        print_estimate(estimate(subject, battery, execution), subject, battery, as_json)
        return
    with progress_shown(progress, context.obj, as_json) as display:
        run = evaluate_subject(subject, battery, execution, out=out, progress=display)
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
            "--out",
            metavar="FOLDER",
            help="Write the results into this folder. [default: RUN/probe if --run is a run of this submission, else "
            "runs/probe-NAME-DIGEST]",
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
    """Show how a model responds to patches.

    Numbers and pictures say which patches of an image convince the model, where they do so, and how many it takes.
    """
    chosen = images_of(images)
    from ..submission.submission import read_submission

    given = read_submission(submission)
    from ..battery.battery import read_battery

    battery = read_battery(given.spec.battery, folder=given.folder)
    from ..battery.ground import Execution
    from ..probe import files as probe_files
    from ..probe.probe import probe as measured
    from ..victim.assemble import subject_of
    from .probe_report import render

    if out is not None:
        probe_files.check_folder(out)
    execution = Execution(device, backend=backend, max_batch=max_batch)
    with progress_shown(progress, context.obj, as_json) as display:
        done = measured(subject_of(given), battery, execution, images=chosen, run=run, progress=display)
    folder = out or probe_files.default_folder(done, run)
    record = probe_files.write_probe(done, folder)
    if as_json:
        print_json({**record.model_dump(mode="json", by_alias=True), "folder": str(folder)})
    else:
        console().print(render(record, folder))


@app.command()
def validate(submission: SubmissionArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check a submission without running it.

    Reads the YAML, the files that it names and the battery, but loads no model, and tells all errors at once. Of a
    battery of your own it reads the images and the panel's files too.
    """
    from ..submission.submission import read_submission

    given = read_submission(submission)
    from ..battery.ready import read_ready

    battery = read_ready(given.spec.battery, folder=given.folder)
    name, digest = battery.spec.name, given.digest()
    if as_json:
        said = {"digest": digest, "battery": name, "battery_digest": battery.digest}
        print_json({"schema": 1, "valid": True, **said})
    else:
        mine, other = f"{given.spec.name!r}, digest {digest[:16]}", f"{name}, digest {battery.digest[:16]}"
        typer.echo(f"{submission}: valid. {mine}, on {other}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of submission.yaml.

    Editors complete and check a submission with it.
    """
    from ..submission.submission import json_schema

    print_json(json_schema())


@app.command(name="list")
def list_(
    what: Annotated[ListKind, typer.Argument(metavar="KIND", help="Choose what to list.", show_default=False)],
    debug: DebugOption = False,
) -> None:
    """List the attacks, defenses, models, batteries or recipes.

    A battery is the data and the attacks that submissions are measured with; a recipe trains models that come with
    foolbench.
    """
    from . import catalogue

    console().print(catalogue.table(what))


@app.command()
def leaderboard(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Name the folders of finished runs, or folders that hold some.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Write the site into this folder.")] = Path(
        "site"
    ),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build a static leaderboard site from finished runs."""
    from ...leaderboard.site.site import build

    summary = build(runs, out)
    if as_json:
        left_out = [Problem.of("FB112", error).as_json() for error in summary.left_out]
        print_json({"schema": 1, **plain(asdict(summary)), "left_out": left_out})
    else:
        board = "board" if summary.boards == 1 else "boards"
        entry = "entry" if summary.entries == 1 else "entries"
        numbers = f"{summary.entries} {entry} ({summary.ranked} ranked) on {summary.boards} {board}"
        typer.echo(f"{out / 'index.html'}: {numbers}")
        for error in summary.left_out:
            typer.echo(f"not shown: {error}", err=True)


app.command()(train)
app.command()(harden)
app.command()(panel)


@app.command()
def explain(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="Name the code of an error, such as FB104.", show_default=False)
    ],
    debug: DebugOption = False,
) -> None:
    """Explain an error code.

    Every error message shows its code.
    """
    from .explain import EXPLANATIONS

    if code.upper() not in EXPLANATIONS:
        raise unknown_word("foolbench explain", code.upper(), tuple(EXPLANATIONS))
    found = EXPLANATIONS[code.upper()]
    typer.echo(f"{code.upper()}: {found.title} (exit code {found.exit_code})\n\n{found.text}")


def main() -> None:
    """See `foolbench.bench.cli.main`."""
    arguments = sys.argv[1:] or ["--help"]
    signals = Signals()
    with guarded("--json" in arguments, "--debug" in arguments, signals):
        try:
            code = app(arguments, prog_name="foolbench", standalone_mode=False, obj=signals)
        except USAGE_ERROR as error:
            raise refused(error, app, arguments) from None
        sys.exit(code)
