"""What an installed foolbench is: its version, its types, its page on a package index, its sdist."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

import foolbench
import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("attacks", "bench", "defenses", "leaderboard", "models")


def test_the_version_is_that_of_the_installed_package():
    assert foolbench.__version__ == version("foolbench") == PYPROJECT["project"]["version"]
    with pytest.raises(AttributeError, match="module 'foolbench' has no attribute 'evaluate'"):
        _ = foolbench.evaluate  # pyright: ignore[reportAttributeAccessIssue]


def test_where_nothing_is_installed_the_version_is_unknown(tmp_path: Path):
    package = tmp_path / "foolbench"
    package.mkdir()
    shutil.copy(ROOT / "typings" / "foolbench" / "__init__.py", package)
    (package / "bench").symlink_to(ROOT / "bench")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import foolbench; print(foolbench.__version__)"
    bare = [sys.executable, "-I", "-S", "-c", program]  # neither this folder's metadata nor site-packages'
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0+unknown\n", "")


def test_the_package_says_that_it_is_typed():
    assert (Path(foolbench.__file__ or "").parent / "py.typed").is_file()
    assert PYPROJECT["tool"]["setuptools"]["package-data"]["foolbench"] == ["py.typed"]


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_every_link_of_the_readme_works_in_a_checkout_and_on_a_package_index():
    there = links((ROOT / "README.md").read_text(encoding="utf-8"))
    files = [link for link in there if not link.startswith("https://")]
    assert len(files) >= 10
    assert [name for name in files if not (ROOT / name.partition("#")[0]).exists()] == []
    description = runpy.run_path(str(ROOT / "setup.py"))["description"]()
    home = PYPROJECT["project"]["urls"]["Repository"]
    assert links(description) == [f"{home}/blob/main/{link}" if link in files else link for link in there]
    shown: Any = metadata("foolbench")
    assert [link for link in links(shown.get_payload()) if not link.startswith("https://")] == []


def test_no_message_names_a_page_that_no_wheel_contains():
    sources = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    pages = re.compile(r"\b(?:docs/\w+|README|CONTRIBUTING|CHANGELOG)\.md\b")
    found = {f"{path.relative_to(ROOT)}: {hit}" for path in sources for hit in pages.findall(path.read_text("utf-8"))}
    assert found == set()
