"""The attacks within an L∞ limit, in a small battery."""

from __future__ import annotations

from typing import Any

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
