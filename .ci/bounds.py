"""Whether each lower bound of pyproject.toml is true: run in an environment that was resolved to the lowest versions.

A bound below what another requirement asks for is never installed, so nothing ever shows that it works.
"""

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))

wrong = []
for line in (*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]):
    asked = Requirement(line)
    if asked.marker is None or asked.marker.evaluate():
        (bound,) = asked.specifier
        if Version(Version(version(asked.name)).public) != Version(bound.version):
            wrong.append(f"{line}: the lowest that can be installed is {version(asked.name)}")
sys.exit("\n".join(wrong) or 0)
