"""The attacks within an L∞ limit, in a small battery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planted import left_or_right, linear_onnx

SMALL_LINF: dict[str, Any] = {
    "projected_ascent": {
        "images": 8,
        "epsilon": 0.2,
        "curve": [0.05, 0.2],
        "steps": 6,
        "losses": ["probability", "dlr"],
        "restarts": 2,
        "aims": 1,
        "everywhere": {"target": 1},
        "images_per_shard": 3,
    },
    "transfer": {"images": 8, "epsilon": 0.2, "curve": [0.05, 0.2], "images_per_shard": 3},
    "square": {
        "images": 8,
        "epsilon": 0.2,
        "curve": [0.05, 0.2],
        "queries": 20,
        "share": 0.8,
        "images_per_shard": 3,
    },
}
"""The attacks that share a row with `fgsm`, as small."""


def small_panel(folder: Path) -> dict[str, Any]:
    """Two linear networks for small batteries, as `panel:` states them: transfer asks about their images."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"models": [linear_onnx(folder, name, left_or_right(gain=gain)) for name, gain in (("a", 8), ("b", 5))]}
