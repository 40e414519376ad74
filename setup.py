"""What pyproject.toml cannot say of the package: where the links of its README lead from a package index."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent


def description() -> str:
    """README.md with every link to a file of the repository made absolute; in a checkout they stay relative."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = f"{project['urls']['Repository']}/blob/main/"
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(?<=\]\()(?!https?://|#)(?=[^)\s]+\))", files, readme)


if __name__ == "__main__":
    setup(long_description=description(), long_description_content_type="text/markdown")
