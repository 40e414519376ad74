"""Synthetic runs for the leaderboard's tests: whole, valid records with evidence, made through the Pydantic classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from foolbench.leaderboard.record.record import (
    ATTACKS,
    TITLES,
    AttackRef,
    AttackResult,
    BareResult,
    BatteryRef,
    Flag,
    Measure,
    Provenance,
    RankedRow,
    Record,
    Scores,
    Seen,
    TaskRow,
    TransferCell,
    Variant,
)
from foolbench.leaderboard.record.store import write_record

CLASSES = [str(i) for i in range(10)]
IMAGES, RUNS = 120, 5
SEEN = Seen(
    classes=10, tau=0.8, confidence=0.97, randomised=False, difference=0.0, zero_gradient_share=0.0, mismatch=None
)
FOOL = ("evolution", "cppn", "gradient_ascent", "noise", "random_cppn")
BUDGET = {"evolution": 50_000, "cppn": 50_000, "deepception": 1000, "one_pixel": 5000, "fgsm": 20}
BUDGET |= {"gradient_ascent": 10_000, "noise": 50_000, "random_cppn": 50_000}
TITLE = {"deepception": "patches of other images", "one_pixel": "1 pixel", "fgsm": "ε = 0.2"}
LIMIT = {"deepception": "16 pixels", "one_pixel": "1 pixel", "fgsm": "L∞ ≤ 0.2"}


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


def record(recipe: Recipe) -> Record:
    rng = np.random.default_rng(recipe.seed)
    truth = np.arange(IMAGES) % 10
    skill = np.random.default_rng(5).random(IMAGES) < recipe.skill
    rejected = rng.random(IMAGES) < recipe.rejects
    right = skill & ~rejected
    clean = wilson(int(right.sum()), IMAGES)
    attacks = {n: _attack(n, recipe, rng, truth, right, rejected) for n in ATTACKS if n not in recipe.absent}
    scores = _scores(attacks, clean, wilson(int(rejected.sum()), IMAGES), rng)
    controls = {n: _attack(n, recipe, rng, truth, right, rejected) for n in ("noise", "random_cppn")}
    bare = difference = None
    if recipe.defenses:
        plain = {n: _attack(n, Recipe("bare", surrogate=False), rng, truth, skill, rejected) for n in ATTACKS}
        before = _scores(plain, wilson(int(skill.sum()), IMAGES), wilson(0, IMAGES), rng)
        bare = BareResult(scores=before, tau=0.8, attacks=plain, controls={}, seen=SEEN, flags=[])
        difference = {
            "robust_score": _minus(scores.robust_score, before.robust_score, 3.0),
            "clean_accuracy": _minus(scores.clean_accuracy, before.clean_accuracy, 0.03),
            "one_pixel": Measure(value=0.11, low=0.02, high=0.2),
            "fgsm": Measure(value=-0.01, low=-0.06, high=0.05),
            "cppn": Measure(value=None, reason="not measured on the bare model"),
        }
    submission: dict[str, Any] = {
        "schema": 1,
        "name": recipe.name,
        "authors": list(recipe.authors),
        "battery": recipe.battery,
        "model": {"kind": "onnx", "path": "lenet.onnx", "sha256": "9f2c" * 16},
    }
    if recipe.defenses:
        submission["defenses"] = [dict(d) for d in recipe.defenses]
    if recipe.links:
        submission["links"] = dict(recipe.links)
    reason = next(iter(recipe.missing.values()), None)
    return Record(
        schema=1,
        battery=BatteryRef(
            name=recipe.battery,
            tier=recipe.tier,
            digest=f"{abs(hash_of(recipe.battery)):064x}",
            shape=recipe.shape,
            classes=list(recipe.classes),
            shipped=recipe.shipped,
            attacks={
                name: AttackRef(
                    title=TITLES[name],
                    sentence=f"Share of what {TITLES[name]} fooled.",
                    task=found.task,
                    control=name in controls,
                )
                for name, found in {**attacks, **controls}.items()
            },
            ranked=[RankedRow(name=name, title=TITLES[name], entries=[name]) for name in ATTACKS],
        ),
        submission=submission,
        digest=f"{abs(hash_of(recipe.name, recipe.seed)):064x}",
        scores=scores,
        tau=0.912,
        attacks=attacks,
        controls=controls,
        bare=bare,
        difference=difference,
        transfer=_transfer(rng) if recipe.tier == "standard" else None,
        transfer_reason=None if recipe.tier == "standard" else "the smoke tier skips transfer",
        seen=SEEN,
        flags=[_flag(code) for code in recipe.flags],
        certificate={"largest_logit_difference": 3.1e-6, "passed": True},
        rankable=not recipe.missing and not recipe.absent and recipe.tier == "standard" and recipe.shipped,
        unranked_reason=reason,
        provenance=Provenance(
            versions={"foolbench": "0.1.0", "python": "3.11.9", "torch": "2.8.0", "onnxruntime": "1.23.0"},
            device="cpu",
            backend="onnxruntime",
            commit="0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
            dirty=False,
            source_digest="5e" * 32,
            started=f"2026-03-{1 + recipe.seed % 27:02d}T12:00:00Z",
            seconds=142.3,
            seeds={"root": recipe.seed},
        ),
    )


def hash_of(*parts: object) -> int:
    from hashlib import sha256

    return int.from_bytes(sha256(repr(parts).encode()).digest(), "big")


def _attack(
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


def survival(attack: AttackResult, clean: float) -> float | None:
    if attack.task == "perturb":
        return attack.robust_accuracy.value if attack.robust_accuracy else None
    return None if attack.fooling_ratio.value is None else clean * (1 - attack.fooling_ratio.value)


def _scores(
    attacks: Mapping[str, AttackResult], clean: Measure, rejection: Measure, rng: np.random.Generator
) -> Scores:
    left = [survival(attacks[n], clean.value or 0.0) if n in attacks else None for n in ATTACKS]
    measured = [x for x in left if x is not None]
    if len(measured) < len(ATTACKS):
        none = Measure(value=None, reason="not all six attacks were measured")
        return Scores(
            clean_accuracy=clean,
            clean_rejection=rejection,
            robust_score=none,
            worst_case=none,
            survives_all_perturb=none,
        )
    value = 100 * float(np.mean(measured))
    return Scores(
        clean_accuracy=clean,
        clean_rejection=rejection,
        robust_score=Measure(value=value, low=max(0.0, value - 2.8), high=min(100.0, value + 2.7)),
        worst_case=Measure(value=min(measured), low=max(0.0, min(measured) - 0.04), high=min(measured) + 0.05),
        survives_all_perturb=wilson(int(rng.integers(5, 30)), 60),
    )


def _minus(one: Measure, other: Measure, half: float) -> Measure:
    if one.value is None or other.value is None:
        return Measure(value=None, reason="not measured")
    value = one.value - other.value
    return Measure(value=value, low=value - half, high=value + half)


def _transfer(rng: np.random.Generator) -> list[TransferCell]:
    cells = []
    for model in ("lenet-a", "lenet-b", "mlp", "random forest"):
        for attack in ATTACKS:
            for source, victim in ((model, "submission"), ("submission", model)):
                n = int(rng.integers(20, 100))
                k = int(rng.integers(0, n))
                cells.append(
                    TransferCell(
                        source=source,
                        victim=victim,
                        attack=attack,
                        any_label=wilson(k, n),
                        same_label=wilson(k // 2, n),
                    )
                )
    cells[3] = cells[3].model_copy(update={"any_label": Measure(value=None, reason="no image fooled the source")})
    return cells


def _properties() -> dict[str, Any]:
    numbers = ("local_ratio", "local_range", "spatial_range", "threshold", "activators", "inhibitors", "correlation")
    return {name: {"median": 1.234, "q25": 0.8, "q75": 2.1, "n": 100} for name in numbers} | {
        "gain": {"median": None, "q25": None, "q75": None, "n": 0},
        "falls": {"value": 0.31, "k": 31, "n": 100},
    }


def _flag(code: str) -> Flag:
    sentence = {
        "rejects_clean": "The victim rejects 14% of clean images; a user would notice.",
        "surrogate": "The victim cannot be differentiated, so FGSM and gradient ascent are the best transfer attacks.",
    }.get(code, f"{code}: believe the numbers below with care.")
    return Flag(code=code, attack="fgsm" if code == "surrogate" else None, sentence=sentence, evidence={"share": 0.14})


def write_run(folder: Path, recipe: Recipe) -> Path:
    """Write a run folder with its record and evidence, and return it."""
    made = record(recipe)
    run = folder / f"run-{made.digest[:8]}-{recipe.battery}-{recipe.tier}"
    write_record(made, run / "record.json")
    if recipe.evidence:
        (run / "evidence").mkdir()
        rng = np.random.default_rng(7)
        originals = _originals(recipe.shape)
        np.savez_compressed(run / "evidence" / "originals.npz", images=originals)
        for name, attack in {**made.attacks, **made.controls}.items():
            np.savez_compressed(run / "evidence" / f"{name}.npz", images=_finals(name, attack, originals, rng))
    return run


def _originals(shape: tuple[int, int, int]) -> np.ndarray:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    chosen = np.concatenate([np.flatnonzero(np.asarray(labels) == c)[:12, None] for c in range(10)], 1).reshape(-1)
    images = np.rint(np.asarray(pixels)[chosen] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    c, h, w = shape
    return np.ascontiguousarray(np.kron(images, np.ones((1, c, h // 8, w // 8), np.uint8)))


def _finals(name: str, attack: AttackResult, originals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    c, h, w = originals.shape[1:]
    if attack.task == "fool":
        count = len(attack.tasks)
        if "cppn" in name:
            y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
            waves = [np.sin(rng.uniform(1, 7) * x + rng.uniform(1, 7) * y * y) for _ in range(count * c)]
            return np.rint(127.5 * (np.array(waves).reshape(count, c, h, w) + 1)).astype(np.uint8)
        return rng.integers(0, 256, (count, c, h, w), dtype=np.uint8)
    finals = originals[[row.image or 0 for row in attack.tasks]].copy()
    for image in finals:
        if name == "one_pixel":
            image[:, rng.integers(h), rng.integers(w)] = rng.integers(256)
        elif name == "fgsm":
            image[:] = np.clip(image + rng.choice([-51, 51], image.shape), 0, 255)
        else:
            image[:, : h // 2, w // 2 :] = originals[rng.integers(len(originals)), :, : h // 2, : w // 2]
    return finals


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
FORMULA = "=cmd|' /C calc'!A0"

RECIPES = (
    Recipe(
        "LeNet-5 behind 3-bit squeezing",
        0.96,
        dict.fromkeys(ATTACKS, 0.45),
        seed=1,
        defenses=({"kind": "bit_depth", "bits": 3},),
        links={"paper": "https://example.org/p", "code": "javascript:alert(1)"},
    ),
    Recipe("LeNet-5", 0.97, {"evolution": 1.0, "cppn": 0.96, "one_pixel": 0.3, "fgsm": 0.9}, seed=2),
    Recipe(
        "LeNet-5 with an n+1 class",
        0.93,
        {"evolution": 0.1, "cppn": 0.06, "gradient_ascent": 0.4, "one_pixel": 0.2},
        rejects=0.08,
        flags=("rejects_clean",),
        seed=3,
        authors=("B. Writer", "C. Scholar"),
    ),
    Recipe(
        "Random forest, 100 trees",
        0.94,
        {"evolution": 0.2},
        surrogate=True,
        flags=("surrogate", "zero_gradient"),
        seed=4,
    ),
    Recipe(HOSTILE, 0.9, {}, seed=5, authors=(FORMULA,), links={HOSTILE: "https://example.org/?a=1&q=%22b"}),
    Recipe(FORMULA, 0.92, {"fgsm": 0.99}, seed=6),
    Recipe("ResNet, interrupted", 0.97, {}, missing={"cppn": "stopped: it asked for more than its budget"}, seed=7),
    Recipe("ResNet without FGSM", 0.97, {}, absent=("fgsm",), evidence=False, seed=8),
)
"""A board: good, bad, hostile and incomplete entries."""
OTHERS = (
    Recipe("LeNet-5", 0.97, tier="smoke", seed=2),
    Recipe("Street signs", 0.9, battery="my signs", shipped=False, shape=(3, 64, 64), seed=9,
           classes=("<b>stop</b>", *CLASSES[1:])),
)  # fmt: skip
"""Entries of other boards."""
