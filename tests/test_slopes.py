"""A gradient must say how answers change at whole gray levels: planted nets that hide their slope, and honest ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from foolbench.models.certificate import certify
from foolbench.models.slopes import EIGHT_BITS, LONGEST, Slopes, compared, directions, other_classes, whole_steps
from model_files import CLASSES, pictures, seeded
from torch import Tensor, nn


class Smooth(nn.Module):
    """An honest small network, seen through `lens`."""

    def __init__(self, lens: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lens = lens
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(64, CLASSES)
        self.decoy = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.max_pool2d(self.conv(self.lens(x)).relu(), 2).flatten(1))


class Decoy(Smooth):
    """What a rounded image gives, and a faint linear term, which is all that autograd sees."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3 * self.decoy(x.flatten(1))


def staircase(x: Tensor, top: int = 255) -> Tensor:
    return (x * top).round() / top


class Backwards(torch.autograd.Function):
    """The right answers with their gradient times `factor`."""

    @staticmethod
    def forward(ctx, logits: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return logits.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * gradients[0], None


def slopes(net: Callable[[Tensor], Tensor], steps: tuple[float, ...] = EIGHT_BITS) -> Slopes:
    images = pictures(16)
    ways = directions(images, seeded(), steps)
    return compared(net, net, images, ways, steps, partial(other_classes, rejects=False))


def test_of_a_linear_network_of_two_classes_the_gradient_foretells_everything() -> None:
    torch.manual_seed(0)
    found = slopes(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    torch.testing.assert_close(found.cosine, torch.ones_like(found.cosine), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.factor, torch.ones_like(found.factor), atol=1e-4, rtol=0)
    assert found.wrong() is None


@pytest.mark.parametrize("top", [255, 64, 16])
def test_a_rounding_behind_a_faint_linear_term_is_found(top: int) -> None:
    net = Decoy(partial(staircase, top=top))
    found = slopes(net)
    assert not found.vanishes.any()
    median = found.median()
    assert median is not None
    assert median < 0.3
    assert "cosine" in (found.wrong() or "")
    result = certify(net, net, pictures(), seeded(), precise=Decoy(partial(staircase, top=top)).double())
    assert (result.agrees, result.mismatch) == (False, True)
    assert result.gradient_error is not None
    assert result.gradient_error < 1e-3  # at infinitesimal steps all is well
    assert result.slope_cosine is not None
    assert result.slope_cosine < 0.3


def test_the_same_network_without_the_rounding_is_left_alone() -> None:
    for net in (Smooth(), Decoy()):
        result = certify(net, net, pictures(), seeded())
        assert result.agrees
        assert (result.slope_cosine or 0) > 0.8


@pytest.mark.parametrize("factor", [-1.0, 1e-3, 1e3])
@pytest.mark.parametrize("power", [1.0, 1.5])
def test_a_gradient_turned_round_or_of_another_length_fails_behind_any_power(factor: float, power: float) -> None:
    """Outside [0, 1] x**1.5 is no number, and what cannot be compared must not pass."""
    honest = Smooth(lambda x: x**power)
    assert certify(honest, honest, pictures(), seeded()).agrees

    def lying(images: Tensor) -> Tensor:
        return Backwards.apply(honest(images), factor)  # type: ignore[return-value]

    result = certify(honest, lying, pictures(), seeded())
    assert result.mismatch
    assert slopes(lying).wrong() is not None


def test_no_image_that_is_asked_about_leaves_the_range() -> None:
    net, asked = Smooth(), []

    def watched(images: Tensor) -> Tensor:
        asked.append((float(images.detach().min()), float(images.detach().max())))
        return net(images)

    certify(watched, watched, pictures(), seeded(), precise=None)
    assert min(low for low, _ in asked) >= 0
    assert max(high for _, high in asked) <= 1


def test_answers_that_are_no_numbers_count_against_the_gradient() -> None:
    net = Smooth()

    def broken(images: Tensor) -> Tensor:
        return net(images) * torch.where(images.flatten(1)[:, :1] < 2, torch.nan, 1.0)

    images = pictures(16)
    ways = directions(images, seeded(), EIGHT_BITS)
    found = compared(broken, net, images, ways, EIGHT_BITS, partial(other_classes, rejects=False))
    assert found.median() == 0
    assert certify(broken, net, images, seeded()).mismatch


def test_where_probabilities_are_saturated_nothing_is_compared() -> None:
    net = Smooth()

    def cold(images: Tensor) -> Tensor:
        return (1e6 * net(images)).softmax(1).clamp_min(torch.finfo(torch.float32).tiny).log()

    images = pictures(16)
    ways = directions(images, seeded(), EIGHT_BITS)
    side = partial(other_classes, rejects=False)
    found = compared(cold, net, images, ways, EIGHT_BITS, side, saturates=True)
    assert found.median() is None
    assert found.wrong() is None


def test_steps_are_whole_levels_of_the_data_and_no_move_is_long() -> None:
    assert whole_steps(255) == EIGHT_BITS
    assert [step * 16 for step in whole_steps(16)] == [1, 2]
    images = pictures(2, (3, 64, 64))
    ways = directions(images, seeded(), EIGHT_BITS).float()
    length = ways.flatten(3).norm(dim=3).mean((0, 2)) * torch.tensor(EIGHT_BITS)
    expected = [(3 * 64 * 64) ** 0.5 / 255, LONGEST, LONGEST]
    torch.testing.assert_close(length, torch.tensor(expected), atol=0.02, rtol=0)


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, False), (-1.0, True)])
def test_a_faint_slope_is_compared_where_it_can_be_seen(factor: float, wrong: bool) -> None:
    """Logits near 9 that hardly move: at the shortest step float32 shows nothing, at the longest one enough."""

    def net(x: Tensor) -> Tensor:
        faint = 2e-3 * x.flatten(1).mean(1, keepdim=True) * torch.arange(3).to(x)
        return Backwards.apply(torch.tensor([9.0, 0.0, 0.0]).to(x) + faint, factor)

    found = slopes(net)
    assert found.cosine[:, 0].isnan().all()
    assert not found.cosine[:, -1].isnan().any()
    assert found.median() == pytest.approx(factor, abs=0.01)
    assert (found.wrong() is not None) is wrong
