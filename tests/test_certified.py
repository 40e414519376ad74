"""Linear bounds on what a network withstands: exact where they can be, never above what happens."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def certified(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which lies among the scripts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("certified")


def conv_net(path: Path, *, branch: bool = False) -> Path:
    """Two strided convolutions and a linear layer with random weights, for images of 1 × 6 × 6; 3 classes."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 1, 3, 3), "b1": (4,), "w2": (5, 4, 2, 2), "b2": (5,), "w3": (3, 20), "b3": (3,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["h2"], kernel_shape=[2, 2]),
        helper.make_node("Relu", ["h2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    if branch:
        nodes.insert(3, helper.make_node("Relu", ["h1"], ["side"]))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 6, 6]), ("y", [1, 3]))]
    held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "net", values[:1], values[1:], held),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, str(path))
    return path


def test_the_chain_is_the_network(certified: Any, tmp_path: Path) -> None:
    import onnxruntime

    chain = certified.chain_of(conv_net(tmp_path / "net.onnx"), [0.4], [0.5])
    images = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    shifted = ((images - 0.4) / 0.5).numpy()
    told = np.concatenate([np.asarray(session.run(None, {"x": shifted[i : i + 1]})[0]) for i in range(20)])
    torch.testing.assert_close(certified.outputs(chain, images), torch.from_numpy(told))
    with pytest.raises(ValueError, match="expected a network without branches, got one at Relu"):
        certified.chain_of(conv_net(tmp_path / "branch.onnx", branch=True), [0.0], [1.0])


def test_no_image_in_the_ball_lies_below_the_bound(certified: Any, tmp_path: Path) -> None:
    """Corners of the ball, where linear functions are least, and the bound is not idle: at ε 0 it is the margin."""
    chain = certified.chain_of(conv_net(tmp_path / "net.onnx"), [0.4], [0.5])
    rng = torch.Generator().manual_seed(2)
    for image in torch.rand(6, 1, 1, 6, 6, generator=rng):
        outputs = certified.outputs(chain, image)[0]
        label = int(outputs.argmax())
        others = torch.arange(3) != label
        exact = certified.margins(chain, image, label, 0.0)
        torch.testing.assert_close(exact, (outputs[label] - outputs[others].amax())[None])
        last = exact
        for epsilon in (0.02, 0.1):
            bound = certified.margins(chain, image, label, epsilon)
            corners = image + epsilon * (2 * torch.randint(0, 2, (3000, 1, 6, 6), generator=rng) - 1)
            found = certified.outputs(chain, corners.clamp(0, 1))
            least = (found[:, label] - found[:, others].amax(1)).amin()
            assert bound <= least + 1e-5
            assert bound < last
            last = bound


def test_a_linear_network_is_certified_exactly(certified: Any) -> None:
    """Without a ReLU the bound is the margin less ε times the weights' sum, cut where pixels end."""
    weights = torch.tensor([[1.0, -2.0, 0.0, 0.5], [0.0, 1.0, 1.0, -1.0]])
    layer = certified.Affine(lambda x: x.flatten(1) @ weights.T, lambda x: x.flatten(1) @ weights.abs().T)
    chain = certified.Chain((layer,))
    image = torch.tensor([0.9, 0.05, 0.5, 0.5]).reshape(1, 1, 2, 2)
    # logits 1.05 and 0.05; the difference's weights are 1, -3, -1, 1.5
    bound = certified.margins(chain, image, 0, 0.1)
    assert float(bound) == pytest.approx(1.0 - 0.1 * (1 + 3 + 1 + 1.5), abs=1e-6)
    up = certified.margins(chain, image, 1, 0.1)
    # the other way round the second pixel falls by no more than 0.05
    assert float(up) == pytest.approx(-1.0 - 0.1 * (1 + 1 + 1.5) - 0.05 * 3, abs=1e-6)
    labels = torch.tensor([0, 0])
    images = torch.cat([image, image])
    assert certified.certified(chain, images, labels, 0.1).tolist() == [True, True]
    assert certified.certified(chain, images, labels, 0.2).tolist() == [False, False]
    assert certified.certified(chain, images[:0], labels[:0], 0.2).shape == (0,)
