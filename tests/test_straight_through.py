"""Networks that ONNX Runtime's own tools quantise have a gradient again, held to what the quantised file answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from foolbench.models.loaded import Loaded
from foolbench.models.onnx.straight_through import NotFoldedError, dequantised, straight_through
from foolbench.models.slopes import whole_steps
from model_files import graph, linear, linear_weights, load, pictures, seeded
from onnx import helper
from sklearn.datasets import load_digits

LENET = Path(__file__).resolve().parents[1] / "models" / "panel" / "digits-lenet-a.onnx"
WAYS = ("dynamic", "QDQ", "QDQ by channel", "QOperator", "QOperator by channel")


def digits() -> torch.Tensor:
    return torch.tensor(load_digits(return_X_y=True)[0].reshape(-1, 1, 8, 8)[::9] / 16, dtype=torch.float32)


def quantised(way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Once(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"input": digits().numpy()}]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    monkeypatch.setattr(logging.root, "disabled", True)
    path = folder / "quantised.onnx"
    if way == "dynamic":
        # Not every ONNX Runtime that is allowed has a ConvInteger for signed weights.
        quantize_dynamic(LENET, path, weight_type=QuantType.QUInt8)
    else:
        form = QuantFormat[way.split()[0]]
        quantize_static(LENET, path, Once(), quant_format=form, per_channel="channel" in way)
    return onnx.load(path)


def loaded(model: onnx.ModelProto, folder: Path) -> Loaded:
    return load(model, folder, images=digits(), steps=whole_steps(16))


@pytest.mark.parametrize("way", WAYS)
def test_a_quantised_network_has_the_gradient_of_a_float_copy(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quantised(way, tmp_path, monkeypatch)
    network = loaded(model, tmp_path)
    certificate, classifier = network.certificate, network.classifier
    assert certificate.agrees
    assert certificate.straight_through
    assert certificate.reason
    assert (certificate.slope_cosine or 0) > 0.7
    assert (certificate.max_logit_difference or 1) < 0.02 * (certificate.logit_spread or 0)
    assert classifier.surrogates == ("the network's own rounding",)
    assert network.backend == "onnxruntime-cpu"

    images = digits()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    # One by one, since a dynamic range is that of the whole batch.
    answers = np.concatenate([np.asarray(session.run(None, {"input": one.numpy()})[0]) for one in images.split(1)])
    assert classifier.logits is not None
    leaf = images.clone().requires_grad_()
    logits = classifier.logits(leaf, seeded())
    np.testing.assert_allclose(logits.detach().numpy(), answers, atol=1e-4)

    # Its gradient is all but that of the network before it was quantised.
    bare = load(onnx.load(LENET), tmp_path, images=images).classifier
    assert bare.logits is not None
    there = images.clone().requires_grad_()
    (one,) = torch.autograd.grad(logits[:, 0].sum(), leaf)
    (other,) = torch.autograd.grad(bare.logits(there, seeded())[:, 0].sum(), there)
    near = torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1))
    assert float(near.median()) > 0.9


def test_a_float_network_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoldedError, match="nothing in the graph rounds"):
        straight_through(onnx.load(LENET))
    network = loaded(onnx.load(LENET), tmp_path)
    assert not network.certificate.straight_through
    assert network.classifier.surrogates == ()


def quantising(scale: str = "s", back: str = "s") -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", scale, "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", back, "z"], ["d"]),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    scales = {"s": np.array(1 / 100, np.float32), "t": np.array(1 / 50, np.float32), "z": np.array(-128, np.int8)}
    return graph(nodes, linear_weights() | scales)


def test_the_range_of_integers_is_kept_and_has_no_slope_outside() -> None:
    """255 steps of 1/100 from 0: all of [0, 1]; with a scale of 1/255/2 values above one half are cut."""
    model = quantising()
    next(t for t in model.graph.initializer if t.name == "s").CopyFrom(
        onnx.numpy_helper.from_array(np.array(1 / 510, np.float32), "s")
    )
    session = onnxruntime.InferenceSession(straight_through(model).SerializeToString())
    images = pictures(4).numpy()
    answers = session.run(None, {"x": images})[0]
    plain = onnxruntime.InferenceSession(linear().SerializeToString())
    expected = plain.run(None, {"x": images.clip(0, 0.5)})[0]
    np.testing.assert_allclose(np.asarray(answers), np.asarray(expected), atol=1e-5)


def test_what_is_dequantised_otherwise_than_quantised_is_refused() -> None:
    with pytest.raises(NotFoldedError, match="otherwise than it was quantised"):
        straight_through(quantising(back="t"))
    computed = quantising()
    computed.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0))
    computed.graph.node[1].input[1] = "m"
    with pytest.raises(NotFoldedError, match="'m' of a quantised operator is computed"):
        straight_through(computed)


def test_dequantised_by_channel() -> None:
    values, scale = np.array([[1, 2], [3, 4]], np.int8), np.array([1, 10], np.float32)
    zero = np.array([0, 1], np.int8)
    assert dequantised(values, scale, zero, 0).tolist() == [[1, 2], [20, 30]]
    assert dequantised(values, scale, zero, 1).tolist() == [[1, 10], [3, 30]]
    assert dequantised(values, np.array([2], np.float32), np.array(1, np.int8)).tolist() == [[0, 2], [4, 6]]
