"""Each flag is earned by the least that should earn it, and by nothing less."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from defense_victims import small_net
from foolbench.attacks.base import Fool, Query, Search
from foolbench.bench import evaluate, flags, masking
from foolbench.bench.entries import entries
from foolbench.bench.examine import blinded, examine
from foolbench.bench.flags import flags_of
from foolbench.bench.intervals import proportion, unmeasured
from foolbench.bench.memorised import recognition
from foolbench.bench.pipeline import Run, evaluate_subject
from foolbench.bench.seeds import generator
from foolbench.bench.statements import false_statements
from foolbench.defenses import bit_depth, gaussian_blur, gaussian_noise, jpeg, median, total_variation
from foolbench.leaderboard.columns import FLAGS
from foolbench.leaderboard.record import AttackResult, Flag, Scores, Seen, TaskRow
from foolbench.leaderboard.store import read_record
from foolbench.models.base import Classifier
from foolbench.models.certificate import Certificate
from planted import (
    CPU,
    Linear,
    battery,
    classifier,
    flag_codes,
    halves,
    left_or_right,
    linear_onnx,
    planning,
    seeded,
    small,
    subject,
)
from torch import Tensor, nn

SHAPE = (1, 8, 8)
FGSM = small(fgsm={})


def run(net: nn.Module, folder: Path, attacks: dict[str, Any] = FGSM, count: int = 20, **options: Any) -> Run:
    planted = battery(folder, *halves(count), attacks=attacks, train=halves(8, seed=1))
    return evaluate(net, battery=planted, out=folder / "run", device="cpu", **options)


def flag(made: Run, code: str, attack: str | None = None) -> Flag:
    (found,) = [f for f in made.record.flags if f.code == code and f.attack == attack]
    assert found.sentence.endswith(".")
    kept = read_record(made.folder / "record.json")
    assert flags_of(kept.attacks, kept.scores, kept.seen, kept.transfer) == kept.flags == made.record.flags
    return found


def test_an_honest_small_network_earns_none(tmp_path: Path) -> None:
    rng = seeded()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 2))
    weights = list(net.parameters())
    images, labels = halves(60, seed=3)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(torch.randn(weight.shape, generator=rng) / weight[0].numel() ** 0.5)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(torch.from_numpy(images) / 255), torch.from_numpy(labels))
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.3 * slope
    made = run(net, tmp_path, small(one_pixel={}, fgsm={}, deepception={}, gradient_ascent={"steps": 60}))
    assert made.record.scores.clean_accuracy.value == 1
    assert made.record.attacks["fgsm"].mode == "gradient"
    assert made.record.flags == []


def test_every_flag_is_explained_on_the_board() -> None:
    sources = "".join(Path(module.__file__ or "").read_text() for module in (flags, masking))
    codes = set(re.findall(r'code="(\w+)"', sources))
    assert {"masking", "memorised", "misdeclared", "underconfident"} < codes
    assert codes == set(FLAGS)


# randomised


def test_randomised(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8), attacks=small(fgsm={}, one_pixel={}, evolution={"generations": 30}))
    noisy = classifier(left_or_right(gain=4.0), SHAPE, 2, noise=1.0)
    made = evaluate_subject(subject(noisy), planted, out=tmp_path / "run", device="cpu")
    assert 0.01 < flag(made, "randomised").evidence["largest_difference"] < 1  # type: ignore[operator]
    shares = [row.share for name in made.record.attacks for row in made.record.attacks[name].tasks]
    assert all(share is not None and round(10 * share, 4) in range(11) for share in shares)
    assert len(set(shares)) > 3  # ten draws, and they differ
    for attack in made.record.attacks.values():
        assert all(row.fooled == ((row.share or 0) > 0.5) for row in attack.tasks)
    again = evaluate_subject(subject(noisy), planted, out=tmp_path / "again", device="cpu", workers=2)
    assert again.record.attacks["fgsm"].tasks == made.record.attacks["fgsm"].tasks
    assert again.record.flags == made.record.flags


def test_a_victim_is_randomised_that_says_so_or_is_caught(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8), attacks=FGSM)
    noisy = replace(classifier(left_or_right(gain=4.0), SHAPE, 2, noise=1.0), randomised=False)
    caught = evaluate_subject(subject(noisy), planted, out=tmp_path / "caught", device="cpu")
    assert "randomised" in flag_codes(caught.record)
    assert all(row.share is not None for row in caught.record.attacks["fgsm"].tasks)
    silent = classifier(left_or_right(), SHAPE, 2, noise=1e-12)
    made = evaluate_subject(subject(silent), planted, out=tmp_path / "run", device="cpu")
    assert flag(made, "randomised").evidence == {"largest_difference": 0.0}
    assert {row.share for row in made.record.attacks["fgsm"].tasks} == {1.0}
    steady = evaluate_subject(
        subject(classifier(left_or_right(), SHAPE, 2)), planted, out=tmp_path / "steady", device="cpu"
    )
    assert "randomised" not in flag_codes(steady.record)
    assert {row.share for row in steady.record.attacks["fgsm"].tasks} == {None}


# misdeclared


def test_chance_that_nobody_declared(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8), attacks=FGSM)
    noisy = replace(classifier(left_or_right(gain=4.0), SHAPE, 2, noise=1.0), randomised=False)
    made = evaluate_subject(subject(noisy), planted, out=tmp_path / "run", device="cpu")
    found = flag(made, "misdeclared")
    assert set(found.evidence) == {"deterministic"}
    assert "two answers to one image differed by" in found.sentence
    honest = evaluate_subject(subject(replace(noisy, randomised=True)), planted, out=tmp_path / "honest", device="cpu")
    assert "misdeclared" not in flag_codes(honest.record)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_answer_by_the_parity_of_the_calls_is_seen_whatever_the_number_of_batches(
    tmp_path: Path, calls: int
) -> None:
    plain, count = classifier(left_or_right(), SHAPE, 2), itertools.count()

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        return plain.probabilities(images, rng).roll(next(count) % 2, 1)

    planted = battery(tmp_path, *halves(8), attacks=FGSM, batch=-(-8 // calls))
    clean = examine(replace(plain, probabilities=probabilities), planted, planted.load())
    assert clean.randomised
    assert clean.difference > 0.5
    assert not clean.right.any()  # right on half of the draws, and so on no more than half


def test_gradients_and_logits_that_are_not_what_they_are_said_to_be(tmp_path: Path) -> None:
    """A defense's statements are looked at; the model's own were certified when it was loaded."""
    planted = battery(tmp_path, *halves(20), attacks=FGSM)
    data, plain = planted.load(), classifier(left_or_right(), SHAPE, 2)
    lying = replace(plain, logits=classifier(WrongGradient(), SHAPE, 2).logits)
    other = replace(plain, logits=classifier(left_or_right(gain=2.0), SHAPE, 2).logits)

    def found(victim: Classifier, **changes: Any) -> list[str]:
        clean = examine(victim, planted, data)
        statements = false_statements(replace(victim, **changes), clean, planted, certified=False)
        return [f"{statement.what}: {statement.finding}" for statement in statements]

    assert found(plain) == []
    (gradient,) = found(lying)
    assert gradient.startswith("gradient: it declares no surrogate, and autograd is off from finite differences by")
    assert "differ by" in found(other)[0]
    assert found(lying, surrogates=("lie",)) == []
    assert found(classifier(Rounding(), SHAPE, 2)) == []  # no gradient is no wrong one

    made = evaluate_subject(subject(lying, bare=plain), planted, out=tmp_path / "run", device="cpu")
    assert set(flag(made, "misdeclared").evidence) == {"gradient"}
    assert made.record.bare is not None
    assert made.record.bare.flags == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 12)])
def test_the_statements_of_the_zoo_are_true(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape))
    images[:, :, 2:5] = 0  # plain background, where sorting and clipping have ties
    planted = battery(tmp_path, images, np.arange(20) % 4, attacks={}, classes=4)
    data, inner = planted.load(), small_net(shape, rejects=True)
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
        assert false_statements(victim, examine(victim, planted, data), planted, certified=False) == ()


# memorised, underconfident


def test_memorised(tmp_path: Path) -> None:
    """A victim that knows the first images by heart, and one that turns away all noise alike."""
    searches = small(evolution={"children": 60}) | {"cppn": None}
    planted = battery(tmp_path, *halves(8), attacks=searches, train=halves(8, seed=1))
    data, plan = planted.load(), entries(planted)
    plain = classifier(left_or_right(), SHAPE, 2)
    search = plan[0].attack.search(  # type: ignore[union-attr]
        Fool(SHAPE, torch.arange(2), 1, torch.tensor(data.mean)),
        generator("planted", "evolution", 0, "attack", device=CPU),
    )
    known = (next(search).images * 255).round()
    assert len(known) == 60

    def wary(turned_away: Callable[[Tensor], Tensor]) -> Classifier:
        def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
            return plain.probabilities(images, rng) * ~turned_away((images * 255).round()).unsqueeze(1)

        return replace(plain, probabilities=probabilities, logits=None, rejects=True)

    def by_heart(images: Tensor) -> Tensor:
        return (images.unsqueeze(1) == known).flatten(2).all(2).any(1)

    def rough(images: Tensor) -> Tensor:
        return images.diff(dim=-1).abs().mean((1, 2, 3)) > 40

    for knows, expected in ((by_heart, True), (rough, False)):
        seen = recognition(wary(knows), planted, data, plan, "0" * 64)
        assert seen is not None
        assert (seen.own.n, seen.memorised) == (60, expected)
    assert seen.own.k == seen.fresh.k == 0  # all of it is turned away


@pytest.mark.parametrize(("gain", "flagged"), [(0.004, True), (2.0, False)])
def test_underconfident(tmp_path: Path, gain: float, flagged: bool) -> None:
    made = run(left_or_right(gain=gain), tmp_path)
    assert made.record.scores.clean_accuracy.value == 1
    assert flag_codes(made.record) == ({"underconfident"} if flagged else set())
    if flagged:
        assert 0.5 < flag(made, "underconfident").evidence["median_confidence"] < 0.51  # type: ignore[operator]


# zero_gradient, gradient_mismatch, surrogate


class Rounding(nn.Module):
    """Sees 3 bits: no gradient anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = left_or_right()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner((images * 8).round() / 8)


class HalfDead(nn.Module):
    """Its class-1 half of the margin is clipped flat: no gradient on images of class 1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = left_or_right()

    def forward(self, images: Tensor) -> Tensor:
        margin = self.inner(images)[:, 0].clamp(min=-1)
        return torch.stack([margin, -margin], 1)


class WrongGradient(nn.Module):
    """The right answers, and the gradient of something else."""

    class Lie(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Tensor) -> Tensor:
            return logits.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return -3 * gradients[0]

    def __init__(self) -> None:
        super().__init__()
        self.inner = left_or_right()

    def forward(self, images: Tensor) -> Tensor:
        return self.Lie.apply(self.inner(images))  # type: ignore[no-any-return]


def test_zero_gradient_of_a_network_that_rounds(tmp_path: Path) -> None:
    made = run(Rounding(), tmp_path)
    assert flag(made, "zero_gradient").evidence == {"share": 1.0}
    assert made.record.attacks["fgsm"].fooling_ratio.value is None
    assert "gradient_mismatch" not in flag_codes(made.record)
    assert "surrogate" not in flag_codes(made.record)  # nothing stood in: the battery has no panel


def test_zero_gradient_on_some_images(tmp_path: Path) -> None:
    made = run(HalfDead(), tmp_path)
    assert flag(made, "zero_gradient").evidence == {"share": 0.5}
    assert made.record.attacks["fgsm"].mode == "gradient"


class DeadAtTheMean(nn.Module):
    """Sees halves brighter than 0.33: a slope on every clean image, and none around their mean of 0.27."""

    def forward(self, images: Tensor) -> Tensor:
        sides = torch.stack([images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))], 1)
        return 100 * (sides - 0.33).relu()


def test_zero_gradient_where_gradient_ascent_starts(tmp_path: Path) -> None:
    made = run(DeadAtTheMean(), tmp_path, small(gradient_ascent={"steps": 20}))
    tasks = len(made.record.attacks["gradient_ascent"].tasks)
    assert flag(made, "zero_gradient", "gradient_ascent").evidence == {"stuck": tasks, "tasks": tasks}
    assert [f.code for f in made.record.flags] == ["zero_gradient"]


def test_zero_gradient_behind_a_victim_of_its_own(tmp_path: Path) -> None:
    """Not refused when loaded, as a victim behind a defense is not; found out before the attacks."""
    planted = battery(tmp_path, *halves(8), attacks=FGSM)
    made = evaluate_subject(subject(classifier(Rounding(), SHAPE, 2)), planted, out=tmp_path / "run", device="cpu")
    assert flag(made, "zero_gradient").evidence == {"share": 1.0}
    assert "its gradient vanishes on 100% of the evaluation images" in made.failures["fgsm"]


def test_a_gradient_that_vanishes_on_most_images_is_none(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8))
    victim = classifier(left_or_right(), SHAPE, 2)
    clean = examine(victim, planted, planted.load())
    assert blinded(victim, replace(clean, zero_gradient_share=0.5)).logits is victim.logits
    without = blinded(victim, replace(clean, zero_gradient_share=0.51))
    assert (without.logits, without.no_gradient) == (None, "its gradient vanishes on 51% of the evaluation images")


def test_a_rejection_without_gradient_hides_no_gradient(tmp_path: Path) -> None:
    """A detector that rounds: its column is flat, and far above the classes."""
    net, planted = left_or_right(), battery(tmp_path, *halves(8))
    inner = classifier(net, SHAPE, 2)
    victim = replace(inner, rejects=True, logits=lambda x, rng: nn.functional.pad(net(x), (0, 1), value=1e3))
    assert examine(victim, planted, planted.load()).zero_gradient_share == 0


def test_gradient_mismatch(tmp_path: Path) -> None:
    made = run(WrongGradient(), tmp_path)
    assert "autograd is off from finite differences by" in str(flag(made, "gradient_mismatch").evidence["reason"])
    assert flag_codes(made.record) == {"gradient_mismatch"}
    assert made.record.certificate is not None
    assert made.record.certificate["mismatch"] is True
    assert made.record.attacks["fgsm"].fooling_ratio.value is None


def test_surrogate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel of which one model has the victim's own weights, one the upper half of them; one is turned sideways."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    turned = Linear(left_or_right().weight.view(2, 8, 8).transpose(1, 2).flatten(1))
    upper = Linear(left_or_right().weight * (torch.arange(64) < 32))
    nets = {"turned": turned, "twin": left_or_right(), "again": turned, "upper": upper}
    attacks = small(fgsm={"curve": []}, one_pixel={"pixels": [1]}, gradient_ascent={"steps": 60, "runs": 1})
    images, labels = halves(8)
    panel = {"models": [linear_onnx(tmp_path, name, net) for name, net in nets.items()]}
    planted = battery(tmp_path, images, labels, attacks=attacks, panel=panel)
    made = evaluate(Rounding(), battery=planted, out=tmp_path / "run", device="cpu")
    for name in ("fgsm", "gradient_ascent"):
        attack = made.record.attacks[name]
        assert attack.mode == "surrogate"
        assert attack.mode_reason is not None
        assert attack.mode_reason in flag(made, "surrogate", name).sentence
        assert attack.fooling_ratio.value == 1  # the twin's images, wherever it stands among the others
        assert attack.budget == 4  # one query a panel model
        assert {row.queries for row in attack.tasks} == {2}
        assert attack.gradients == 0
    assert made.record.attacks["one_pixel"].mode == "black_box"
    assert flag_codes(made.record) == {"surrogate", "zero_gradient"}
    assert len([f for f in made.record.flags if f.code == "surrogate"]) == 2

    honest = evaluate(left_or_right(), battery=planted, out=tmp_path / "honest", device="cpu")
    assert honest.record.flags == []
    transfer = {(c.source, c.victim, c.attack): c for c in honest.record.transfer or []}
    assert len(transfer) == 4 * 2 * 3
    # Transfer counts where both are right on the clean image. Half of a step of 0.2 does not fool the whole victim.
    right = {
        name: (net(torch.from_numpy(images) / 255).argmax(1).numpy() == labels).sum() for name, net in nets.items()
    }
    assert 0 < right["turned"] < right["upper"] == 8
    for name in nets:
        there, back = transfer[name, "submission", "fgsm"], transfer["submission", name, "fgsm"]
        assert (there.any_label.k, there.any_label.n) == (8 if name == "twin" else 0, right[name]), name
        assert (back.any_label.k, back.any_label.n) == (8 if name in ("twin", "upper") else 0, right[name]), name
        assert (there.same_label, back.same_label) == (there.any_label, back.any_label)
        assert transfer["submission", name, "one_pixel"].any_label.value is None  # nobody was fooled: nothing to try


# saturated, rejects_clean


@pytest.mark.parametrize(("gain", "saturated"), [(8.0, False), (20.0, False), (250.0, True)])
def test_saturated(tmp_path: Path, gain: float, saturated: bool) -> None:
    made = run(left_or_right(gain=gain), tmp_path)
    assert flag_codes(made.record) == ({"saturated"} if saturated else set())
    if saturated:
        assert flag(made, "saturated").evidence == {"tau": 1.0}
        # Behind votes, which cannot be logits, there is something else to do.
        assert "votes (randomized_smoothing) are 1.0 wherever all copies agree" in flag(made, "saturated").sentence


@pytest.mark.parametrize(("count", "flagged"), [(20, False), (18, True)])
def test_rejects_clean(tmp_path: Path, count: int, flagged: bool) -> None:
    """One image is turned away: of 20 that is the 5% that are tolerated, of 18 it is more."""

    class Picky(nn.Module):
        """Rejects what has a black corner."""

        def __init__(self) -> None:
            super().__init__()
            self.halves = left_or_right(columns=3)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.halves(images)
            rejection = 200 * (0.1 - images[:, 0, 7, 7])
            return torch.cat([logits[:, :2], rejection[:, None]], 1)

    images, labels = halves(count)
    images[2, 0, 7, 7] = 0
    planted = battery(tmp_path, images, labels, attacks=FGSM)
    made = evaluate(Picky(), battery=planted, out=tmp_path / "run", device="cpu", reject_index=2)
    assert (made.record.scores.clean_rejection.k, made.record.scores.clean_rejection.n) == (1, count)
    assert flag_codes(made.record) == ({"rejects_clean"} if flagged else set())
    row = made.record.attacks["fgsm"].tasks[2]
    assert row.before is row.fooled is row.label is row.confidence is None
    assert row.spent == 0
    assert made.record.attacks["fgsm"].fooling_ratio.n == 7
    assert made.record.attacks["fgsm"].robust_accuracy is not None
    assert made.record.attacks["fgsm"].robust_accuracy.n == 8


# not_converged


def progress(queries: list[int | None], budget: int = 1000, mode: Any = "black_box") -> AttackResult:
    """An attack that first fooled its tasks after so many queries."""
    won = sum(q is not None for q in queries)
    return AttackResult(
        title="planted",
        parameters={},
        fooling_ratio=proportion(won, len(queries)),
        budget=budget,
        task="fool",
        mode=mode,
        tasks=[TaskRow(run=0, target=i, counts=True, fooled=q is not None, queries=q) for i, q in enumerate(queries)],
    )


SEEN = Seen(
    classes=10,
    tau=0.9,
    confidence=0.99,
    randomised=False,
    difference=0.0,
    zero_gradient_share=0.0,
    mismatch=None,
)


def not_converged(attack: AttackResult) -> list[Flag]:
    scores = Scores(**{name: unmeasured("planted") for name in Scores.model_fields})
    found = flags_of({"evolution": attack}, scores, SEEN)
    assert {f.code for f in found} <= {"not_converged", "surrogate"}
    return [f for f in found if f.code == "not_converged"]


def test_not_converged() -> None:
    """40 tasks, half of them fooled: the interval is ±0.149, so 6 late ones (0.15) are more, 5 (0.125) are not."""
    early: list[int | None] = [100] * 14 + [None] * 20
    (found,) = not_converged(progress([*early, *[901] * 6]))
    assert found.attack == "evolution"
    assert found.evidence["gain"] == 6 / 40
    assert found.evidence["half_width"] == pytest.approx(0.1481, abs=1e-3)
    assert "fooled 6 more tasks of 40" in found.sentence
    assert not_converged(progress([*early, 100, *[901] * 5])) == []
    assert not_converged(progress([*early, *[900] * 6])) == []  # the last tenth begins after 900
    assert not_converged(progress([*early, *[9] * 6], budget=9)) == []  # a single step, or nearly so
    assert not_converged(progress([*early, *[901] * 6], mode="surrogate")) == []


@dataclass(frozen=True)
class Patient:
    """Asks about mid-gray for so long, then about one image for each class that fools."""

    wait: int

    def search(self, task: Fool, rng: torch.Generator) -> Search:
        known = torch.zeros(2, *task.shape)
        known[0, :, :, :4], known[1, :, :, 4:] = 1, 1
        gray, runs = torch.full((task.runs, *task.shape), 0.5), torch.arange(task.runs)
        for _ in range(self.wait):
            yield Query(gray, runs)
        for image in known:
            yield Query(image.expand_as(gray), runs)
        return known.expand(task.runs, -1, -1, -1, -1)


@pytest.mark.parametrize(("wait", "flagged"), [(198, True), (178, False)])
def test_an_attack_that_only_just_gets_there_has_not_converged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: int, flagged: bool
) -> None:
    planning(monkeypatch, {"evolution": Patient(wait)})
    made = run(left_or_right(), tmp_path, small(evolution={}))  # 200 queries a run
    evolution = made.record.attacks["evolution"]
    assert [row.queries for row in evolution.tasks] == [wait + 1, wait + 2] * 2
    assert evolution.fooling_ratio.value == 1
    assert ("not_converged" in flag_codes(made.record)) is flagged


def test_certificates_are_told_from_one_another(tmp_path: Path) -> None:
    """A mismatch is no vanishing gradient, though its share is known as well."""
    planted = battery(tmp_path, *halves(8), attacks=FGSM)
    off = Certificate(agrees=False, mismatch=True, zero_gradient_share=0.5, reason="planted")
    victim = classifier(left_or_right(), SHAPE, 2)
    blind = subject(victim.__class__(SHAPE, 2, victim.device, victim.probabilities, None), certificate=off)
    made = evaluate_subject(blind, planted, out=tmp_path / "run", device="cpu")
    assert flag_codes(made.record) == {"gradient_mismatch"}
