"""The command line. The only place that prints or exits; torch is imported only by the commands that need it."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from .errors import InvalidInput, Problem
from .options import (
    DEVICES,
    PROGRESS,
    TIERS,
    DebugOption,
    DeviceOption,
    JsonOption,
    ProgressOption,
    SubmissionArgument,
    TierOption,
    WorkersOption,
    one_of,
)
from .screen import Terminated, guarded, leave, print_json, terminate

if TYPE_CHECKING:
    from rich.console import Console

    from .progress import Progress

app = typer.Typer(
    name="foolbench",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing what draws boxes around the help takes longer than all else
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A robustness benchmark for image classifiers: fooling images, adversarial perturbations, defenses.",
)
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
    submission: SubmissionArgument,
    tier: TierOption = "standard",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The run's folder. [default: runs/NAME-DIGEST]", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
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
    with guarded(as_json, debug):
        one_of("--tier", tier, TIERS)
        one_of("--device", device, DEVICES)
        one_of("--progress", progress, PROGRESS)
        from .battery import Tier, read_battery
        from .submission import read_submission

        given = read_submission(submission)
        battery = read_battery(given.spec.battery, tier=cast(Tier, tier), folder=given.folder)
        from .assemble import subject_of
        from .device import DeviceName

        subject, where = subject_of(given), cast(DeviceName, device)
        if dry_run:
            _dry_run(subject, battery, where, workers, as_json)
            return
        from .evaluate import evaluate_subject

        display = _progress(progress)
        try:
            run = evaluate_subject(subject, battery, out=out, device=where, workers=workers, progress=display)
        except (KeyboardInterrupt, Terminated) as stopped:
            _interrupted(display, stopped, as_json)
        finally:
            display.end()
        _report(run, as_json)
        score = run.record.scores.robust_score.value
        if run.failures:
            raise typer.Exit(5)
        if fail_under is not None and (score is None or score < fail_under):
            raise typer.Exit(1)


@app.command()
def validate(submission: SubmissionArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check a submission: its YAML, its files, its battery. Loads no model; all errors at once."""
    with guarded(as_json, debug):
        from .battery import read_battery
        from .submission import read_submission

        given = read_submission(submission)
        battery = read_battery(given.spec.battery, folder=given.folder)
        if as_json:
            print_json({"schema": 1, "valid": True, "digest": given.digest(), "battery": battery.spec.name})
        else:
            typer.echo(f"{submission}: valid. {given.spec.name!r} on {battery.spec.name}, digest {given.digest()[:16]}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of submission.yaml, for editors."""
    with guarded(False, False):
        from .submission import json_schema

        print_json(json_schema())


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(metavar="KIND", help="attacks, defenses, models, batteries or recipes.")],
    debug: DebugOption = False,
) -> None:
    """List what there is."""
    with guarded(False, debug):
        from . import catalogue

        one_of("list", what, tuple(catalogue.KINDS))
        _console().print(catalogue.table(what))


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
    with guarded(as_json, debug):
        from ..leaderboard.site import build

        try:
            summary = build(runs, out)
        except ValueError as error:
            raise InvalidInput(Problem("FB112", f"{error}.", "see `foolbench leaderboard --help`")) from error
        if as_json:
            print_json({"schema": 1, **_plain(asdict(summary))})
        else:
            board = "board" if summary.boards == 1 else "boards"
            typer.echo(
                f"{out / 'index.html'}: {summary.entries} entries ({summary.ranked} ranked) on {summary.boards} {board}"
            )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe; `foolbench list recipes` has them.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write what it makes.")] = Path("trained"),
    debug: DebugOption = False,
) -> None:
    """Train one of the example models again from its seed."""
    with guarded(False, debug):
        from . import recipes

        one_of("train", recipe, tuple(recipes.RECIPES))
        typer.echo(f"{recipes.RECIPES[recipe].title}: about {recipes.RECIPES[recipe].seconds:.0f} s", err=True)
        typer.echo(str(recipes.train(recipe, out)))


@app.command()
def panel(
    battery: Annotated[str, typer.Argument(help="A battery's name, or a YAML file.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The npz to write.", show_default=False)],
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Attack a battery's reference models. Done once a battery: transfer rows start from the images made here."""
    with guarded(False, debug):
        one_of("--device", device, DEVICES)
        one_of("--progress", progress, PROGRESS)
        from .device import DeviceName
        from .panel_evidence import build

        display = _progress(progress)
        try:
            digest = build(battery, out, cast(DeviceName, device), workers, display)
        finally:
            display.end()
        typer.echo(f"{out}: sha256 {digest}")


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="An error's code, such as FB104.", show_default=False)],
    debug: DebugOption = False,
) -> None:
    """Tell more about an error code."""
    with guarded(False, debug):
        from .explain import EXPLANATIONS

        one_of("explain", code.upper(), tuple(EXPLANATIONS))
        found = EXPLANATIONS[code.upper()]
        typer.echo(f"{code.upper()}: {found.title} (exit code {found.exit_code})\n\n{found.text}")


def main() -> None:
    """Entry point of the `foolbench` command."""
    signal.signal(signal.SIGTERM, terminate)
    arguments = sys.argv[1:] or ["--help"]
    with guarded("--json" in arguments, "--debug" in arguments):
        try:
            code = app(arguments, standalone_mode=False)
        except USAGE_ERROR as error:
            raise _usage(error) from None
    sys.exit(code)


def _usage(error: Any) -> InvalidInput:
    command = error.ctx.command_path if error.ctx is not None else "foolbench"
    return InvalidInput(Problem("FB114", f"{command}: {error.format_message()}", f"{command} --help"))


def _interrupted(display: Progress, stopped: BaseException, as_json: bool) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # leaving already; a second Ctrl-C would only spoil the screen
    display.end()
    so_far = getattr(display, "so_far", str)()
    code = 143 if isinstance(stopped, Terminated) else 130
    leave(f"Stopped{so_far}. Run the same command again to go on.", code, as_json)


def _report(run: Any, as_json: bool) -> None:
    import io

    from .folder import atomically
    from .report import render

    text = io.StringIO()
    _console(width=120, file=text).print(render(run.record, run.folder))
    atomically(run.folder / "report.txt", text.getvalue().encode())
    if as_json:
        record = run.record.model_dump(mode="json", by_alias=True)
        print_json({"schema": 1, "folder": str(run.folder), "record": record})
    else:
        _console().print(render(run.record, run.folder))


def _dry_run(subject: Any, battery: Any, device: Any, workers: int | None, as_json: bool) -> None:
    from .estimate import estimate, table

    cost = estimate(subject, battery, device=device, workers=workers)
    if as_json:
        print_json({"schema": 1, **_plain(asdict(cost)), "seconds": cost.seconds})
    else:
        _console().print(table(cost, subject, battery))


def _progress(kind: str) -> Progress:
    from .live import progress_of

    return progress_of(kind, _console(stderr=True))


def _console(**options: Any) -> Console:
    from rich.console import Console

    if not sys.stdout.isatty() and "width" not in options and "stderr" not in options:
        options["width"] = int(os.environ.get("COLUMNS", 120))
    return Console(**options)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


if __name__ == "__main__":
    main()
