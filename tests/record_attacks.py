"""What synthetic records say of attacks: a recipe's results, task by task. records.py makes whole records of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from foolbench.leaderboard.record.record import AttackResult, Measure, TaskRow, Variant

CLASSES = [str(i) for i in range(10)]
IMAGES, RUNS = 120, 5
SIX = ("evolution", "cppn", "deepception", "one_pixel", "fgsm", "gradient_ascent")
"""What the tests' batteries rank, unless a recipe says otherwise."""
CONTROLS = ("noise", "random_cppn")
TITLES = {
    "evolution": "Evolution (direct encoding)",
    "cppn": "CPPN (indirect encoding)",
    "deepception": "Deepception-style (reconstructed)",
    "one_pixel": "One pixel",
    "fgsm": "FGSM",
    "gradient_ascent": "Gradient ascent",
    "noise": "Uniform noise",
    "random_cppn": "CPPN, never optimised",
    "square": "Square search (planted)",
    "plasma": "Plasma",
}
FOOL = ("evolution", "cppn", "gradient_ascent", "noise", "random_cppn", "plasma")
BUDGET = {"evolution": 50_000, "cppn": 50_000, "deepception": 1000, "one_pixel": 5000, "fgsm": 20}
BUDGET |= {"gradient_ascent": 10_000, "noise": 50_000, "random_cppn": 50_000, "square": 5000, "plasma": 2000}
TITLE = {"deepception": "patches of other images", "one_pixel": "1 pixel", "fgsm": "ε = 0.2", "square": "ε = 0.2"}
LIMIT = {"deepception": "16 pixels", "one_pixel": "1 pixel", "fgsm": "L∞ ≤ 0.2", "square": "L∞ ≤ 0.2"}


@dataclass(frozen=True)
class Recipe:
    """What a synthetic run should look like."""

    name: str
    skill: float = 0.95
    """Clean accuracy."""
    fooled: Mapping[str, float] = field(default_factory=dict)
    """Chance of each attack to fool a task; 0.5 where absent."""
    rejects: float = 0.0
    battery: str = "digits-v1"
    ranked: Sequence[str] = SIX
    beside: Sequence[str] = ()
    """Attacks that the battery has and does not rank."""
    tier: Literal["standard", "smoke"] = "standard"
    shipped: bool = True
    missing: Mapping[str, str] = field(default_factory=dict)
    """Attacks that were not measured, and why."""
    absent: Sequence[str] = ()
    """Attacks that the record does not mention at all."""
    surrogate: bool = False
    flags: Sequence[str] = ()
    defenses: Sequence[Mapping[str, Any]] = ()
    authors: Sequence[str] = ("A. Author",)
    links: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = tuple(CLASSES)
    shape: tuple[int, int, int] = (1, 8, 8)
    evidence: bool = True
    seed: int = 0


def wilson(k: int, n: int) -> Measure:
    z, p = 1.959963984540054, k / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    half /= 1 + z * z / n
    return Measure(value=p, k=k, n=n, low=max(0.0, middle - half), high=min(1.0, middle + half))


def attack_of(
    name: str, recipe: Recipe, rng: np.random.Generator, truth: np.ndarray, right: np.ndarray, rejected: np.ndarray
) -> AttackResult:
    task: Literal["fool", "perturb"] = "fool" if name in FOOL else "perturb"
    chance = recipe.fooled.get(name, {"noise": 0.0, "random_cppn": 0.02}.get(name, 0.5))
    measured = name not in recipe.missing
    rows = (_fool_rows if task == "fool" else _perturb_rows)(name, chance, rng, truth, right, rejected, measured)
    counted = [r for r in rows if r.counts]
    k = sum(r.fooled is True for r in counted)
    not_measured = Measure(value=None, reason=recipe.missing.get(name))
    ratio = wilson(k, len(counted)) if measured and counted else not_measured
    stood = sum(r.counts and not r.fooled for r in rows)
    robust = wilson(stood, len(rows)) if measured else not_measured
    spent = sorted(r.queries for r in rows if r.queries is not None)
    steps = np.unique(np.geomspace(1, len(spent), min(len(spent), 40)).astype(int)) if spent else []
    white = name in ("fgsm", "gradient_ascent")
    shared: dict[str, Any] = {
        "parameters": {"population": 100},
        "median_confidence": float(np.median([r.confidence for r in rows if r.fooled and r.confidence])) if k else None,
        "queries": float(np.median(spent)) if spent else None,
        "budget": BUDGET[name],
    }
    title = TITLE.get(name, f"{RUNS} runs × {BUDGET[name]:,} queries")
    kept = {"robust_accuracy": robust, "label_change": ratio} if task == "perturb" else {"fooling_ratio_99": ratio}
    variants = {}
    if name in ("one_pixel", "fgsm"):
        for more in ("3", "5"):
            variants[f"{name}_{more}"] = Variant(
                title=f"{more} pixels" if name == "one_pixel" else f"ε = 0.{more}",
                limit=f"{more} pixels" if name == "one_pixel" else f"L∞ ≤ 0.{more}",
                fooling_ratio=ratio,
                median_size=float(more),
                **kept,
                **shared,
            )
    surrogate = white and recipe.surrogate
    return AttackResult(
        title=title,
        limit=LIMIT.get(name),
        fooling_ratio=ratio,
        total_queries=BUDGET[name] * 10,
        seconds=12.34,
        curve=[(int(spent[i - 1]), int(i)) for i in steps],
        task=task,
        mode="surrogate" if surrogate else "gradient" if white else "black_box",
        mode_reason="the model is a random forest" if surrogate else None,
        tasks=rows,
        variants=variants,
        properties=_properties() if name == "deepception" else None,
        **kept,
        **shared,
    )


def _fool_rows(name: str, chance: float, rng: np.random.Generator, *rest: Any) -> list[TaskRow]:
    measured = rest[-1]
    rows = []
    for run in range(RUNS):
        for target in range(10):
            fooled = bool(rng.random() < chance)
            queries = int(rng.lognormal(math.log(BUDGET[name] / 12), 1.0)) + 1
            rows.append(
                TaskRow(
                    run=run,
                    target=target,
                    counts=True,
                    fooled=fooled if measured else None,
                    label=target if fooled else int(rng.integers(10)),
                    confidence=float(0.93 + 0.07 * rng.random() if fooled else 0.4 * rng.random()),
                    queries=min(queries, BUDGET[name]) if fooled and measured else None,
                    spent=BUDGET[name],
                )
            )
    return rows


def _perturb_rows(
    name: str,
    chance: float,
    rng: np.random.Generator,
    truth: np.ndarray,
    right: np.ndarray,
    rejected: np.ndarray,
    measured: bool,
) -> list[TaskRow]:
    rows = []
    for image in range(60 if name == "one_pixel" else IMAGES):
        label = int(truth[image])
        fooled = bool(rng.random() < chance and right[image])
        other = (label + 1 + int(rng.integers(9))) % 10
        before = None if rejected[image] else label if right[image] else other
        queries = int(rng.lognormal(math.log(BUDGET[name] / 4), 0.8)) + 1
        rows.append(
            TaskRow(
                image=image,
                truth=label,
                before=before,
                counts=bool(right[image]),
                fooled=fooled if measured else None,
                label=other if fooled else before,
                confidence=float(0.5 + 0.5 * rng.random()),
                queries=min(queries, BUDGET[name]) if fooled and measured else None,
                spent=BUDGET[name],
                size=0.2 if name == "fgsm" else 1.0,
            )
        )
    return rows


def _properties() -> dict[str, Any]:
    numbers = ("local_ratio", "local_range", "spatial_range", "threshold", "activators", "inhibitors", "correlation")
    return {name: {"median": 1.234, "q25": 0.8, "q75": 2.1, "n": 100} for name in numbers} | {
        "gain": {"median": None, "q25": None, "q75": None, "n": 0},
        "falls": {"value": 0.31, "k": 31, "n": 100},
    }
