"""README, CONTRIBUTING and docs/*.md: their fenced blocks, and a reader who does what they say."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import sys
import textwrap
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.spec import BatterySpec
from foolbench.bench.submission.submission import Submission
from small_runs import inside

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
CHEAPER = {"evaluate": {"--tier": "smoke"}, "harden": {"--epochs": "1", "--training-images": "200"}}
"""What the default tests add to a command that says nothing of it; the slow tests add nothing."""
FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run in tests: (.+?) -->\s*\Z")
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|toml|yaml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    """Of the page, where its text begins."""
    language: str
    text: str
    """Without the indentation of a list."""
    not_run: str | None
    """Why not, as the HTML comment right above it says; None where it is run."""

    @property
    def file(self) -> str | None:
        """The file that it is, where its first line is a comment of only that name."""
        named = FILE_NAME.match(self.text)
        return named and named[1]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Every fenced block of a page, in order. `text` stands in for a page that is not there."""
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    found = []
    for fence in FENCE.finditer(text):
        reason = NOT_RUN.search(text, 0, fence.start())
        line = text.count("\n", 0, fence.start()) + 2
        found.append(Block(page, line, fence[2].strip(), textwrap.dedent(fence[3]), reason and reason[1]))
    return found


def module(block: Block) -> ModuleType:
    """A block of Python as the module of `foolbench`, or of its own, that its file would be; not run yet."""
    *package, name = Path(block.file or "example.py").with_suffix("").parts
    made = ModuleType(".".join(["foolbench", *package, name] if package else [name]))
    made.__package__ = made.__name__.rpartition(".")[0]
    return made


def example(page: str, name: str) -> Any:
    """What a page's Python defines under a name, its block run alone."""
    (block,) = [b for b in blocks(page) if re.search(rf"^(?:def|class) {name}\b", b.text, re.MULTILINE)]
    made = module(block)
    exec(compile(block.text, str(block), "exec"), vars(made))
    return getattr(made, name)


def commands(text: str) -> list[tuple[dict[str, str], list[str]]]:
    """What a block asks of a shell: each command's environment and its words, without `uv run`.

    Raises ValueError where a shell would do more than start one command after the other.
    """
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            own, words = words[:end], words[end + 1 :]
            if odd := [word for word in own if not re.fullmatch(r"[\w ./:,=+@~-]+", word)]:
                raise ValueError(f"expected plain words for a shell, got {odd[0]!r} in {line!r}")
            environment = {}
            while own and re.match(r"[A-Z_]+=", own[0]):
                name, _, environment[name] = own.pop(0).partition("=")
            own = own[2:] if own[:2] == ["uv", "run"] else own
            found.append((environment, own[2:] if own[:1] == ["--group"] else own))
    return found


def cheaper(words: list[str]) -> list[str]:
    """What the default tests add to a foolbench command."""
    more = CHEAPER.get(words[1], {}) if words[0] == "foolbench" else {}
    return [word for option, value in more.items() if option not in words for word in (option, value)]


@dataclass
class Reader:
    """Does what a page says, block by block, in a folder of its own that is the current one."""

    folder: Path
    patch: pytest.MonkeyPatch
    cheaper: bool = True
    """Whether CHEAPER is added."""
    names: dict[str, Any] = field(default_factory=dict)
    """What the page's Python has at hand."""

    def __post_init__(self) -> None:
        self.patch.chdir(self.folder)
        self.patch.syspath_prepend(str(self.folder))
        shutil.copytree(ROOT / "submissions", self.folder / "submissions")
        lenet = self.folder / "submissions/digits-lenet"
        shutil.copyfile(lenet / "lenet.onnx", "lenet.onnx")
        self.submission: dict[str, Any] = yaml.safe_load((lenet / "submission.yaml").read_text())
        self.battery: dict[str, Any] = yaml.safe_load((ROOT / "bench/batteries/digits-v1.yaml").read_text())
        self.battery.pop("panel")  # its files lie elsewhere; transfer would ask about its models' images
        for part in (self.battery, self.battery["smoke"]):
            part["attacks"].pop("transfer")
        for row in self.battery["ranked"]:
            row["entries"] = [name for name in row["entries"] if name != "transfer"]

    def follow(self, block: Block) -> None:
        """Do what a block says. Raises, or fails, where that does not work."""
        if block.not_run is not None:
            if block.language in ("sh", "bash"):
                for _, words in commands(block.text):
                    understood(words)
            return
        match block.language:
            case "sh" | "bash":
                for environment, words in commands(block.text):
                    self.start(environment, words)
            case "python":
                self.python(block)
            case "yaml":
                self.yaml(block)
            case "toml":
                self.toml(block)
            case "text":
                pass
            case other:
                raise ValueError(f"expected a block of sh, bash, python, yaml, toml or text, got {other!r}")

    def start(self, environment: dict[str, str], words: list[str]) -> None:
        """Run a foolbench command in this process; a start of torch for each would take most of the time."""
        if words[0] != "foolbench":
            raise ValueError(f"expected a foolbench command, got {' '.join(words)}: say in a comment why it is not run")
        understood(words)
        more = cheaper(words) if self.cheaper else []
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            answer = inside(*words[1:], *more)
        assert answer.returncode == 0, f"{' '.join(words)}\n{answer.stderr}"

    def python(self, block: Block) -> None:
        """Run Python in one namespace a page, a named file as the module that it would be."""
        code = compile(block.text, str(block), "exec")
        if block.file is None:
            exec(code, self.names)
            return
        made = module(block)
        self.patch.setitem(sys.modules, made.__name__, made)
        exec(code, vars(made))
        self.names |= {key: value for key, value in vars(made).items() if not key.startswith("__")}

    def yaml(self, block: Block) -> None:
        """Check a submission, a battery, or a part of either in a whole one that is good without it."""
        given = yaml.safe_load(block.text)
        if set(given) <= names_of(Submission):
            whole = self.submission | given
            path = self.written(block, "submission.yaml", given, whole)
            answer = inside("validate", path)
            assert answer.returncode == 0, answer.stderr
        elif set(given) <= names_of(BatterySpec):
            whole = self.battery | given
            path = self.written(block, "battery.yaml", given, whole)
            read_battery(f"./{path}")
            if whole.get("smoke"):
                read_battery(f"./{path}", tier="smoke")
            self.battery = whole
        else:
            raise ValueError(f"expected keys of a submission or of a battery, got {', '.join(given)}")

    def written(self, block: Block, name: str, given: dict[str, Any], whole: dict[str, Any]) -> str:
        """Save YAML under the block's name, or else `name`: as it stands where it is whole."""
        own = block.file or name
        is_whole = "schema" in given
        Path(own).write_text(block.text if is_whole else yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        return own

    def toml(self, block: Block) -> None:
        """Install what a pyproject.toml registers, as an installer would."""
        groups = tomllib.loads(block.text)["project"]["entry-points"]
        lines = [f"[{group}]\n{name} = {where}" for group, own in groups.items() for name, where in own.items()]
        info = self.folder / "page-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: page\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()


def names_of(model: Any) -> set[str]:
    """The keys that its YAML may have."""
    return {info.alias or name for name, info in model.model_fields.items()}


def command(name: str) -> Any:
    """A command of foolbench, as Typer makes it."""
    from foolbench.bench.cli.app import app
    from typer.main import get_command

    known: dict[str, Any] = getattr(get_command(app), "commands")  # noqa: B009, since Typer names no type that has it
    assert name in known, f"foolbench has no command {name}"
    return known[name]


def understood(words: list[str]) -> None:
    """Check that a command has the options that it is given, without doing what it says."""
    match words:
        case ["foolbench", name, *rest]:
            command(name).make_context(name, rest)
        case ["python", script, *rest]:
            text = (ROOT / script).read_text(encoding="utf-8")
            for option in (word for word in rest if word.startswith("--")):
                assert f'"{option}"' in text, f"{script} has no option {option}"
        case ["uv", "sync"] | ["pytest" | "ruff" | "pyright", *_]:
            pass
        case _:
            raise ValueError(f"expected foolbench, a script of this project or one of its tools, got {' '.join(words)}")
