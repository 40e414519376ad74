"""README, CONTRIBUTING and docs/*.md: every block works, every file, command and option that they name is there."""

import gzip
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.bench.battery.ready import read_ready
from foolbench.bench.cli.explain import EXPLANATIONS
from foolbench.bench.submission.submission import json_schema
from foolbench.bench.victim.assemble import panel_member
from pages import PAGES, ROOT, Block, Reader, blocks, cheaper, command, commands
from planted import ground
from sklearn.datasets import load_digits

NOT_RUN = {
    ("README.md", "uv run pytest"),
    ("CONTRIBUTING.md", "uv sync                 # the environment, in .venv, with foolbench installed in place"),
    ("CONTRIBUTING.md", "uv run ruff check && uv run ruff format --check && uv run pyright"),
    ("docs/batteries.md", "FOOLBENCH_DOWNLOAD=1 foolbench evaluate submission.yaml --tier smoke"),
    ("docs/defenses.md", "uv run python tests/benchmarks/defenses.py"),
    ("docs/discrimination.md", "uv run python tests/benchmarks/discrimination.py --make digits"),
    ("docs/harden.md", "foolbench harden --battery mnist-v1 --training-images 10000"),
    ("docs/harden.md", "foolbench harden --battery mnist-v1 --how fooling-class"),
    ("docs/published.md", "uv run python tests/benchmarks/published.py --quick"),
    ("docs/speed.md", "uv run --group peers python tests/benchmarks/speed.py --quick"),
}
"""Page, and how the block begins, of those that are not run. Each says in the page why not; nothing else may join."""


# what a page says is there


def readme(folder: Path) -> dict[str, Any]:
    """Any torch.nn.Module that takes (n, 1, 8, 8) in [0, 1]."""
    torch.manual_seed(0)
    return {"module": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))}


def defenses(folder: Path) -> dict[str, Any]:
    """The networks and the detector that its submissions name; validating one looks no further than that."""
    for name in ("second", "third", "detector"):
        (folder / f"{name}.onnx").write_bytes((folder / "lenet.onnx").read_bytes())
    return {}


def own_battery(folder: Path) -> dict[str, Any]:
    """MNIST's four IDX files, of digits enlarged to 28×28, and the model of the panel."""
    shutil.copy(ROOT / "models/panel/mnist-lenet-a.onnx", folder)
    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 8, 8) * (255 / 16), np.ones((1, 3, 3))).astype("u1")
    large = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    for name, part in (("t10k", slice(600)), ("train", slice(600, None))):
        x, y = large[part], labels[part].astype("u1")
        header = struct.pack(">4I", 0x803, *x.shape), struct.pack(">2I", 0x801, len(y))
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header[0] + x.tobytes()))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header[1] + y.tobytes()))
    return {}


THERE: dict[str, Callable[[Path], dict[str, Any]]] = {
    "README.md": readme,
    "docs/defenses.md": defenses,
    "docs/own-battery.md": own_battery,
}


def read_through(page: str, reader: Reader) -> None:
    if page in THERE:
        reader.names |= THERE[page](reader.folder)
    for block in blocks(page):
        try:
            reader.follow(block)
        except BaseException as error:
            error.add_note(f"in the block at {block}")
            raise


# the blocks


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_works(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read_through(page, Reader(tmp_path, monkeypatch))


def test_the_panel_of_a_battery_of_one_s_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = "docs/own-battery.md"
    reader = Reader(tmp_path, monkeypatch, names=own_battery(tmp_path))
    convert, whole, panel = blocks(page)[0], *(b for b in blocks(page) if re.match("# mnist.yaml|panel:", b.text))
    reader.follow(convert)
    (tmp_path / "mnist.yaml").write_text(whole.text + panel.text)
    on = ground(read_ready("./mnist.yaml"))
    assert on.spec.panel is not None
    (model,) = on.spec.panel.models
    assert panel_member(on, model).certificate.agrees


def costly(page: str) -> bool:
    """Whether the test above runs less than the page says."""
    run = [block for block in blocks(page) if block.language in ("sh", "bash") and not block.not_run]
    return any(cheaper(words) for block in run for _, words in commands(block.text))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if costly(page)])
def test_every_block_of_a_page_works_as_it_stands(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read_through(page, Reader(tmp_path, monkeypatch, cheaper=False))


def test_only_these_blocks_are_not_run():
    left_out = {(block.page, block.text) for page in PAGES for block in blocks(page) if block.not_run}
    expected = {(page, text) for page, text in left_out for p, start in NOT_RUN if p == page and text.startswith(start)}
    assert (left_out, len(left_out)) == (expected, len(NOT_RUN))


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("sh", "foolbench evaluate submissions/digits-lenet/submission.yaml --teir smoke", "teir"),
        ("sh", "foolbench evalate submission.yaml", "no command evalate"),
        ("sh", "foolbench validate lenet.onnx", "FB10"),
        ("sh", "foolbench list attacks | head", "plain words"),
        ("sh", "uv sync", "say in a comment why"),
        ("python", "1 / 0", "division by zero"),
        ("yaml", "defenses: [{kind: bit_depht}]", "bit_depht"),
        ("yaml", "shape: [2, 8, 8]", "shape"),
        ("yaml", "colour: red", "keys of a submission or of a battery"),
        ("", "foolbench", "expected a block of sh"),
    ],
)
def test_a_mistake_in_a_block_is_found(
    language: str, text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (block,) = blocks("page.md", f"Words.\n\n```{language}\n{text}\n```\n")
    reader = Reader(tmp_path, monkeypatch)
    with pytest.raises(BaseException, match=re.escape(said)):
        reader.follow(block)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("foolbench evaluate submission.yaml --teir smoke", "teir"),
        ("uv run python tests/benchmarks/speed.py --quickly", "no option --quickly"),
        ("uv run python tests/benchmarks/fast.py", "fast.py"),
        ("make", "one of its tools"),
    ],
)
def test_a_mistake_in_a_block_that_is_not_run_is_found(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (block,) = blocks("page.md", f"<!-- not run in tests: it takes hours -->\n```sh\n{text}\n```\n")
    assert block.not_run == "it takes hours"
    with pytest.raises(BaseException, match=said):
        Reader(tmp_path, monkeypatch).follow(block)


def test_blocks_are_found_with_their_lines_and_reasons():
    page = (
        "A\n\n1. B\n\n   ```python\n   x = 1\n   ```\n<!-- not run in tests: why -->\n```sh\nls\n```\n\n```text\n```\n"
    )
    assert blocks("p.md", page) == [
        Block("p.md", 6, "python", "x = 1\n", None),
        Block("p.md", 10, "sh", "ls\n", "why"),
        Block("p.md", 14, "text", "", None),
    ]


def test_commands_are_read_as_a_shell_reads_them():
    assert commands("A=1 foolbench x 'a b' \\\n  --c  # why\nuv run --group peers python f.py && uv run pytest\n") == [
        ({"A": "1"}, ["foolbench", "x", "a b", "--c"]),
        ({}, ["python", "f.py"]),
        ({}, ["pytest"]),
    ]


# the sentences


def inline(page: str) -> list[str]:
    """What stands between backquotes in the page's sentences."""
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_project_that_a_page_names_are_there(page: str):
    folders = "attacks|bench|defenses|docs|leaderboard|models|submissions|tests"
    named = [code for code in inline(page) if re.fullmatch(rf"(?:{folders})/[\w./-]*", code) and "NAME" not in code]
    assert [code for code in named if not (ROOT / code).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_a_page_names_are_there(page: str):
    for code in inline(page):
        if found := re.match(r"(?:uv run )?foolbench ([a-z]+)\b", code):
            known = {option for parameter in command(found[1]).params for option in parameter.opts}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", code)) <= known, code


@pytest.mark.parametrize("page", PAGES)
def test_errors_that_a_page_names_are_explained(page: str):
    assert set(re.findall(r"\bFB\d+", (ROOT / page).read_text(encoding="utf-8"))) <= set(EXPLANATIONS)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_no_page_counts_the_attacks(page: str):
    """A number would be wrong as soon as there is another one."""
    numbers = "two|three|four|five|six|seven|eight|nine|ten"
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(rf"\b(?:{numbers}) attacks\b", text, re.IGNORECASE) == []


def test_the_pages_name_every_key_and_kind_of_a_submission():
    words = set(re.findall(r"\w+", " ".join(inline("docs/submission.md") + inline("docs/defenses.md"))))
    assert keys_of(json_schema()) - words == set()


def keys_of(schema: Any) -> set[str]:
    """Every name in it that a YAML may hold: of keys, and of kinds."""
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", ())) | ({schema["const"]} if isinstance(schema.get("const"), str) else set())
    return own.union(*map(keys_of, schema.values()))


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_project_lead_somewhere(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target
