"""The kinds of value that a foolbench YAML is made of, with their checks; Pydantic types to build models from.

A file that a YAML names lies in the YAML's own folder, so that the folder can be sent to someone else, and one from
someone else cannot reach out of it. Where the validation context holds `folder`, the files themselves are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from ...models.files import sha256_of
from ..choices import nearest
from ..errors import one_line
from .wording import Refused

_HEX = frozenset("0123456789abcdef")


MOST_TEXT = 120


def is_text(value: object) -> bool:
    """Whether a Python value is what `Text` takes: 1 to 120 printable characters, not all of them spaces."""
    return isinstance(value, str) and len(value) <= MOST_TEXT and bool(value.strip()) and value.isprintable()


def _text(text: str) -> str:
    if not is_text(text):
        raise Refused("FB104", "printable text", repr(text[:60]), "use letters, digits, punctuation, spaces")
    return text.strip()


def _web(address: str) -> str:
    refused = Refused("FB104", "a web address", repr(address[:60]), "begin with https://")
    try:
        parts = urlsplit(address)
    except ValueError:
        raise refused from None
    legal = parts.scheme in ("http", "https") and parts.hostname and address.isprintable() and " " not in address
    if not legal:
        raise refused
    return address


def _sha256(digest: str) -> str:
    if len(digest) != 64 or not _HEX.issuperset(digest.lower()):
        got = f"{len(digest)} characters"
        raise Refused("FB104", "the 64 hexadecimal digits of a sha256", got, "paste what `sha256sum FILE` prints")
    return digest.lower()


def _inside(name: str, info: ValidationInfo) -> str:
    """A relative path that stays in the folder; that it leads to a file is checked where the folder is known."""
    path = PurePosixPath(name)
    fix = "put the file beside the YAML and write its name alone"
    if not path.parts or path.is_absolute() or ":" in path.parts[0]:
        raise Refused("FB109", "a path relative to the YAML's folder", repr(name[:60]), fix)
    if ".." in path.parts or "\\" in name or not name.isprintable():
        raise Refused("FB109", "a path inside the YAML's folder, without `..`", repr(name[:60]), fix)
    folder = yaml_folder(info)
    if folder is not None:
        try:
            target = (folder / path).resolve()
            there, is_folder = target.is_file(), target.is_dir()
        except (OSError, RuntimeError) as error:  # a loop of links, a name too long
            got = f"{name[:60]!r} ({one_line(error)})"
            raise Refused("FB108", "a path that can be followed", got, "correct the path") from None
        if not target.is_relative_to(folder.resolve()):
            raise Refused("FB109", "a file inside the YAML's folder", f"{name[:60]!r}, which is a link out of it", fix)
        if not there:
            got = f"{path.as_posix()}, which is {'a folder' if is_folder else 'not there'}"
            near = nearest(path.name, sorted(p.name for p in (folder / path.parent).glob("*") if p.is_file()))
            fix = f"did you mean {(path.parent / near).as_posix()}?" if near else "put it beside the YAML"
            raise Refused("FB108", "a file", got, fix)
    return path.as_posix()


def yaml_folder(info: ValidationInfo) -> Path | None:
    """The folder of the YAML that is being read, where it is known."""
    return info.context.get("folder") if isinstance(info.context, dict) else None


Text = Annotated[str, Field(min_length=1, max_length=MOST_TEXT), AfterValidator(_text)]
Web = Annotated[str, Field(max_length=2000), AfterValidator(_web)]
Sha256 = Annotated[str, AfterValidator(_sha256), Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{64}$"})]
File = Annotated[str, AfterValidator(_inside)]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, examples=[1.0])]


class Spec(BaseModel):
    """Frozen; unknown keys are refused; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class NamesFile(Spec):
    """Holds, where the folder is known, a file to its sha256."""

    sha256: Sha256 | None = None
    """Of the file; checked when given."""

    def named(self) -> str | None:
        """The file, relative to the YAML's folder."""
        return getattr(self, "path", None)

    @model_validator(mode="after")
    def _unaltered(self, info: ValidationInfo) -> NamesFile:
        folder, name = yaml_folder(info), self.named()
        if self.sha256 is not None and name is not None and folder is not None:
            try:
                got = sha256_of(folder / name)
            except OSError as error:
                fault = f"{name} ({one_line(error)})"
                raise Refused("FB108", "a file that can be read", fault, "check its permissions") from None
            if got != self.sha256:
                fix = f"fetch the file again, or, if it is the right one, sha256: {got}"
                expected = f"{name} to have the sha256 {self.sha256[:12]}…"
                raise Refused("FB201", expected, f"{got[:12]}…", fix, at=("sha256",))
        return self


def files_named(value: object) -> Iterator[str]:
    """The name of every file that a spec names, itself or in what it holds."""
    if isinstance(value, NamesFile) and (name := value.named()) is not None:
        yield name
    held = vars(value).values() if isinstance(value, Spec) else value if isinstance(value, tuple) else ()
    for part in held:
        yield from files_named(part)
