"""Flags of gradients: those that vanish, those of something else, and what stands in for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flagged import SHAPE, Rounding, WrongGradient, flag, judged, run
from foolbench.bench import evaluate
from foolbench.bench.asking.clean import blinded, examine
from foolbench.models.certificate import Certificate
from planted import Linear, battery, classifier, flag_codes, ground, halves, left_or_right, linear_onnx, small
from torch import Tensor, nn


class HalfDead(nn.Module):
    """Its class-1 half of the margin is clipped flat: no gradient on images of class 1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = left_or_right()

    def forward(self, images: Tensor) -> Tensor:
        margin = self.inner(images)[:, 0].clamp(min=-1)
        return torch.stack([margin, -margin], 1)


class DeadAtTheMean(nn.Module):
    """Sees halves brighter than 0.33: a slope on every clean image, and none around their mean of 0.27."""

    def forward(self, images: Tensor) -> Tensor:
        sides = torch.stack([images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))], 1)
        return 100 * (sides - 0.33).relu()


# gradients that vanish


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


def test_zero_gradient_where_gradient_ascent_starts(tmp_path: Path) -> None:
    made = run(DeadAtTheMean(), tmp_path, small(gradient_ascent={"steps": 20}))
    tasks = len(made.record.attacks["gradient_ascent"].tasks)
    assert flag(made, "zero_gradient", "gradient_ascent").evidence == {"stuck": tasks, "tasks": tasks}
    assert [f.code for f in made.record.flags] == ["zero_gradient"]


BORROWED = {"steps": 20, "rate": 0.1, "after": ["evolution"], "borrows": [], "asked": 3, "climbed": 2}


@pytest.mark.parametrize(
    ("more", "stuck"),
    [
        ({"starts": ["1/255", "2/255"]}, True),  # dead at both
        ({"starts": ["1/255", "200/255"]}, False),  # stronger noise is bright enough
        ({"starts": ["1/255", "2/255"], "adam": {"steps": 20, "rate": 0.1}}, True),
        ({"starts": ["1/255", "2/255"], "borrowed": BORROWED}, False),  # evolution begins with bright noise
        ({"starts": ["1/255", "2/255"], "borrowed": BORROWED | {"after": []}}, True),  # nothing to borrow
    ],
)
def test_an_ascent_is_dead_where_all_its_starts_are(tmp_path: Path, more: dict[str, Any], stuck: bool) -> None:
    made = run(DeadAtTheMean(), tmp_path, small(evolution={}, gradient_ascent={"steps": 20} | more))
    ascent = made.record.attacks["gradient_ascent"]
    dead = [f for f in made.record.flags if (f.code, f.attack) == ("zero_gradient", "gradient_ascent")]
    assert [f.evidence["stuck"] for f in dead] == ([len(ascent.tasks)] if stuck else [])
    # Four settings, with two starts each, and Adam or what borrows.
    looks = 2 * (4 + ("adam" in more or "borrowed" in more))
    assert {row.spent for row in ascent.tasks} == {looks} or not stuck
    assert ascent.fooling_ratio.value == (0 if stuck else 1)


def test_zero_gradient_behind_a_victim_of_its_own(tmp_path: Path) -> None:
    """Not refused when loaded, as a victim behind a defense is not; found out before the attacks."""
    made = judged(classifier(Rounding(), SHAPE, 2), tmp_path)
    assert flag(made, "zero_gradient").evidence == {"share": 1.0}
    assert "its gradient vanishes on 100% of the evaluation images" in made.failures["fgsm"]


def test_a_gradient_that_vanishes_on_most_images_is_none(tmp_path: Path) -> None:
    planted = battery(tmp_path, *halves(8))
    victim = classifier(left_or_right(), SHAPE, 2)
    clean = examine(victim, ground(planted))
    assert blinded(victim, replace(clean, zero_gradient_share=0.5)).logits is victim.logits
    without = blinded(victim, replace(clean, zero_gradient_share=0.51))
    assert (without.logits, without.no_gradient) == (None, "its gradient vanishes on 51% of the evaluation images")


def test_a_rejection_without_gradient_hides_no_gradient(tmp_path: Path) -> None:
    """A detector that rounds: its column is flat, and far above the classes."""
    net, planted = left_or_right(), battery(tmp_path, *halves(8))
    inner = classifier(net, SHAPE, 2)
    victim = replace(inner, rejects=True, logits=lambda x, rng: nn.functional.pad(net(x), (0, 1), value=1e3))
    assert examine(victim, ground(planted)).zero_gradient_share == 0


# gradients of something else


def test_gradient_mismatch(tmp_path: Path) -> None:
    made = run(WrongGradient(), tmp_path)
    assert "autograd is off from finite differences by" in str(flag(made, "gradient_mismatch").evidence["reason"])
    assert flag_codes(made.record) == {"gradient_mismatch"}
    assert made.record.certificate is not None
    assert made.record.certificate["mismatch"] is True
    assert made.record.attacks["fgsm"].fooling_ratio.value is None


def test_certificates_are_told_from_one_another(tmp_path: Path) -> None:
    """A mismatch is no vanishing gradient, though its share is known as well."""
    off = Certificate(agrees=False, mismatch=True, zero_gradient_share=0.5, reason="planted")
    blind = replace(classifier(left_or_right(), SHAPE, 2), logits=None)
    made = judged(blind, tmp_path, certificate=off)
    assert flag_codes(made.record) == {"gradient_mismatch"}


# what stands in


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
