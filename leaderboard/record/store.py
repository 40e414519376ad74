"""Records and evidence on disk: what their bytes are, and reading them so that nothing unchecked goes further."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ...bench.errors import Unexpected, one_line
from .record import SCHEMA, Record

RECORD = "record.json"
EVIDENCE = "evidence"
PROBE, PROBE_RECORD = "probe", "probe.json"
"""Where in a run's folder a probe of the same submission lies, and what it found, as data."""
_MOST_BYTES = 512 * 1024**2


def dump_record(record: Record) -> bytes:
    """The record as canonical JSON: UTF-8, the contract's key order, one-space indent, a final newline.

    Raises ValueError for NaN or infinity, which JSON cannot say.
    """
    try:
        text = json.dumps(record.model_dump(mode="json", by_alias=True), ensure_ascii=False, indent=1, allow_nan=False)
    except ValueError as error:
        raise Unexpected("finite numbers in the record", one_line(error), "store null and a reason") from error
    return (text + "\n").encode()


def parse_record(data: bytes, where: Path) -> Record:
    """Check the bytes of a record. Raises Unexpected, of the file `where`, for what is not a record of this schema."""
    try:
        content = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unexpected("JSON", one_line(error), "run the evaluation again", file=where) from error
    version = content.get("schema") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise Unexpected(f"a record of schema {SCHEMA}", f"{version!r}", "use the foolbench that wrote it", file=where)
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'record'}: {_said(p)}" for p in problems[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise Unexpected(
            f"a record of schema {SCHEMA}", f"{told}{more}", "run the evaluation again", file=where
        ) from error


def _said(detail: ErrorDetails) -> str:
    error = detail.get("ctx", {}).get("error")
    return f"expected {error.expected}, got {error.got}" if isinstance(error, Unexpected) else detail["msg"]


def _no_constant(name: str) -> float:
    raise Unexpected("JSON", f"{name}, which is not JSON", "store null and a reason")


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Unexpected(f"a record under {_MOST_BYTES:,} bytes", "more", "check the file", file=path)
        return path.read_bytes()
    except OSError as error:
        raise Unexpected("a record", error.strerror, "check the path", file=path) from error


@dataclass(frozen=True)
class RunFolder:
    """One run: its record, read at once when asked for, and its evidence, read array by array when asked for."""

    path: Path

    @cached_property
    def data(self) -> bytes:
        """`record.json`, byte for byte."""
        return _bytes(self.path / RECORD)

    @cached_property
    def record(self) -> Record:
        """The record. Raises Unexpected, with its file, for what cannot be read or is none."""
        return parse_record(self.data, self.path / RECORD)

    @property
    def record_sha256(self) -> str:
        """Of the bytes of `record.json`."""
        return sha256(self.data).hexdigest()

    def images(self, name: str) -> np.ndarray | None:
        """`images` of `evidence/NAME.npz`: `(n, c, h, w)` uint8; None where the run holds no such evidence.

        Raises ValueError for a file that is not that. Pickled arrays are never loaded.
        """
        path = self.path / EVIDENCE / f"{name}.npz"
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                images = arrays["images"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise Unexpected("an npz with an array `images`", one_line(error), "run again", file=path) from error
        shape = self.record.battery.shape
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            raise Unexpected(
                f"uint8 images (n, {', '.join(map(str, shape))})",
                f"{images.dtype} {images.shape}",
                "run again",
                file=path,
            )
        return images


def find_runs(path: Path) -> list[RunFolder]:
    """The run folder `path`, or the run folders in it: none where it is empty, which is no error.

    Raises Unexpected for what is no folder.
    """
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing there"
        raise Unexpected("a run folder or a folder of them", got, "check the path", file=path)
    inside = [path] if (path / RECORD).is_file() else sorted(p for p in path.iterdir() if (p / RECORD).is_file())
    return [RunFolder(run) for run in inside]
