"""A name in the table of attacks whose file is not as the table says: who adds an attack is told which and where."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foolbench import attacks
from foolbench.bench.battery import battery
from foolbench.bench.errors import Unexpected
from small_runs import inside, one_document

TABLE = "NAMES in attacks/__init__.py lists"
FILES = {
    "gone": (None, f"a file attacks/gone.py for 'gone', which {TABLE}", "nothing there"),
    "empty": ("", f"attacks/empty.py, which {TABLE}, to declare ATTACK", "no ATTACK"),
    "number": ("ATTACK = 3", f"attacks/number.py, which {TABLE}, to declare ATTACK", "an ATTACK of the type int"),
    "other": ("from foolbench.attacks.fgsm import ATTACK", "ATTACK in attacks/other.py to be named 'other'", "'fgsm'"),
    "needy": (
        "import surely_not_there",
        f"attacks/needy.py, which {TABLE}, to be imported",
        "ModuleNotFoundError: No module named 'surely_not_there'",
    ),
    "failing": ("1 / 0", f"attacks/failing.py, which {TABLE}, to be imported", "ZeroDivisionError: division by zero"),
}


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """These files beside foolbench's own, and their names in the table."""
    for name, (text, *_) in FILES.items():
        if text is not None:
            (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(attacks, "__path__", [*attacks.__path__, str(tmp_path)])
    monkeypatch.setattr(attacks, "NAMES", (*attacks.NAMES, *FILES))
    battery.form_of.cache_clear()
    yield
    battery.form_of.cache_clear()
    for name in FILES:
        sys.modules.pop(f"foolbench.attacks.{name}", None)


@pytest.mark.parametrize("name", FILES)
def test_each_is_told_with_its_file(name: str):
    with pytest.raises(Unexpected) as caught:
        attacks.declared(name)
    assert (caught.value.expected, caught.value.got) == FILES[name][1:]


@pytest.mark.parametrize("command", [("list", "attacks"), ("validate", "submissions/digits-lenet/submission.yaml")])
def test_the_command_line_tells_all_at_once(command: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    answer = inside(*command)
    assert answer.returncode == 2
    assert answer.stdout == ""
    told = [line for line in answer.stderr.splitlines() if line.startswith("error[")]
    assert [line.partition("Expected ")[2] for line in told] == [f"{e}, got {g}." for _, e, g in FILES.values()]
    assert all(line.startswith("error[FB116] the table of attacks: ") for line in told)
    if command[0] == "validate":
        errors = one_document(inside(*command, "--json"))["errors"]
        assert errors[0]["fix"] == "write the file, or take 'gone' out of NAMES"
