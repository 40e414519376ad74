"""Flags of what a victim says of itself: whether it is random, and whether its gradients and logits are its own."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from defense_victims import small_net
from flagged import FGSM, SHAPE, Rounding, WrongGradient, flag, judged
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.ground import Execution
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.honesty.statements import false_statements
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_blur import gaussian_blur
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.images.jpeg import jpeg
from foolbench.defenses.images.median import median
from foolbench.defenses.images.total_variation import total_variation
from foolbench.models.base import Classifier
from planted import battery, classifier, flag_codes, ground, halves, left_or_right, small, subject
from torch import Tensor


def noisy(*, declared: bool = True) -> Classifier:
    return replace(classifier(left_or_right(gain=4.0), SHAPE, 2, noise=1.0), randomised=declared)


# chance


def test_randomised(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8), attacks=small(fgsm={}, one_pixel={}, evolution={"generations": 30}))
    made = evaluate_subject(subject(noisy()), planted, Execution("cpu"), out=tmp_path / "run")
    assert 0.01 < flag(made, "randomised").evidence["largest_difference"] < 1  # type: ignore[operator]
    shares = [row.share for name in made.record.attacks for row in made.record.attacks[name].tasks]
    assert all(share is not None and round(10 * share, 4) in range(11) for share in shares)
    assert len(set(shares)) > 3  # ten draws, and they differ
    for attack in made.record.attacks.values():
        assert all(row.fooled == ((row.share or 0) > 0.5) for row in attack.tasks)
    again = evaluate_subject(subject(noisy()), planted, Execution("cpu", 2), out=tmp_path / "again")
    assert again.record.attacks["fgsm"].tasks == made.record.attacks["fgsm"].tasks
    assert again.record.flags == made.record.flags


def test_a_victim_is_randomised_that_says_so_or_is_caught(tmp_path: Path) -> None:
    caught = judged(noisy(declared=False), tmp_path, "caught")
    assert "randomised" in flag_codes(caught.record)
    assert all(row.share is not None for row in caught.record.attacks["fgsm"].tasks)
    silent = classifier(left_or_right(), SHAPE, 2, noise=1e-12)
    made = judged(silent, tmp_path)
    assert flag(made, "randomised").evidence == {"largest_difference": 0.0, "declared": True}
    assert "no two queries of one image showed it" in flag(made, "randomised").sentence
    assert {row.share for row in made.record.attacks["fgsm"].tasks} == {1.0}
    steady = judged(classifier(left_or_right(), SHAPE, 2), tmp_path, "steady")
    assert "randomised" not in flag_codes(steady.record)
    assert {row.share for row in steady.record.attacks["fgsm"].tasks} == {None}


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_answer_by_the_parity_of_the_calls_is_seen_whatever_the_number_of_batches(
    tmp_path: Path, calls: int
) -> None:
    plain, count = classifier(left_or_right(), SHAPE, 2), itertools.count()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return plain.probabilities(images, rng).roll(next(count) % 2, 1)

    planted = battery(tmp_path, *halves(8), attacks=FGSM, batch=-(-8 // calls))
    clean = examine(replace(plain, probabilities=probabilities), ground(planted))
    assert clean.randomised
    assert clean.difference > 0.5
    assert not clean.right.any()  # right on half of the draws, and so on no more than half


def test_chance_that_nobody_declared(tmp_path: Path) -> None:
    made = judged(noisy(declared=False), tmp_path)
    found = flag(made, "misdeclared")
    assert set(found.evidence) == {"deterministic"}
    assert "two answers to one image differed by" in found.sentence
    honest = judged(noisy(), tmp_path, "honest")
    assert "misdeclared" not in flag_codes(honest.record)


# gradients and logits


def test_gradients_and_logits_that_are_not_what_they_are_said_to_be(tmp_path: Path) -> None:
    """A defense's statements are looked at; the model's own were certified when it was loaded."""
    planted = battery(tmp_path, *halves(20), attacks=FGSM)
    on, plain = ground(planted), classifier(left_or_right(), SHAPE, 2)
    lying = replace(plain, logits=classifier(WrongGradient(), SHAPE, 2).logits)
    other = replace(plain, logits=classifier(left_or_right(gain=2.0), SHAPE, 2).logits)

    def found(victim: Classifier, **changes: Any) -> list[str]:
        clean = examine(victim, on)
        statements = false_statements(replace(victim, **changes), clean, on, certified=False)
        return [f"{statement.what}: {statement.finding}" for statement in statements]

    assert found(plain) == []
    (gradient,) = found(lying)
    assert gradient.startswith("gradient: it declares no surrogate, and autograd is off from finite differences by")
    assert "differ by" in found(other)[0]
    (behind,) = found(lying, surrogates=("lie",))  # no surrogate excuses a gradient turned round
    assert behind.startswith("gradient: the gradient that stands in does not say how the answers change")
    assert found(classifier(Rounding(), SHAPE, 2)) == []  # no gradient is no wrong one

    made = evaluate_subject(subject(lying, bare=plain), planted, Execution("cpu"), out=tmp_path / "run")
    assert set(flag(made, "misdeclared").evidence) == {"gradient"}
    assert made.record.bare is not None
    assert made.record.bare.flags == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 12)])
def test_the_statements_of_the_zoo_are_true(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape))
    images[:, :, 2:5] = 0  # plain background, where sorting and clipping have ties
    planted = battery(tmp_path, images, np.arange(20) % 4, attacks={}, classes=4)
    on, inner = ground(planted), small_net(shape, rejects=True)
    for defense in (
        lambda c: bit_depth(c, bits=3),
        lambda c: jpeg(c, quality=50),
        lambda c: median(c, size=3),
        lambda c: gaussian_blur(c, sigma=1.0),
        lambda c: total_variation(c, weight=0.1),
        lambda c: gaussian_noise(c, sigma=0.1),
        lambda c: median(gaussian_blur(c, sigma=0.5), size=2),
    ):
        victim = defense(inner)
        assert false_statements(victim, examine(victim, on), on, certified=False) == ()
