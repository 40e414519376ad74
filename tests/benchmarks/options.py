"""What the scripts' options may be, found out before any work."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch


def new_file(text: str) -> Path:
    """A file that can be written, now or after hours. Raises ArgumentTypeError."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file to write, got the folder {text}: name a file in it")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text}: make {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a file that may be written, got {text}: name another place")
    return path


def existing_file(text: str) -> Path:
    """A file that can be read. Raises ArgumentTypeError."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"expected a file that can be read, got {text}: check the path")
    return path


def device(text: str) -> torch.device:
    """`cpu`, or `cuda` where torch sees a GPU. Raises ArgumentTypeError."""
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text}")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(
            "expected a CUDA GPU that torch can use, got none: leave --device out, or mend the driver "
            "(`nvidia-smi` shows it)"
        )
    return torch.device(text)
