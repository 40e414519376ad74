"""How a command line is understood: names, help, words to choose from, and what is said where it is not understood."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from foolbench.bench.cli.app import app
from foolbench.bench.cli.options import ListKind
from small_runs import ENVIRONMENT, foolbench, inside, one_document, refused
from typer.models import ArgumentInfo, OptionInfo

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("evaluate", "probe", "validate", "schema", "list", "leaderboard", "train", "harden", "panel", "explain")


def test_help_says_what_there_is_and_imports_nothing_heavy():
    answer = foolbench("--help")
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert all(f"\n  {name} " in answer.stdout for name in COMMANDS)
    assert foolbench().stdout == answer.stdout
    heavy = {"torch", "numpy", "scipy", "onnx", "rich", "pydantic", "yaml", "PIL"}
    assert not heavy & imported("--help")


def test_validate_imports_nothing_that_loads_models():
    shipped = ROOT / "submissions/digits-lenet/submission.yaml"
    assert not {"onnx", "onnxruntime", "timm", "torchvision", "sklearn"} & imported("validate", shipped)


def test_reading_a_submission_imports_no_library_of_models():
    shipped = ROOT / "submissions/digits-lenet/submission.yaml"
    heavy = {"torch", "numpy", "scipy", "onnx", "onnxruntime", "timm"}
    program = (
        "import sys; from pathlib import Path; from foolbench.bench import read_submission\n"
        f"read_submission(Path({str(shipped)!r}))\n"
        f"sys.exit(' '.join({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def imported(*arguments: object) -> set[str]:
    """The packages that a command has imported when it leaves."""
    program = (
        "import atexit, sys\n"
        "names = lambda: ' '.join({name.partition('.')[0] for name in sys.modules})\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + names()))\n"
        f"sys.argv = ['-c', *{[str(argument) for argument in arguments]!r}]\n"
        "from foolbench.bench.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str):
    for flag in ("--help", "-h"):
        answer = inside(command, flag)
        assert answer.returncode == 0
        assert f"Usage: foolbench {command}" in answer.stdout


def parameters() -> list[tuple[str, ArgumentInfo | OptionInfo]]:
    """Every argument and option of every command: `evaluate tier`, and what Typer is told of it."""
    callbacks = [info.callback for info in (*app.registered_commands, app.registered_callback) if info is not None]
    assert len(callbacks) == len(COMMANDS) + 1
    return [
        (f"{callback.__name__} {name}", told)
        for callback in callbacks
        if callback is not None
        for name, hint in get_type_hints(callback, include_extras=True).items()
        for told in getattr(hint, "__metadata__", ())
    ]


def test_every_option_states_its_name():
    # Where an option has none, Typer 0.27 makes it of the metavar: `--TIER`.
    options = {name: told for name, told in parameters() if isinstance(told, OptionInfo)}
    assert len(options) > 40
    stated = {name: [told.default, *(told.param_decls or ())] for name, told in options.items()}
    assert [name for name, given in stated.items() if not str(given[0]).startswith("--")] == []


def test_help_is_in_sentences():
    texts = {name: told.help or "" for name, told in parameters()}
    texts |= {str(info.callback): (info.callback.__doc__ or "").strip() for info in app.registered_commands}
    sentences = re.compile(r"(?!The |An? )[A-Z](?=\S* )[^\[\]]*\.( \[default: [^\[\]]+\])?", re.DOTALL)
    assert [name for name, text in texts.items() if not sentences.fullmatch(text.replace("[0, 1]", "0 to 1"))] == []


def test_help_shows_the_words_to_choose_from():
    answer = inside("evaluate", "--help").stdout
    for words in ("standard|smoke", "auto|cpu|cuda", "auto|onnxruntime|torch|compiled", "auto|rich|plain|none"):
        assert words in answer
    # in its sentence: beside a metavar, not every Typer from 0.26 on shows an argument's choices
    said = set(re.findall(r"\w+", inside("list", "--help").stdout))
    assert set(get_args(ListKind)) <= said


def test_the_command_line_starts_as_a_module_too():
    command = [sys.executable, "-m", "foolbench.bench.cli", "list", "--help"]
    answer = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Usage: foolbench list " in answer.stdout


def test_version():
    answer = inside("--version")
    assert (answer.returncode, answer.stdout.split()[0]) == (0, "foolbench")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["evalute", "x.yaml"], "FB114", "Did you mean 'evaluate'"),
        (["evaluate"], "FB114", "Missing argument"),
        (["evaluate", "x.yaml", "--tire", "smoke"], "FB114", "No such option: --tire"),
        (["evaluate", "x.yaml", "--workers", "0"], "FB114", "'--workers'"),
        (["evaluate", "x.yaml", "--workers", "two"], "FB114", "'--workers'"),
        (["evaluate", "x.yaml", "--fail-under", "half"], "FB114", "'--fail-under'"),
        (["evaluate", "x.yaml", "--tier", "smokey"], "FB113", "fix: --tier smoke"),
        (["evaluate", "x.yaml", "--device", "tpu"], "FB113", "auto, cpu, cuda"),
        (["evaluate", "x.yaml", "--progress", "fancy"], "FB113", "auto, rich, plain, none"),
        (["evaluate", "smoke", "--tier=smok"], "FB113", "got 'smok'. fix: --tier smoke"),
        (
            ["list"],
            "FB114",
            "foolbench list: Expected arguments as --help has them, got others (Missing argument 'KIND'",
        ),
        (["list", "attack"], "FB113", "fix: foolbench list attacks"),
        (["train", "digits-lenett"], "FB113", "fix: foolbench train digits-lenet"),
        (["explain", "FB999"], "FB113", "FB104"),
        (["panel", "no-such-battery", "--out", "x.npz"], "FB110", "error[FB110] battery: Expected one of"),
    ],
)
def test_what_is_not_understood_is_usage(arguments: list[str], code: str, words: str):
    assert words in refused(inside(*arguments), 2, code)
    if arguments[0] == "evaluate" and len(arguments) > 2:
        answer = inside(*arguments, "--json")
        error = one_document(answer)["error"]
        assert (answer.returncode, error["code"], error["exit_code"]) == (2, code, 2)
        assert error["fix"]


@pytest.mark.parametrize("kind", ["attacks", "defenses", "models", "batteries", "recipes"])
def test_lists(kind: str):
    answer = inside("list", kind)
    assert answer.returncode == 0
    expected = {
        "attacks": ("evolution", "cppn", "deepception", "one_pixel", "fgsm", "gradient_ascent"),
        "defenses": ("bit_depth", "jpeg", "median", "onnx"),
        "models": ("onnx", "timm"),
        "batteries": ("digits-v1",),
        "recipes": ("digits-lenet", "digits-panel"),
    }
    assert all(name in answer.stdout for name in expected[kind])


@pytest.mark.parametrize("command", [["evaluate", "--tier", "smoke"], ["validate"], ["probe"]])
def test_what_is_wrong_with_a_submission_is_told_without_torch(command: list[str], tmp_path: Path):
    """Which takes seconds to load."""
    code = "import sys; sys.modules['torch'] = None; from foolbench.bench.cli import main; main()"
    asked = [sys.executable, "-c", code, command[0], "nowhere.yaml", *command[1:]]
    answer = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "FB100" in answer.stderr
