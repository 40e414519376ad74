"""The certificate lets honest gradients pass and no others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foolbench.models.certificate import Certificate, certify
from foolbench.models.modules.module import from_module, module_digest
from foolbench.models.onnx.load import load_onnx
from foolbench.models.preprocess import Preprocess
from model_files import CLASSES, SHAPE, apart, conv, graph, linear, linear_weights, load, pictures, seeded
from onnx import helper
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn


class Network(nn.Module):
    """An honest small network; `middle` is where the dishonest ones put their trick."""

    def __init__(self, middle: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.middle = middle or nn.Identity()
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2)
        return self.head(self.middle(x.flatten(1)))


class WrongSlope(torch.autograd.Function):
    """tanh, whose backward claims to be the identity."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return torch.tanh(4 * x)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return WrongSlope.apply(x)  # type: ignore[return-value]


class Rounding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (8 * x).round() / 8


def certified(reference: nn.Module, copy: nn.Module, **kwargs) -> Certificate:
    @torch.no_grad()
    def answers(images: Tensor) -> Tensor:
        return reference(images)

    return certify(answers, copy, pictures(), seeded(), **kwargs)


def test_an_honest_network_passes_in_both_precisions():
    net = Network()
    rough = certified(net, net)
    assert rough.agrees
    assert rough.gradient_precision == "float32"
    exact = certified(net, net, precise=Network().double())
    assert exact.agrees
    assert exact.gradient_precision == "float64"
    assert exact.gradient_error is not None
    assert exact.gradient_error < 1e-5
    assert exact.zero_gradient_share == 0
    assert exact.max_logit_difference == 0
    assert exact.images == 40
    assert json.loads(json.dumps(exact.as_json()))["agrees"] is True


def test_a_perturbed_weight_is_a_mismatch():
    net, copy = Network(), Network()
    with torch.no_grad():
        copy.head.weight[3, 5] += 0.1
    result = certified(net, copy)
    assert not result.agrees
    assert result.mismatch
    assert "differ" in (result.reason or "")


def test_a_gradient_that_is_not_the_function_s_is_a_mismatch():
    net = Network(Wrong())
    for precise in (None, Network(Wrong()).double()):
        result = certified(net, net, precise=precise)
        assert not result.agrees
        assert result.mismatch
        assert (result.gradient_error or 0) > 0.2
        assert "finite differences" in (result.reason or "")


def test_a_rounding_network_has_no_usable_gradient_and_the_certificate_says_why():
    net = Network(Rounding())
    result = certified(net, net, precise=Network(Rounding()).double())
    assert not result.agrees
    assert not result.mismatch
    assert result.zero_gradient_share == 1.0
    assert (result.hidden_slope_share or 0) > 0.8
    assert "hides the slope" in (result.reason or "")


def test_a_constant_network_has_no_gradient_and_nothing_is_said_to_hide_it():
    net = Network()
    nn.init.zeros_(net.head.weight)
    result = certified(net, net)
    assert not result.agrees
    assert result.hidden_slope_share == 0
    assert "hides" not in (result.reason or "")


def test_a_gradient_that_is_not_finite_counts_as_vanished():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            # sqrt has an infinite slope at 0, and infinity times 0 is not a number
            return x + (x * 0).abs().sqrt() * 0

    net = Network(Broken())
    result = certified(net, net)
    assert result.zero_gradient_share == 1.0
    assert not result.agrees
    json.dumps(result.as_json(), allow_nan=False)


def test_the_same_seed_gives_the_same_certificate():
    net = Network()
    assert certified(net, net) == certified(net, net)


def test_numbers_that_are_not_finite_become_null():
    assert Certificate(agrees=False, gradient_error=float("inf")).as_json()["gradient_error"] is None


# through the loaders


def test_onnx_networks_are_certified(tmp_path: Path):
    loaded = load(conv(), tmp_path)
    assert loaded.certificate.agrees
    assert loaded.certificate.gradient_precision == "float64"
    assert loaded.classifier.logits is not None
    assert loaded.classifier.no_gradient is None


def test_an_onnx_network_with_a_round_in_it_gets_a_stand_in_and_says_why(tmp_path: Path):
    nodes = [
        helper.make_node("Mul", ["x", "eight"], ["m"]),
        helper.make_node("Round", ["m"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    loaded = load(graph(nodes, linear_weights() | {"eight": np.array(8, np.float32)}), tmp_path)
    assert loaded.classifier.surrogates == ("the network's own rounding",)
    assert "exactly 0" in (loaded.certificate.reason or "")
    assert loaded.certificate.straight_through
    assert not loaded.certificate.mismatch
    assert loaded.backend == "onnxruntime-cpu"
    assert loaded.classifier.logits is not None
    images = pictures().requires_grad_()
    logits = loaded.classifier.logits(images, seeded())
    assert torch.equal(logits.detach(), loaded.reference(images.detach()))  # the file's own, to the bit
    (gradient,) = torch.autograd.grad(logits[:, 3].sum(), images)
    torch.testing.assert_close(gradient.flatten(1)[0], 8 * torch.from_numpy(linear_weights()["w"])[:, 3])


def test_a_saturated_network_has_no_usable_gradient(tmp_path: Path):
    weights = linear_weights(gain=1e6) | {"w2": np.eye(CLASSES, dtype=np.float32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "w2"], ["y"]),
    ]
    loaded = load(graph(nodes, weights), tmp_path)
    assert loaded.classifier.logits is None
    assert loaded.certificate.zero_gradient_share == 1.0


def test_a_saturated_final_softmax_hides_nothing(tmp_path: Path):
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["h"]),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
    ]
    loaded = load(graph(nodes, linear_weights(gain=1e4)), tmp_path, output="probabilities")
    images = pictures()
    probabilities = loaded.classifier.probabilities(images, seeded())
    assert float((probabilities == 1).float().mean()) > 0.09
    assert loaded.classifier.logits is not None
    logits = loaded.classifier.logits(images, seeded())
    torch.testing.assert_close(logits.softmax(1), probabilities, atol=1e-3, rtol=0)
    assert loaded.certificate.zero_gradient_share == 0


@pytest.fixture(scope="module")
def forest() -> bytes:
    skl2onnx = pytest.importorskip("skl2onnx")
    digits, labels = load_digits(return_X_y=True)
    model = RandomForestClassifier(10, random_state=0).fit(digits / 16, labels)
    kind = skl2onnx.common.data_types.FloatTensorType([None, 64])
    return skl2onnx.to_onnx(model, initial_types=[("x", kind)], options={"zipmap": False}).SerializeToString()


def test_a_random_forest_answers_and_has_no_gradient(forest: bytes, tmp_path: Path):
    digits, labels = load_digits(return_X_y=True)
    images = torch.tensor(digits / 16, dtype=torch.float32).reshape(-1, *SHAPE)
    loaded = load(forest, tmp_path, output="probabilities", preprocess=Preprocess(layout="flat"), images=images)
    answers = loaded.classifier.probabilities(images, seeded())
    assert float((answers.argmax(1) == torch.tensor(labels)).float().mean()) > 0.98
    assert loaded.classifier.logits is None
    assert "TreeEnsembleClassifier" in (loaded.classifier.no_gradient or "")
    assert not loaded.certificate.agrees
    assert not loaded.certificate.mismatch


def test_zipmap_is_refused_with_the_way_out(tmp_path: Path):
    skl2onnx = pytest.importorskip("skl2onnx")
    digits, labels = load_digits(return_X_y=True)
    model = RandomForestClassifier(2, random_state=0).fit(digits, labels)
    kind = skl2onnx.common.data_types.FloatTensorType([None, 64])
    data = skl2onnx.to_onnx(model, initial_types=[("x", kind)]).SerializeToString()
    with pytest.raises(ValueError, match="zipmap"):
        load(
            data,
            tmp_path,
            output="probabilities",
            preprocess=Preprocess(layout="flat"),
            output_name="output_probability",
        )


def test_a_copy_that_lies_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import onnx2fx

    honest = onnx2fx.convert

    def converted(model):
        module = honest(model)
        for buffer in module.buffers():
            if buffer.ndim == 2:
                buffer[0, 0] += 1.0
        return module

    monkeypatch.setattr(onnx2fx, "convert", converted)
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().SerializeToString())
    loaded = load_onnx(path, apart({})[0], preprocess=Preprocess(), output="logits")
    assert loaded.certificate.mismatch
    assert loaded.classifier.logits is None
    assert "differ" in (loaded.classifier.no_gradient or "")


# modules


def loaded_module(module: nn.Module, **kwargs):
    where, rest = apart(kwargs)
    usual: dict[str, Any] = {"preprocess": Preprocess()}
    return from_module(module, where, **(usual | rest))


def test_a_module_is_copied_and_its_training_left_alone():
    net = Network(nn.Dropout()).train()
    loaded = loaded_module(net)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    images = pictures()
    before = loaded.classifier.probabilities(images, seeded())
    with torch.no_grad():
        net.head.bias.add_(1.0 + torch.arange(CLASSES))
    assert torch.equal(loaded.classifier.probabilities(images, seeded()), before)
    assert loaded.backend == "torch"
    assert loaded.certificate.agrees
    (before * images.mean().requires_grad_()).sum().backward()  # an ordinary tensor, not one of inference mode


def test_modules_that_cannot_be_judged_are_refused():
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    batched = nn.BatchNorm1d(64, track_running_stats=False)
    for module, sentence in (
        (Network(Noisy()), "same answers"),
        (
            nn.Sequential(nn.Flatten(), batched, nn.Linear(64, 10)),
            "others in its",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), "10 numbers for each"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1)), "expected logits"),
    ):
        with pytest.raises(ValueError, match=sentence):
            loaded_module(module)
    with pytest.raises(RuntimeError, match=r"answer images \(.*, 1, 8, 8\), got RuntimeError"):
        loaded_module(nn.Sequential(nn.Flatten(), nn.Linear(63, 10)))


def test_a_module_s_digest_is_of_its_weights_and_structure():
    digest = module_digest(Network())
    assert digest == module_digest(Network())
    changed = Network()
    with torch.no_grad():
        changed.head.bias[0] += 1e-3
    others = (changed, Network(nn.ReLU()), Network().half())
    assert len({digest, *map(module_digest, others)}) == 4
