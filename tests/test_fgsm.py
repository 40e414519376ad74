from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from foolbench.attacks.base import Ascent, Objective, Perturb
from foolbench.attacks.fgsm import Fgsm, SmallestEpsilon
from torch import Tensor


class TorchOracle:
    """An Oracle over a differentiable function; cuts gradients into batches of 3, as a driver might."""

    def __init__(self, net: Callable[[Tensor], Tensor], tasks: int, rejects: bool = False):
        self.net, self.rejects = net, rejects
        self.queries, self.gradients = torch.zeros(2, tasks, dtype=torch.int64)

    def probabilities(self, images: Tensor, owners: Tensor) -> Tensor:
        assert torch.equal(images, (images * 255).round() / 255)
        self.queries += torch.bincount(owners, minlength=len(self.queries))
        shares = self.net(images).softmax(1)
        return shares[:, :-1] if self.rejects else shares

    def direction(self, images: Tensor, owners: Tensor, objective: Objective, name: str) -> Tensor:
        return self.gradient(images, owners, objective).gradients.sign()

    def gradient(self, images: Tensor, owners: Tensor, objective: Objective) -> Ascent:
        self.gradients += torch.bincount(owners, minlength=len(self.gradients))
        parts = []
        for rows in torch.arange(len(images)).split(3):
            x = images[rows].clone().requires_grad_()
            logits = self.net(x)
            values = objective(logits, rows)
            parts.append((logits.detach(), values.detach(), torch.autograd.grad(values.sum(), x)[0]))
        return Ascent(*map(torch.cat, zip(*parts, strict=True)))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def linear(weights: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    return lambda images: F.linear(images.flatten(1), weights, bias)


def perturb(images: Tensor, labels: Tensor, targets: Tensor | None = None) -> Perturb:
    return Perturb(images, labels, images[:1], images.mean(0), targets)


def test_logistic_regression_in_closed_form() -> None:
    images = torch.rand((20, 1, 4, 4), generator=rng())
    weights = torch.randn((2, 16), generator=rng())
    weights[:, 3] = 0  # a pixel without influence stays as it is
    labels = linear(weights)(images).argmax(1)
    before = images.clone()
    oracle = TorchOracle(linear(weights), 20)
    finals = Fgsm(0.25).ascend(perturb(images, labels), oracle, rng())
    direction = (weights[1 - labels] - weights[labels]).sign().view_as(images)
    assert torch.equal(finals, (images + 0.25 * direction).clamp(0, 1))
    assert torch.equal(images, before)
    assert oracle.gradients.tolist() == [1] * 20
    assert oracle.queries.tolist() == [0] * 20


def test_softmax_regression_equals_cross_entropy_and_outlives_saturation() -> None:
    images, weights = torch.rand((12, 3, 5, 5), generator=rng()), torch.randn((10, 75), generator=rng())
    labels = linear(weights)(images).argmax(1)
    x = images.clone().requires_grad_()
    loss = F.cross_entropy(linear(weights)(x), labels, reduction="sum")
    expected = (images + 0.1 * torch.autograd.grad(loss, x)[0].sign()).clamp(0, 1)
    assert torch.equal(Fgsm(0.1).ascend(perturb(images, labels), TorchOracle(linear(weights), 12), rng()), expected)

    sharp = 1e4 * weights  # the label's probability is 1 and its cross-entropy has no gradient left
    finals = Fgsm(0.1).ascend(perturb(images, labels), TorchOracle(linear(sharp), 12), rng())
    second = linear(weights)(images).topk(2).indices[:, 1]
    direction = (weights[second] - weights[labels]).sign().view_as(images)
    assert torch.equal(finals, (images + 0.1 * direction).clamp(0, 1))


def test_targeted_step_raises_the_target() -> None:
    images, weights = torch.rand((9, 1, 6, 6), generator=rng()), torch.randn((4, 36), generator=rng())
    logits = linear(weights)(images)
    targets = logits.argmin(1)
    task = perturb(images, logits.argmax(1), targets)
    finals = Fgsm(0.1, targeted=True).ascend(task, TorchOracle(linear(weights), 9), rng())
    mixture = logits.softmax(1) @ weights
    direction = (weights[targets] - mixture).sign().view_as(images)
    assert torch.equal(finals, (images + 0.1 * direction).clamp(0, 1))
    with pytest.raises(ValueError, match="expected a task with targets for a targeted step, got None"):
        Fgsm(0.1, targeted=True).ascend(perturb(images, targets), TorchOracle(linear(weights), 9), rng())


def test_it_is_not_content_with_being_rejected() -> None:
    """Pixel 0 leads to rejection, steeply; pixel 1 to the other class."""
    weights = torch.tensor([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0]])
    net = linear(weights, torch.tensor([3.0, -3.0, -1.0]))
    images = torch.full((1, 1, 1, 2), 0.3)
    labels = torch.tensor([0])
    assert net(images).argmax() == 2 or net(images)[0, 0] == 3
    x = images.clone().requires_grad_()
    rejected = images + 0.5 * torch.autograd.grad(F.cross_entropy(net(x), labels), x)[0].sign()
    assert net(rejected).argmax() == 2  # what ascending cross-entropy does
    finals = Fgsm(0.5).ascend(perturb(images, labels), TorchOracle(net, 1, rejects=True), rng())
    assert net(finals).argmax() == 1


@pytest.mark.parametrize("coarse", [4, 7, 1000])
def test_smallest_epsilon_is_margin_over_l1_norm(coarse: int) -> None:
    generator = rng()
    images = torch.randint(100, 156, (40, 1, 4, 4), generator=generator) / 255
    weights = torch.randn((2, 16), generator=generator)
    net = linear(weights)
    labels = net(images).argmax(1)
    scores = images.flatten(1).double() @ (weights[0] - weights[1]).double()
    levels = scores.abs() / (weights[0] - weights[1]).double().abs().sum() * 255
    oracle = TorchOracle(net, 40)
    finals = SmallestEpsilon(100 / 255, coarse, 10).ascend(perturb(images, labels), oracle, rng())
    found = ((finals - images).abs().amax((1, 2, 3)) * 255).round()
    assert torch.equal(found.double(), levels.floor() + 1)
    assert (net(finals).argmax(1) != labels).all()
    assert oracle.gradients.tolist() == [1] * 40
    assert int(oracle.queries.max()) <= coarse + 10

    early = SmallestEpsilon(100 / 255, 4, 1).ascend(perturb(images, labels), TorchOracle(net, 40), rng())
    beyond = ((early - images).abs().amax((1, 2, 3)) * 255).round() - found
    assert int(beyond.min()) >= 0
    assert int(beyond.max()) <= 12  # half a bracket of 25, less the level that flips


def band(images: Tensor) -> Tensor:
    """One pixel: class 1 at levels 40 to 60 and from 200, class 0 else; brighter is more like 1 at level 0."""
    level = images.flatten(1)[:, 0] * 255
    inside = ((level > 39.5) & (level < 60.5)) | (level > 199.5)
    slope = 0.001 * level
    return torch.stack([torch.zeros_like(level), slope - 1 + 2 * inside], 1)


def test_flips_that_come_and_go() -> None:
    task = perturb(torch.zeros(1, 1, 1, 1), torch.tensor([0]))
    oracle = TorchOracle(band, 1)
    finals = SmallestEpsilon(1.0, 10, 8).ascend(task, oracle, rng())
    assert round(float(finals) * 255) == 40
    assert oracle.queries.tolist() == [2 + 5]  # 26 and 51 of the scan; then 38, 44, 41, 39, 40 in between
    assert round(float(SmallestEpsilon(1.0, 1, 0).ascend(task, TorchOracle(band, 1), rng())) * 255) == 255


def test_what_never_flips_comes_back_at_the_largest_step() -> None:
    images = torch.full((2, 1, 1, 1), 51 / 255)
    labels = torch.tensor([0, 0])

    def run(rejects: bool, net: Callable[[Tensor], Tensor]) -> tuple[Tensor, TorchOracle]:
        oracle = TorchOracle(net, 2, rejects)
        return SmallestEpsilon(8 / 255, 4, 5).ascend(perturb(images, labels), oracle, rng()), oracle

    finals, oracle = run(False, linear(torch.tensor([[0.0], [1.0]]), torch.tensor([5.0, 0.0])))
    assert torch.equal(finals, torch.full_like(images, 59 / 255))
    assert oracle.queries.tolist() == [4, 4]

    def net(images: Tensor) -> Tensor:
        """Label 1 overtakes label 0 at 54 / 255, but from there on the victim rejects."""
        value = images.flatten(1)[:, 0]
        return torch.stack([torch.full_like(value, 0.21), value, torch.where(value > 0.209, 20.0, -20.0)], 1)

    finals, oracle = run(True, net)
    assert (net(finals)[:, 1] > net(finals)[:, 0]).all()
    assert (net(finals).argmax(1) == 2).all()
    assert oracle.queries.tolist() == [4, 4]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected epsilon in \(0, 1\], got 8: give it in pixel values of \[0, 1\]"):
        Fgsm(8)
    with pytest.raises(ValueError, match=r"expected largest in \(0, 1\], got 0"):
        SmallestEpsilon(0, 4, 4)
