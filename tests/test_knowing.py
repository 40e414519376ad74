"""A victim that knows the evaluation images, or what attacks begin with, is in doubt; one that is as good elsewhere is
not, however it was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from defense_victims import seeded
from foolbench.bench import evaluate, read_submission
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.entries import entries
from foolbench.bench.battery.ground import Ground
from foolbench.bench.choices import Tier
from foolbench.bench.honesty.changed import variants
from foolbench.bench.honesty.memorised import Unknown
from foolbench.bench.honesty.nonsense import other_nonsense
from foolbench.bench.honesty.questions import answers_to
from foolbench.bench.honesty.recognition import Beginnings
from foolbench.bench.running.prepared import prepare
from foolbench.bench.scores.behaviour import behaviour
from foolbench.bench.scores.intervals import proportion
from foolbench.bench.victim.assemble import panel_classifier, subject_of
from foolbench.leaderboard.record.doubts import doubted
from foolbench.leaderboard.record.known import Known, Recognition, Shares, excess
from foolbench.leaderboard.record.record import Flag
from foolbench.leaderboard.record.seen import Seen
from foolbench.models.base import Classifier
from planted import flag_codes
from planted_knowing import KNOWING, looked_up
from small_runs import BATTERY, SUBMISSION, changed, submit

TIERS: tuple[Tier, ...] = ("smoke", "standard")
SUBMISSIONS = Path(__file__).resolve().parents[1] / "submissions"


@cache
def digits(tier: Tier) -> Ground:
    battery = read_battery("digits-v1", tier=tier)
    return Ground(battery, battery.load(), torch.device("cpu"))


@cache
def member(tier: Tier, name: str) -> Classifier:
    return panel_classifier(digits(tier), name)


@dataclass(frozen=True)
class Asked:
    known: Known
    recognition: Recognition
    images: int
    flags: dict[str, Flag]


def asked(victim: Classifier, ground: Ground, digest: str = "a digest") -> Asked:
    """What the two checks say of a victim, and what they cost."""
    prepared = prepare(victim, ground, None, digest)
    unknown, begun = Unknown(prepared, digest), Beginnings(prepared, entries(ground.battery), digest)
    questions = [unknown.question(), begun.question()]
    answers = answers_to(victim, questions)
    known, recognition = unknown.known(answers[0]), begun.recognition(answers[1])
    assert recognition is not None
    seen = Seen(10, prepared.clean.tau, 0.9, False, 0.0, None, None, known=known, recognition=recognition)
    found = {flag.code: flag for flag in behaviour(seen)}
    return Asked(known, recognition, sum(len(question.images) for question in questions), found)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", KNOWING)
def test_who_knows_is_in_doubt(name: str, tier: Tier) -> None:
    plant, code = KNOWING[name]
    ground = digits(tier)
    found = asked(plant(member(tier, "lenet-a"), ground.battery, ground.data), ground)
    assert set(found.flags) == {code}
    assert doubted(found.flags.values()) == f"in doubt: {code}"
    if name == "accepts what is near one":  # the variants do not tell, and others do
        assert (found.known.changed.accepted.value or 0) > 0.9
        assert list(found.known.found) == [f"the {found.known.others_are}"]


@pytest.mark.parametrize("tier", TIERS)
def test_a_network_that_looks_up_is_in_doubt(tier: Tier, tmp_path: Path) -> None:
    ground = digits(tier)
    file = looked_up(ground.data, tmp_path / "net.onnx")
    (tmp_path / "submission.yaml").write_text(
        "schema: 1\nname: looked up\nauthors: [A]\nbattery: digits-v1\n"
        f"model: {{kind: onnx, path: {file.name}, output: logits, reject_index: 10}}\n"
    )
    subject = subject_of(read_submission(tmp_path / "submission.yaml"))
    found = asked(subject.assemble(ground).victim, ground)
    assert found.known.own.right is not None
    assert found.known.own.right.value == 1
    assert set(found.flags) == {"memorised"}
    assert "evaluation images" in found.flags["memorised"].evidence


PANEL = tuple(model.name for model in read_battery("digits-v1").spec.panel.models)  # type: ignore[union-attr]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", PANEL)
def test_an_honest_network_is_not(name: str, tier: Tier) -> None:
    """Nearest neighbours among the training images too; the worst of them loses less than half of what is tolerated."""
    for digest in ("a digest", "another"):
        found = asked(member(tier, name), digits(tier), digest)
        assert found.flags == {}
        for side in (found.known.others, found.known.changed):
            assert side is not None
            assert side.right is not None
            assert (side.right.value or 0) > (found.known.own.right.value or 0) - 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize("tier", TIERS)
def test_a_class_of_fooling_images_is_not(tier: Tier) -> None:
    """It was shown uniform noise and evolved images, and turns away nearly all other nonsense as well."""
    given = subject_of(read_submission(SUBMISSIONS / "digits-lenet-fooling-class" / "submission.yaml"))
    found = asked(given.assemble(digits(tier)).victim, digits(tier))
    assert found.flags == {}
    assert (found.recognition.made.accepted.value or 0) < 0.05  # type: ignore[union-attr]


def test_what_is_asked_costs_little_and_comes_from_the_digest() -> None:
    ground = digits("standard")
    victim, queries = member("standard", "mlp"), sum(e.budget * e.tasks for e in entries(ground.battery))
    one, again, other = (asked(victim, ground, digest) for digest in ("one", "one", "other"))
    assert one.images < 0.01 * queries
    assert one == again
    assert one.known.own == other.known.own
    assert one.known.variants != other.known.variants
    # What the battery alone fixes is the same, however a network's file is written.
    fixed = ("own", "fresh", "made", "kinds", "nonsense")
    assert all(getattr(one.recognition, name) == getattr(other.recognition, name) for name in fixed)
    assert one.recognition.unseen != other.recognition.unseen


def test_others_are_no_evaluation_images_and_of_the_same_classes() -> None:
    for tier, are in (("smoke", "held-out images"), ("standard", "training images")):
        ground = digits(tier)
        found = ground.battery.others(ground.data, 40, np.random.default_rng(0))
        assert found.are == are
        assert np.bincount(found.labels).tolist() == [4] * 10
        assert not {i.tobytes() for i in found.images} & {i.tobytes() for i in ground.data.images}


def test_variants_keep_black_and_range_and_move_by_what_they_say() -> None:
    images, spec = torch.zeros(40, 1, 15, 15), read_battery("mnist-v1").spec.variants
    images[:, :, 4:11, 7] = 0.8  # an upright line
    made = variants(images, spec.model_copy(update={"shift": 2.0}), seeded(3))
    rows, columns = torch.meshgrid(torch.arange(15.0), torch.arange(15.0), indexing="ij")
    for kind, some in made.items():
        assert some.shape == images.shape
        assert some.min() >= 0
        assert some.max() <= 1
        assert ((some - images).abs().amax((1, 2, 3)) > 0.015).all(), kind
    weights = made["shifted"][:, 0]
    for places in (rows, columns):  # of the centre of mass: between one pixel and two, to either side
        moved = (weights * places).sum((1, 2)) / weights.sum((1, 2)) - 7
        assert ((moved.abs() > 0.99) & (moved.abs() < 2.01)).all()
        assert moved.min() < 0 < moved.max()
    turned = made["turned"][:, 0]
    upper, lower = ((turned * columns)[:, r].sum(1) / turned[:, r].sum(1) for r in (5, 9))
    slope = torch.atan((upper - lower) / 4).rad2deg().abs()
    assert (slope > 0.4 * spec.turn).all()
    assert (slope < 1.1 * spec.turn).all()
    for kind in ("other brightness", "other contrast"):
        assert (made[kind][images == 0] == 0).all()


def test_other_nonsense_is_of_many_kinds_and_in_range() -> None:
    natural = digits("smoke").data.pixels(torch.device("cpu"))
    for images in (natural, natural.expand(-1, 3, -1, -1), torch.rand(2, 3, 9, 7)):
        made = other_nonsense(images, 20, seeded(1))
        assert len(made) == 10
        for kind, some in made.items():
            assert some.shape == (20, *images.shape[1:]), kind
            assert some.min() >= 0, kind
            assert some.max() <= 1, kind
            assert len({image.numpy().tobytes() for image in some}) > 10, kind
        again = other_nonsense(images, 20, seeded(1))
        assert all(torch.equal(made[kind], again[kind]) for kind in made)


@pytest.mark.parametrize(
    ("here", "there", "tolerated", "found"),
    [(38, 20, 0.2, True), (40, 36, 0.2, False), (40, 34, 0.1, False), (40, 25, 0.4, False), (20, 38, 0.1, False)],
)
def test_an_excess_is_beyond_the_intervals_and_what_is_tolerated(
    here: int, there: int, tolerated: float, found: bool
) -> None:
    """Forty images of either kind, as on the smoke tier: 40 right of 40 beside 34 of 40 may be luck."""
    assert (excess("right", proportion(here, 40), proportion(there, 40), tolerated) is not None) == found
    assert excess("right", None, proportion(there, 40), tolerated) is None


def test_what_is_public_of_a_kind_may_not_differ() -> None:
    """A victim that prepared for the battery's own images, and for those that the battery fixes as well."""
    few = Shares(proportion(2, 100), proportion(0, 100), None)
    many = Shares(proportion(60, 100), proportion(0, 100), None)
    honest = Recognition(proportion(50, 100), proportion(45, 100), proportion(52, 100), None, None, many, many)
    assert not honest.memorised
    assert replace(honest, own=proportion(5, 100)).memorised
    assert replace(honest, own=proportion(5, 100), fresh=proportion(5, 100)).memorised
    assert replace(honest, own=proportion(5, 100), fresh=proportion(90, 100)).memorised
    assert replace(honest, nonsense=few).memorised
    assert replace(honest, made=few, nonsense=many, tolerated=0.3).kinds_known is not None
    assert replace(honest, made=many, nonsense=few, tolerated=0.3).kinds_known is None


def test_an_honest_run_carries_both_and_earns_neither(tmp_path: Path) -> None:
    run = evaluate(submit(tmp_path, submission=changed(SUBMISSION), battery=changed(BATTERY)), device="cpu", workers=1)
    seen = run.record.seen
    assert seen.known is not None
    assert seen.recognition is not None
    assert len(seen.known.variants) == 4
    assert not {"memorised", "recognition"} & flag_codes(run.record)
