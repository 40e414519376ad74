"""False statements of a defense are found where they are hard to see: off the clean images, behind another defense's
surrogate, under its chance. Those of the whole zoo, in chains, are true."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from foolbench.bench.asking.clean import CleanAnswers, examine
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Execution, Ground
from foolbench.bench.evaluation.pipeline import evaluate_subject
from foolbench.bench.honesty.statements import false_statements
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import Assembled, subject_of
from foolbench.bench.victim.fitting import training_images
from foolbench.defenses.detectors.max_softmax import max_softmax
from foolbench.defenses.detectors.threshold import Threshold
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.gaussian_noise import gaussian_noise
from foolbench.defenses.packaged import packaged
from foolbench.leaderboard.record.record import Record
from foolbench.models.base import Classifier
from planted import battery, classifier, flag_codes, ground, halves, left_or_right, small, subject
from torch import Tensor

SUBMISSION = Path(__file__).resolve().parents[1] / "submissions" / "digits-lenet" / "submission.yaml"
SHAPE = (1, 8, 8)


@dataclass(frozen=True)
class Digits:
    """The shipped network on the smoke tier of its battery."""

    ground: Ground
    bare: Classifier

    def statements(self, victim: Classifier) -> list[str]:
        """What is false."""
        clean = examine(victim, self.ground)
        found = false_statements(victim, clean, self.ground, certified=victim is self.bare, model=self.bare)
        return [statement.what for statement in found]

    def far(self, images: Tensor) -> Tensor:
        """Far from every training image; no evaluation image is."""
        known, _ = training_images(self.ground.battery, 2000)
        return torch.cdist(images.flatten(1), known.flatten(1)).amin(1) > 1.8


@cache
def digits() -> Digits:
    on = ground(read_battery("digits-v1", tier="smoke"))
    return Digits(on, subject_of(read_submission(SUBMISSION)).assemble(on).victim)


# rejection and chance away from the clean images


def test_a_detector_that_declares_no_rejection(tmp_path: Path) -> None:
    """It rejects what is far from the training images, and its logits do not know: a score of 48.8 for one of 10."""
    given = digits()

    def silent(images: Tensor, rng: torch.Generator) -> Tensor:
        return given.bare.probabilities(images, rng) * ~given.far(images).unsqueeze(1)

    victim = replace(given.bare, probabilities=silent)
    clean = examine(victim, given.ground)
    assert bool(clean.accepted.all())
    assert clean.most_rejected == 1
    assert given.statements(victim) == ["rejection"]
    assert given.statements(replace(victim, rejects=True)) == ["logits"]  # which lack the column


def test_chance_away_from_the_clean_images(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(20), attacks=small(fgsm={}), train=halves(8, seed=1))
    plain = classifier(left_or_right(), SHAPE, 2)

    def loose(images: Tensor, rng: torch.Generator) -> Tensor:
        rough = images.diff(dim=-2).abs().mean((1, 2, 3)) > 0.15
        drawn = torch.rand((len(images), 1), generator=rng)
        return torch.where(rough.unsqueeze(1), torch.cat([drawn, 1 - drawn], 1), plain.probabilities(images, rng))

    victim = replace(plain, probabilities=loose)
    made = evaluate_subject(subject(victim, bare=plain), planted, Execution("cpu"), out=tmp_path / "run").record
    assert made.scores.clean_accuracy.value == 1
    assert flag_codes(made) == {"randomised", "misdeclared"}
    assert evidence(made) == {"deterministic"}
    assert all(row.share is not None for row in made.attacks["fgsm"].tasks)  # the judge asked ten times
    assert made.bare is not None
    assert made.bare.flags == []


@pytest.mark.parametrize("what", ["rejection", "deterministic"])
def test_what_shows_on_the_images_of_an_attack_alone(tmp_path: Path, what: str) -> None:
    """It gives itself away on flat halves whose contrast is that of a clean image after FGSM with the headline's ε."""
    planted = battery(tmp_path, *halves(20), attacks=small(fgsm={}), train=halves(8, seed=1))
    plain = classifier(left_or_right(), SHAPE, 2)

    def attacked(images: Tensor) -> Tensor:
        left, right = images[..., :4].flatten(1), images[..., 4:].flatten(1)
        contrast = 255 * (left.mean(1) - right.mean(1)).abs()
        return ((contrast - 42).abs() < 8) & (left.std(1) < 0.03) & (right.std(1) < 0.03)

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        own, odd = plain.probabilities(images, rng), attacked(images).unsqueeze(1)
        drawn = torch.rand((len(images), 1), generator=rng)
        return own * ~odd if what == "rejection" else torch.where(odd, torch.cat([drawn, 1 - drawn], 1), own)

    victim = replace(plain, probabilities=probabilities)
    clean = examine(victim, ground(planted))
    assert not clean.randomised
    assert clean.most_rejected < 1e-6
    made = evaluate_subject(subject(victim, bare=plain), planted, Execution("cpu"), out=tmp_path / "run").record
    # Chance that nobody declared also answers a victim built anew otherwise than the searched one.
    assert flag_codes(made) == {"misdeclared"} | ({"stateful"} if what == "deterministic" else set())
    assert evidence(made) == {what}


def evidence(record: Record) -> set[str]:
    (found,) = [flag.evidence for flag in record.flags if flag.code == "misdeclared"]
    return set(found)


# gradients that another defense's statement could hide


def lying(inner: Classifier) -> Classifier:
    """The right answers, with the gradient of the images' brightness."""

    def logits(images: Tensor, rng: torch.Generator) -> Tensor:
        assert inner.logits is not None
        light = images.sum((1, 2, 3)) - images.sum((1, 2, 3)).detach()
        right = inner.logits(images.detach(), rng)
        return right + light.unsqueeze(1) * torch.arange(right.shape[1])

    return replace(inner, logits=logits)


@pytest.mark.parametrize(
    ("chain", "found"),
    [
        (lambda bare: lying(bare), ["gradient"]),
        (lambda bare: bit_depth(lying(bare), 8), ["gradient", "gradient behind defense 1"]),
        (lambda bare: packaged(bit_depth(bare, 8), "lie", lying, {}), ["gradient", "gradient of defense 1"]),
        (
            lambda bare: bit_depth(packaged(bit_depth(bare, 8), "lie", lying, {}), 8),
            ["gradient", "gradient behind defense 1"],  # a surrogate itself, which excuses nothing
        ),
        (
            lambda bare: packaged(bare, "both", lambda inner: bit_depth(lying(inner), 8), {}),
            ["gradient", "gradient behind defense 1"],
        ),
        (lambda bare: gaussian_noise(lying(bare), 0.01), ["gradient", "gradient behind defense 1"]),
        (lambda bare: packaged(gaussian_noise(bare, 0.01), "lie", lying, {}), ["gradient", "gradient of defense 1"]),
    ],
    ids=["alone", "behind", "in front", "between", "in one package", "behind chance", "in front of chance"],
)
def test_a_wrong_gradient_is_found_beside_what_others_declare(
    chain: Callable[[Classifier], Classifier], found: list[str]
) -> None:
    assert digits().statements(chain(digits().bare)) == found


def test_a_wrong_gradient_behind_a_surrogate_is_flagged(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(20), attacks=small(fgsm={}), train=halves(8, seed=1))
    plain = classifier(left_or_right(), SHAPE, 2)
    victims = {"lying": bit_depth(lying(plain), 8), "honest": bit_depth(plain, 8)}
    made = {
        name: evaluate_subject(subject(victim, bare=plain), planted, Execution("cpu"), out=tmp_path / name).record
        for name, victim in victims.items()
    }
    assert evidence(made["lying"]) == {"gradient", "gradient behind defense 1"}
    assert made["honest"].flags == []


def test_each_part_is_held_to_what_it_declares_itself() -> None:
    """Chance, and rejection, that another defense declares."""
    given, at = digits(), Threshold(2.0, 1.0)  # more than any score: it never rejects

    def noisy(inner: Classifier) -> Classifier:
        return replace(gaussian_noise(inner, 0.1), randomised=False)

    def silent(inner: Classifier) -> Classifier:
        return replace(inner, probabilities=lambda images, rng: inner.probabilities(images, rng) * 0.9)

    assert given.statements(gaussian_noise(noisy(given.bare), 0.1)) == ["deterministic behind defense 1"]
    victim = packaged(max_softmax(given.bare, at), "silent", silent, {})
    assert "rejection of defense 1" in given.statements(victim)


def test_a_randomised_victim_may_draw_as_it_likes_from_its_generator() -> None:
    """Its logits need not have the draws of its answers, but must be theirs on average."""
    given = digits()
    noisy = gaussian_noise(given.bare, 0.1)

    def later(images: Tensor, rng: torch.Generator) -> Tensor:
        torch.rand(7, generator=rng)
        return ask(noisy, images, rng)

    def another(images: Tensor, rng: torch.Generator) -> Tensor:
        return later(images, rng).roll(1, 1)

    def anywhere(images: Tensor, rng: torch.Generator) -> Tensor:
        return ask(noisy, images, torch.Generator().manual_seed(int(torch.randint(10**9, ()))))

    def ask(inner: Classifier, images: Tensor, rng: torch.Generator) -> Tensor:
        assert inner.logits is not None
        return inner.logits(images, rng)

    assert given.statements(noisy) == []
    assert given.statements(replace(noisy, logits=later)) == []
    assert given.statements(replace(noisy, logits=another)) == ["logits"]
    assert given.statements(replace(noisy, logits=anywhere)) == ["chance"]


# honest ones


def beside(name: str) -> Any:
    """A module of the table of defenses, which finds the others beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "benchmarks"))
        return importlib.import_module(name)


TABLE, ZOO = beside("defenses_models"), beside("defenses_zoo").DEFENSES
BESIDE: tuple[tuple[list[dict[str, Any]], list[dict[str, Any]]], ...] = (
    ([], []),
    ([{"kind": "bit_depth", "bits": 4}], []),
    ([], [{"kind": "bit_depth", "bits": 4}]),
    ([{"kind": "max_softmax"}], [{"kind": "gaussian_noise", "sigma": 0.05}]),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with TABLE.installed_package(tmp_path_factory.mktemp("package") / "site"):
        yield


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("defense", ZOO, ids=lambda defense: defense.name)
def test_the_zoo_alone_and_in_chains_makes_true_statements(defense: Any, tmp_path: Path) -> None:
    given = digits()
    for i, (front, back) in enumerate(BESIDE):
        path = TABLE.write_submission(TABLE.models(None)["digits"], defense, tmp_path / str(i))
        content = yaml.safe_load(path.read_text())
        content["defenses"] = front + content["defenses"] + back
        path.write_text(yaml.safe_dump(content))
        whole: Assembled = subject_of(read_submission(path)).assemble(given.ground)
        assert whole.bare is not None
        clean: CleanAnswers = examine(whole.victim, given.ground, whole.digest)
        assert clean.randomised == whole.victim.randomised
        found = false_statements(whole.victim, clean, given.ground, certified=False, model=whole.bare.victim)
        assert found == (), (front, back)
