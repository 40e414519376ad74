"""Synthetic runs for the leaderboard's tests: whole, valid records with evidence, made through the Pydantic classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from foolbench.leaderboard.record.battery import AttackRef, BatteryRef
from foolbench.leaderboard.record.record import (
    AttackResult,
    BareResult,
    Flag,
    Measure,
    Provenance,
    Record,
    Seen,
    TransferCell,
)
from foolbench.leaderboard.record.store import dump_record
from record_attacks import CLASSES, CONTROLS, FOOL, IMAGES, SIX, TITLES, Recipe, attack_of, wilson
from record_rows import ranked_row, rows_of, scores_of

SEEN = Seen(
    classes=10, tau=0.8, confidence=0.97, randomised=False, difference=0.0, zero_gradient_share=0.0, mismatch=None
)


def record(recipe: Recipe) -> Record:
    rng = np.random.default_rng(recipe.seed)
    truth = np.arange(IMAGES) % 10
    skill = np.random.default_rng(5).random(IMAGES) < recipe.skill
    rejected = rng.random(IMAGES) < recipe.rejects
    right = skill & ~rejected
    clean = wilson(int(right.sum()), IMAGES)
    names = (*recipe.ranked, *recipe.beside)
    attacks = {n: attack_of(n, recipe, rng, truth, right, rejected) for n in names if n not in recipe.absent}
    controls = {n: attack_of(n, recipe, rng, truth, right, rejected) for n in CONTROLS}
    rows = rows_of(recipe.ranked, attacks, controls, clean)
    scores = scores_of(recipe.ranked, rows, clean, wilson(int(rejected.sum()), IMAGES), rng)
    bare = difference = None
    if recipe.defenses:
        plain = {n: attack_of(n, Recipe("bare", surrogate=False), rng, truth, skill, rejected) for n in names}
        first = wilson(int(skill.sum()), IMAGES)
        theirs = rows_of(recipe.ranked, plain, controls, first)
        before = scores_of(recipe.ranked, theirs, first, wilson(0, IMAGES), rng)
        bare = BareResult(scores=before, tau=0.8, rows=theirs, attacks=plain, controls={}, seen=SEEN, flags=[])
        difference = {
            "robust_score": _minus(scores.robust_score, before.robust_score, 3.0),
            "survival_score": _minus(scores.survival_score, before.survival_score, 4.0),
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
            digest=digest_of(recipe),
            shape=recipe.shape,
            classes=list(recipe.classes),
            shipped=recipe.shipped,
            attacks={
                name: AttackRef(
                    title=TITLES[name],
                    sentence=f"Share of what {TITLES[name]} fooled.",
                    task="fool" if name in FOOL else "perturb",
                    control=name in CONTROLS,
                )
                for name in (*names, *CONTROLS)
            },
            ranked=[ranked_row(name) for name in recipe.ranked],
        ),
        submission=submission,
        digest=f"{abs(hash_of(recipe.name, recipe.seed)):064x}",
        scores=scores,
        tau=0.912,
        rows=rows,
        attacks=attacks,
        controls=controls,
        bare=bare,
        difference=difference,
        transfer=_transfer(names, rng) if recipe.tier == "standard" else None,
        transfer_reason=None if recipe.tier == "standard" else "the smoke tier skips transfer",
        seen=SEEN,
        flags=[_flag(code) for code in recipe.flags],
        certificate={"largest_logit_difference": 3.1e-6, "passed": True},
        rankable=not {*recipe.missing, *recipe.absent} & {*recipe.ranked}
        and recipe.tier == "standard"
        and recipe.shipped,
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


def digest_of(recipe: Recipe) -> str:
    """The battery's: another one for what ranks or holds other attacks."""
    plain = recipe.ranked == SIX and not recipe.beside
    return f"{hash_of(recipe.battery) if plain else hash_of(recipe.battery, recipe.ranked, recipe.beside):064x}"


def _minus(one: Measure, other: Measure, half: float) -> Measure:
    if one.value is None or other.value is None:
        return Measure(value=None, reason="not measured")
    value = one.value - other.value
    return Measure(value=value, low=value - half, high=value + half)


def _transfer(attacks: Sequence[str], rng: np.random.Generator) -> list[TransferCell]:
    cells = []
    for model in ("lenet-a", "lenet-b", "mlp", "random forest"):
        for attack in attacks:
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
    run.mkdir(parents=True)
    (run / "record.json").write_bytes(dump_record(made))
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
        dict.fromkeys(SIX, 0.45),
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
