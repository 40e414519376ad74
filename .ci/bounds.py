"""Whether each lower bound of pyproject.toml is true: run in an environment that was resolved to the lowest versions.

A bound below what another requirement asks for is never installed, so nothing ever shows that it works.
"""

import platform
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]

wrong = []
if PROJECT["requires-python"] != ">=" + ".".join(platform.python_version_tuple()[:2]):
    wrong.append(f"requires-python {PROJECT['requires-python']}: this is Python {platform.python_version()}")
for line in (*PYPROJECT["build-system"]["requires"], *PROJECT["dependencies"], *PYPROJECT["dependency-groups"]["dev"]):
    asked = Requirement(line)
    if asked.marker is None or asked.marker.evaluate():
        (bound,) = asked.specifier
        installed = version(asked.name)
        if Version(Version(installed).public) != Version(bound.version):
            wrong.append(f"{line}: the lowest that can be installed is {installed}")
sys.exit("\n".join(wrong) or 0)
