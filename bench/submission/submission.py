"""submission.yaml -> `Submission`: a model, its defenses, who, which battery.

A submission is data: reading one runs nothing of it, and imports neither torch nor onnx.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from ...models.files import sha256_of
from ..choices import nearest
from ..errors import InvalidInput
from ..reading.arguments import is_path, wrong
from ..reading.source import Source, read_source
from ..reading.values import Spec, Text, Web, files_named, yaml_folder
from ..reading.wording import Refused
from .defenses import Defense, PackageDefense
from .models import Model
from .packages import distributions


def shipped_batteries() -> list[str]:
    """Names of the batteries that come with foolbench."""
    found = (Path(entry.name) for entry in resources("foolbench.bench.batteries").iterdir())
    return sorted(path.stem for path in found if path.suffix == ".yaml")


def _battery(name: str, info: ValidationInfo) -> str:
    folder = yaml_folder(info)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if folder is not None and not (folder / name).is_file():
            raise Refused("FB108", "a battery's YAML file", f"{name[:60]}, which is not there", "correct the path")
    elif name not in (shipped := shipped_batteries()):
        fix = f"battery: {nearest(name, shipped) or shipped[0]}"
        expected = f"{', '.join(shipped)} or the path of a YAML file"
        raise Refused("FB110", expected, repr(name[:60]), fix)
    return name


def _version(schema: int) -> int:
    if schema != 1:
        fix = "schema: 1, or update foolbench" if schema > 1 else "schema: 1"
        raise Refused("FB111", "schema 1", f"schema {schema}", fix)
    return schema


class Links(Spec):
    """Where to read on."""

    paper: Annotated[Web, Field(examples=["https://arxiv.org/abs/…"])] | None = None
    code: Annotated[Web, Field(examples=["https://github.com/…"])] | None = None


class Submission(Spec):
    """A model, the defenses in front of it, who made them, and the battery that measures them."""

    schema_version: Annotated[
        int, AfterValidator(_version), Field(alias="schema", examples=[1], json_schema_extra={"const": 1})
    ]
    """The version of this format."""
    name: Annotated[Text, Field(examples=["LeNet-5 behind 3-bit squeezing"])]
    """What the leaderboard calls it."""
    authors: Annotated[tuple[Text, ...], Field(min_length=1, max_length=100, examples=[["A. Author"]])]
    battery: Annotated[str, AfterValidator(_battery), Field(examples=["digits-v1"])]
    """A battery that comes with foolbench, or the path of a YAML file of one's own."""
    model: Annotated[Model, Field(examples=[{"kind": "onnx", "path": "model.onnx", "output": "logits"}])]
    defenses: Annotated[tuple[Defense, ...], Field(examples=[[{"kind": "bit_depth", "bits": 3}]])] = ()
    """Applied in this order."""
    links: Links = Links()


@dataclass(frozen=True)
class GivenSubmission:
    """A submission with the folder and the file it came from."""

    spec: Submission
    folder: Path
    """Where its relative paths start."""
    path: Path
    source: Source
    """For problems that only show later: `given.source.where(("model", "path"))` is a key's place."""
    as_given: dict[str, Any]
    """The YAML's values as they were written, defaults left out."""

    def files(self) -> dict[str, Path]:
        """Every file that it names, by the name in the YAML. A battery of one's own is not among them."""
        return {name: self.folder / name for name in files_named(self.spec)}

    def packages(self) -> dict[str, str]:
        """Every installed distribution that its defenses come from, and its version."""
        return distributions(defense.name for defense in self.spec.defenses if isinstance(defense, PackageDefense))

    def contents(self) -> dict[str, str]:
        """sha256 of every file that it names, by the name in the YAML. Raises OSError where one has gone meanwhile."""
        return {name: sha256_of(path) for name, path in self.files().items()}

    def digest(self, contents: Mapping[str, str] | None = None) -> str:
        """sha256 of what it means: the parsed values with all defaults, the content of every file it names, and the
        version of every installed package it names.

        Comments, formatting and the order of keys leave it alone. `contents` saves reading the files again where they
        were just read. Raises OSError where a file has gone meanwhile.
        """
        whole: dict[str, Any] = {"submission": self.spec.model_dump(mode="json", by_alias=True)}
        whole["files"] = dict(self.contents() if contents is None else contents)
        if packages := self.packages():
            whole["packages"] = packages
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_submission(path: str | os.PathLike[str]) -> GivenSubmission:
    """Read and check a submission.yaml and the presence (and sha256, where given) of its files.

    Raises InvalidInput with all Problems.
    """
    if not is_path(path):
        raise InvalidInput(wrong("path", "the path of a submission.yaml", path, 'read_submission("submission.yaml")'))
    path = Path(path)
    spec, source = read_source(path, Submission, context={"folder": path.parent})
    return GivenSubmission(spec, path.parent, path, source, source.value)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a submission, for editors."""
    schema = Submission.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "foolbench submission"}
