"""The rules of the house: who imports whom, what is packaged, and what no file may name."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attacks", "bench", "defenses", "leaderboard", "models")
FLOORS = (
    {"cli"},
    {"evaluation", "probe", "replay", "findings"},
    {"honesty"},
    {"scores"},
    {"running", "harden", "spread"},
    {"asking", "victim", "isolation"},
    {"battery"},
    {"data", "submission"},
    {"reading", "machine"},
    {"choices"},
    {"errors"},
)
"""Rooms of bench, the top floor first. A room imports what stands below it, and the leaves."""
LEAVES = {
    "attacks": {"attacks"},
    "models": {"models"},
    "defenses": {"defenses", "models.base", "models.answers", "models.levels"},
    "leaderboard.record": {"leaderboard.record"},
    "leaderboard.board": {"leaderboard.board", "leaderboard.record"},
    "leaderboard.site": {"leaderboard.site", "leaderboard.board", "leaderboard.record"},
}
"""What each package outside bench imports of ours, beside `bench.errors`, which is the floor of the house."""
PROBE_DRAWS = {"leaderboard.site.maps", "leaderboard.site.figures"}
"""A probe's pictures are drawn as the site draws them."""


def modules(root: Path) -> dict[str, Path]:
    """Dotted name below `foolbench` -> file, of every module in the packages."""
    found = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """Every module -> all that it imports, lazily or not: the project's own by their dotted names below `foolbench`,
    others by their full name."""
    known = modules(root)
    return {name: _imported(name, file, set(known)) for name, file in known.items()}


def _imported(name: str, file: Path, known: set[str]) -> set[str]:
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # level 1 is the module's own package; "foolbench" itself is one level above the packages
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                full = f"{source}.{alias.name}".strip(".")
                found.add(full if node.level and full in known else source)
    return found


def home(name: str) -> str:
    """The room or leaf that a module stands in: `bench.cli`, `leaderboard.site`, `attacks`."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] in ("bench", "leaderboard") else parts[0]


def allowed(name: str, other: str) -> bool:
    """Whether a module of ours may import another."""
    room, target = home(name), home(other)
    floors = {f"bench.{room}": floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    if room == target or target == "bench.errors" or name == "bench":  # bench itself is the door, which opens lazily
        return True
    if room in LEAVES:
        return bool({other, target} & LEAVES[room])
    if target in ("leaderboard.site", "leaderboard.board"):
        return room == "bench.cli" or (room == "bench.probe" and other in PROBE_DRAWS)
    return target in LEAVES or (room in floors and target in floors and floors[room] < floors[target])


def wrong_directions(root: Path) -> list[str]:
    """Each import that crosses the house the wrong way."""
    wrong = []
    for name, found in imports(root).items():
        for other in sorted(found):
            if other.split(".")[0] == "foolbench":
                wrong.append(f"{name} imports {other} by its full name; inside the packages imports are relative")
            elif other.split(".")[0] in PACKAGES and not allowed(name, other):
                wrong.append(f"{name} imports {other}")
    return wrong


def test_rooms_import_only_what_stands_below_them():
    assert wrong_directions(ROOT) == []


def test_every_room_has_a_floor():
    rooms = {path.name for path in (ROOT / "bench").iterdir() if (path / "__init__.py").is_file()}
    assert rooms - {"batteries"} <= set().union(*FLOORS)


def test_no_module_imports_itself_in_the_end():
    own = modules(ROOT)
    graph = {
        name: {other for other in found if other in own and other != name} for name, found in imports(ROOT).items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_a_planted_violation_is_found(tmp_path: Path):
    files = {
        "models/base.py": "import foolbench.bench\n",
        "defenses/good.py": "from ..models.base import Classifier\nfrom ..bench import run\n",
        "attacks/inner/lazy.py": "def f():\n    from ...models import base\n",
        "attacks/refuses.py": "from ..bench.errors import Problem\n",
        "leaderboard/site/__init__.py": "from ... import attacks\nfrom ..record import store\n",
        "leaderboard/record/store.py": "from ..site import maps\n",
        "bench/errors.py": "from .machine import npz\n",
        "bench/cli/app.py": "from ...leaderboard.site import pages\nfrom ..probe import probe\n",
        "bench/probe/probe.py": "from ...leaderboard.site.maps import Map\nfrom ...leaderboard.site import pages\n",
        "bench/evaluation/api.py": "from ..cli import app\nfrom ..probe import probe\nfrom ..asking import read\n",
        "bench/asking/read.py": "def f():\n    from ..running.drive import ask\n    from ..victim.load import load\n",
        "bench/new/room.py": "from ..machine import npz\n",
        "attacks/__init__.py": "",
        "leaderboard/site/maps.py": "",
        "leaderboard/site/pages.py": "",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert wrong_directions(tmp_path) == [
        "attacks.inner.lazy imports models.base",
        "bench.asking.read imports bench.running.drive",
        "bench.asking.read imports bench.victim.load",
        "bench.errors imports bench.machine",
        "bench.evaluation.api imports bench.cli.app",
        "bench.evaluation.api imports bench.probe.probe",
        "bench.new.room imports bench.machine",
        "bench.probe.probe imports leaderboard.site.pages",
        "defenses.good imports bench",
        "leaderboard.record.store imports leaderboard.site.maps",
        "leaderboard.site imports attacks",
        "models.base imports foolbench.bench by its full name; inside the packages imports are relative",
    ]


def test_the_leaderboard_names_no_heavy_library():
    heavy = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "sklearn"}
    found = {
        f"{name} imports {other}"
        for name, others in imports(ROOT).items()
        for other in others
        if name.split(".")[0] == "leaderboard" and other.split(".")[0] in heavy
    }
    assert found == set()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([n for n in modules(ROOT) if n.split(".")[0] == "leaderboard"], id="leaderboard"),
        pytest.param(["bench"], id="bench"),
        pytest.param(["bench.cli"], id="cli"),
        pytest.param([n for n, file in modules(ROOT).items() if file.name == "__init__.py"], id="every __init__"),
    ],
)
def test_importing_it_does_not_import_torch(names: list[str]):
    statements = "; ".join(f"import foolbench.{name}" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {statements}; sys.exit('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_package_of_the_tree_is_packaged():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    folders = {file.parent.relative_to(ROOT).as_posix() for file in files}
    names = {f"foolbench.{folder.replace('/', '.')}": folder for folder in folders}
    names["foolbench"] = "typings/foolbench"
    assert setuptools["packages"] == sorted(names)
    assert setuptools["package-dir"] == names
    assert [folder for folder in sorted(names.values()) if not (ROOT / folder / "__init__.py").is_file()] == []


def checked_in() -> list[str]:
    """Paths that git tracks or would, relative to the root."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout, to know which files belong to the project")
    return [path for path in listed.decode().split("\0") if path and (ROOT / path).is_file()]


def test_no_file_names_a_machine_path_or_a_package_index():
    # Every word has a letter in brackets, so that this file passes its own test.
    hosts = rb"py[p]i\.org|python[h]osted|registry\.npm[j]s|deb\.deb[i]an\.org"
    paths = rb"(?<![\w./~-])/(?:wor[k]|roo[t]|hom[e]|User[s])/"
    forbidden = re.compile(hosts + b"|" + paths, re.IGNORECASE)
    found = [
        f"{path}: {hit.group().decode()}"
        for path in checked_in()
        for hit in forbidden.finditer((ROOT / path).read_bytes())
    ]
    assert found == []


def test_no_lock_file_is_checked_in():
    assert [path for path in checked_in() if Path(path).name == "uv.lock"] == []


def test_no_file_is_long():
    lines = {path: (ROOT / path).read_bytes().count(b"\n") for path in checked_in() if path.endswith(".py")}
    assert {path: n for path, n in lines.items() if n > (400 if path.startswith("tests/") else 300)} == {}


TOGETHER = {"battery", "data", "device", "memory", "backend"}
"""What a Ground holds (bench/battery/ground.py): it travels as one thing."""
APART = {"bench.battery.ground.Ground", "bench.evaluation.api.evaluate"}
"""Where it is put together: the thing itself, and the door that a user knocks at."""


def test_what_makes_a_ground_travels_as_one():
    found = {
        name: sorted(TOGETHER & set(parts))
        for name, parts in signatures(ROOT).items()
        if len(TOGETHER & set(parts)) >= 3 and name not in APART
    }
    assert found == {}


def signatures(root: Path) -> dict[str, list[str]]:
    """Every function's parameters and every class's fields (but for texts, which tell of a thing and are none), by the
    dotted name below `foolbench`."""
    found: dict[str, list[str]] = {}

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}" if isinstance(child, DEFINED) else name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                given = child.args
                found[inner] = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            elif isinstance(child, ast.ClassDef):
                fields = [f for f in child.body if isinstance(f, ast.AnnAssign) and ast.unparse(f.annotation) != "str"]
                found[inner] = [f.target.id for f in fields if isinstance(f.target, ast.Name)]
            walk(child, inner)

    for name, file in modules(root).items():
        walk(ast.parse(file.read_text(encoding="utf-8")), name)
    return found


DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


SPLATS = {
    "create_model": "Pydantic's own, which makes a class of fields",
    "timm.create_model": "arguments of timm's, which a submission names",
    "helper.make_node": "attributes of an ONNX node",
    "factory": "arguments of a package's own factory, which a submission names",
    "case.example.factory": "the same, of its example",
    "AttackResult": "Pydantic checks what it is given",
    "Variant": "Pydantic checks what it is given",
    "ShardResult": "arrays by the names of a dataclass's fields",
    "Maps": "arrays by the names of a dataclass's fields",
    "arrays": "an npz's arrays by their names, all of one type",
    "replace": "dataclasses.replace",
}
"""Who may be given keywords as a mapping, and why no type checker is missed there."""


def test_keywords_are_written_out():
    """A mapping of anything hides from the type checker what a function is given."""
    found = []
    for name, file in modules(ROOT).items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(keyword.arg is None for keyword in node.keywords):
                callee = ast.unparse(node.func)
                found += [] if callee in SPLATS or name.startswith("attacks.") else [f"{name}: {callee}(**…)"]
            elif isinstance(node, ast.FunctionDef) and node.args.kwarg is not None:
                kind = node.args.kwarg.annotation
                if kind is None or "Any" in ast.unparse(kind):
                    found.append(f"{name}: {node.name}(**{node.args.kwarg.arg})")
    assert found == []


def test_no_loader_has_more_than_eight_parameters():
    """What they share is Conditions (models/conditions.py)."""
    found = {
        name: len(parts)
        for name, parts in signatures(ROOT).items()
        if name.startswith(("models.", "bench.victim.")) and name != "models.certificate.certify"
        if name.rpartition(".")[2][0].islower() and len(set(parts) - {"self"}) > 8
    }
    assert found == {}
