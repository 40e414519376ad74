"""ONNX files of every shape and habit answer as they should."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from foolbench.models.onnx.check import ModelFileError
from foolbench.models.preprocess import Preprocess
from model_files import (
    CLASSES,
    SHAPE,
    conv,
    graph,
    linear,
    linear_scores,
    linear_weights,
    load,
    pictures,
    seeded,
)
from onnx import TensorProto, helper
from torch.nn import functional as F


def check(loaded, expected: torch.Tensor, images: torch.Tensor | None = None, atol: float = 1e-5) -> None:
    """Probabilities, and where there are logits their softmax, are as expected."""
    images = pictures() if images is None else images
    torch.testing.assert_close(loaded.classifier.probabilities(images, seeded()), expected, atol=atol, rtol=0)
    if loaded.classifier.logits is not None:
        logits = loaded.classifier.logits(images, seeded())
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits.softmax(1)[:, : expected.shape[1]], expected, atol=atol, rtol=0)


def test_a_linear_network_answers_and_its_gradient_is_its_weights(tmp_path: Path):
    loaded = load(linear(), tmp_path)
    images = pictures().requires_grad_()
    answer = loaded.classifier.probabilities(images, seeded())
    check(loaded, linear_scores(images.detach()).softmax(1))
    assert not answer.requires_grad
    assert not answer.is_inference()
    assert loaded.backend == "onnxruntime-cpu"
    assert loaded.classifier.logits is not None
    loaded.classifier.logits(images, seeded())[:, 3].sum().backward()
    expected = torch.from_numpy(linear_weights()["w"][:, 3]).reshape(SHAPE).expand(len(images), *SHAPE)
    torch.testing.assert_close(images.grad, expected)
    torch.testing.assert_close(loaded.reference(images), linear_scores(images.detach()))


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("flat", ["batch, -1", "batch, 64"])
def test_a_batch_size_in_the_file_is_opened(batch: int, flat: str, tmp_path: Path):
    images = pictures(21)
    expected = load(conv(), tmp_path).classifier.probabilities(images, seeded())
    loaded = load(conv(batch, (batch, -1 if "-1" in flat else 64)), tmp_path)
    check(loaded, expected, images)
    assert loaded.certificate.agrees


@pytest.mark.parametrize("declared", [4, "N"])
def test_a_batch_size_that_cannot_be_opened_is_kept_and_answers_are_right(declared: int | str, tmp_path: Path):
    """A constant of the batch's size is added to the images; and a graph that says N and means 1."""
    size = declared if isinstance(declared, int) else 1
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("Gemm", ["r", "w", "b"], ["g"]),
        helper.make_node("Concat", ["g", "none"], ["c"], axis=0),
        helper.make_node("Slice", ["c", "zero", "size", "zero"], ["y"]),
    ]
    weights = linear_weights() | {
        "s": np.array([-1, 64]),
        "none": np.zeros((1, CLASSES), np.float32),
        "zero": np.array([0]),
        "size": np.array([size]),
    }
    model = graph(nodes, weights, image=(declared, *SHAPE), output=(declared, CLASSES))
    images = pictures(10)
    loaded = load(model, tmp_path)
    check(loaded, linear_scores(images).softmax(1), images)
    assert loaded.certificate.agrees


def test_rows_that_depend_on_their_batch_are_answered_one_by_one(tmp_path: Path):
    """Normalising over the batch axis: alone, an image is its own mean."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"]),
        helper.make_node("ReduceMean", ["g"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Add", ["g", "m"], ["y"]),
    ]
    images = pictures(9)
    check(load(graph(nodes, linear_weights()), tmp_path), (2 * linear_scores(images)).softmax(1), images)


def transposed(to: list[int], image: tuple) -> list:
    return [helper.make_node("Transpose", ["x"], ["t"], perm=to), helper.make_node("Flatten", ["t"], ["f"])]


def test_layout_scale_channels_and_normalisation(tmp_path: Path):
    """A network that takes 0-255, NHWC and BGR, beside the same sums done by hand."""
    shape = (3, 8, 8)
    weights = linear_weights(pixels=192)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    model = graph(nodes, weights, image=("N", 8, 8, 3))
    images = pictures(20, shape)
    mean, std = (104.0, 117.0, 123.0), (58.0, 57.0, 60.0)  # blue first, as the network has them
    given = Preprocess(mean=mean, std=std, scale=255.0, channels="bgr", layout="nhwc")
    taken = (255 * images.flip(1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    scores = taken.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(weights["w"]) + torch.from_numpy(weights["b"])
    loaded = load(model, tmp_path, shape=shape, images=images, preprocess=given)
    check(loaded, scores.softmax(1), images)
    assert loaded.certificate.agrees


@pytest.mark.parametrize("image", [("N", 64), (1, 64, 1), ("N", 8, 8), (1, 64, "K"), ("N", 2, 32)])
def test_flat_pixels_take_the_shape_that_the_graph_has(image: tuple, tmp_path: Path):
    loaded = load(linear(image=image), tmp_path, preprocess=Preprocess(layout="flat"))
    check(loaded, linear_scores(pictures()).softmax(1))


def test_resizing_and_cropping(tmp_path: Path):
    images = pictures(10, (1, 8, 12))
    loaded = load(linear(), tmp_path, shape=(1, 8, 12), images=images, preprocess=Preprocess(size=(8, 8), resize=8))
    check(loaded, linear_scores(images[..., 2:10]).softmax(1), images)
    small = pictures(10, (1, 4, 4))
    loaded = load(linear(), tmp_path, shape=(1, 4, 4), images=small, preprocess=Preprocess(size=(8, 8)))
    larger = F.interpolate(small, (8, 8), mode="bilinear", antialias=True)
    check(loaded, linear_scores(larger).softmax(1), small)
    assert loaded.certificate.agrees


def test_preprocessing_that_changes_nothing_passes_images_on():
    images = pictures()
    assert Preprocess(size=(8, 8))(images) is images
    with pytest.raises(ValueError, match="positive std"):
        Preprocess(std=(0.0,))
    with pytest.raises(ValueError, match="at least the size"):
        Preprocess(size=(8, 8), resize=7)
    with pytest.raises(ModelFileError, match="gray and RGB"):
        Preprocess(mean=(0.1, 0.2, 0.3))(images)


def test_probabilities_are_passed_on_as_they_are(tmp_path: Path):
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["s"]),
        helper.make_node("ReduceSum", ["s", "one"], ["t"], keepdims=1),
        helper.make_node("Div", ["s", "t"], ["y"]),
    ]
    model = graph(nodes, linear_weights() | {"one": np.array([1])})
    scores = linear_scores(pictures()).sigmoid()
    loaded = load(model, tmp_path, output="probabilities")
    check(loaded, scores / scores.sum(1, keepdim=True))
    assert loaded.certificate.agrees
    for wrong, kwargs in ((model, {"output": "logits"}), (linear(), {"output": "probabilities"})):
        with pytest.raises(ModelFileError, match="say output: ") as caught:
            load(wrong, tmp_path, **kwargs)
        assert caught.value.kind == "outputs"


@pytest.mark.parametrize("index", [0, 4, 10])
def test_the_rejecting_output_leaves_the_probabilities_and_comes_last_in_the_logits(index: int, tmp_path: Path):
    images = pictures()
    scores = linear_scores(images, 11)
    kept = [i for i in range(11) if i != index]
    loaded = load(linear(11), tmp_path, reject_index=index)
    assert loaded.classifier.rejects
    assert loaded.classifier.logits is not None
    torch.testing.assert_close(
        loaded.classifier.probabilities(images, seeded()), scores.softmax(1)[:, kept], atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(loaded.classifier.logits(images, seeded()), scores[:, [*kept, index]])


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_precisions_are_cast(dtype: int, tmp_path: Path):
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    weights = {name: value.astype(kind) for name, value in linear_weights().items()}
    loaded = load(graph(nodes, weights, dtype=dtype), tmp_path)
    check(loaded, linear_scores(pictures()).softmax(1), atol=2e-3)
    assert loaded.certificate.agrees


def test_whole_number_inputs_get_rounded_pixels_and_have_no_gradient(tmp_path: Path):
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    model = graph(nodes, linear_weights(), dtype=TensorProto.UINT8)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    images = (pictures() * 255).round() / 255
    loaded = load(model, tmp_path, preprocess=Preprocess(scale=255.0))
    check(loaded, linear_scores((images * 255).round()).softmax(1), images)
    assert loaded.classifier.logits is None
    assert "whole numbers" in (loaded.classifier.no_gradient or "")


@pytest.mark.parametrize("shape", [(CLASSES, 1, 1), (1, CLASSES), (CLASSES, 1)])
def test_outputs_of_more_dimensions_are_squeezed(shape: tuple[int, ...], tmp_path: Path):
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"]),
        helper.make_node("Reshape", ["g", "s"], ["y"]),
    ]
    model = graph(nodes, linear_weights() | {"s": np.array([0, *shape])}, output=("N", *shape))
    check(load(model, tmp_path), linear_scores(pictures()).softmax(1))


def several(twice: bool) -> bytes:
    """Labels and features beside the logits, and the logits twice."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["features"]),
        helper.make_node("Gemm", ["features", "w", "b"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    outputs = {
        "label": (TensorProto.INT64, ("N",)),
        "features": (TensorProto.FLOAT, ("N", 64)),
        "y": (TensorProto.FLOAT, ("N", CLASSES)),
    }
    if twice:
        outputs["z"] = (TensorProto.FLOAT, ("N", CLASSES))
    return graph(nodes, linear_weights(), output=outputs).SerializeToString()


def test_the_output_is_found_or_asked_for(tmp_path: Path):
    images = pictures()
    check(load(several(twice=False), tmp_path), linear_scores(images).softmax(1))
    with pytest.raises(ModelFileError, match=r"'y', 'z'.*output_name") as caught:
        load(several(twice=True), tmp_path)
    assert caught.value.kind == "outputs"
    check(load(several(twice=True), tmp_path, output_name="z"), (-linear_scores(images)).softmax(1))
    with pytest.raises(ModelFileError, match="expected an output 'q'"):
        load(several(twice=True), tmp_path, output_name="q")
    with pytest.raises(ModelFileError, match="got 64 ") as caught:
        load(several(twice=True), tmp_path, output_name="features")
    assert caught.value.kind == "classes"


def test_wrong_numbers_of_classes_say_how_many_came(tmp_path: Path):
    for model, kwargs, sentence in (
        (linear(9), {}, "got 9 "),
        (linear(11), {}, "reject_index"),
        (linear(10), {"reject_index": 10}, "drop reject_index"),
        (linear(11), {"reject_index": 11}, "from 0 to 10"),
    ):
        with pytest.raises(ModelFileError, match=sentence) as caught:
            load(model, tmp_path, **kwargs)
        assert caught.value.kind == ("outputs" if "from" in sentence else "classes")


@pytest.mark.parametrize(
    ("preprocess", "kwargs"),
    [
        (Preprocess(layout="nhwc"), {}),
        (Preprocess(size=(9, 8)), {}),
        (Preprocess(), {"shape": (3, 8, 8)}),
        (Preprocess(size=(9, 9), layout="flat"), {}),
        (Preprocess(channels="bgr"), {}),
        (Preprocess(), {"input_name": "z"}),
    ],
)
def test_images_that_do_not_fit_the_input_are_refused(preprocess: Preprocess, kwargs: dict, tmp_path: Path):
    with pytest.raises(ModelFileError) as caught:
        load(linear(), tmp_path, preprocess=preprocess, **kwargs)
    assert caught.value.kind == "input"


def test_another_input_than_there_is_is_told_by_name(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"^expected an input named 'zz', got 'x': write that as its `name`"):
        load(linear(), tmp_path, input_name="zz")
    two = linear()
    two.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 1]))
    with pytest.raises(ModelFileError, match=r"^expected one input, got 2 \('x', 'more'\): export the netw"):
        load(two, tmp_path, input_name="x")


def test_nan_and_chance_are_found_out_at_load(tmp_path: Path):
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    weights = linear_weights()
    weights["b"][3] = np.nan
    with pytest.raises(ModelFileError, match="NaN or infinity on 40 of 40"):
        load(graph(nodes, weights), tmp_path)
    nodes = [
        *linear().graph.node[:1],
        helper.make_node("Gemm", ["f", "w", "b"], ["g"]),
        helper.make_node("RandomNormalLike", ["g"], ["n"]),
        helper.make_node("Add", ["g", "n"], ["y"]),
    ]
    with pytest.raises(ModelFileError, match="same answers"):
        load(graph(nodes, linear_weights()), tmp_path)


def test_a_failure_at_run_time_is_a_sentence(tmp_path: Path):
    """The graph gathers pixel number (sum of the image): out of range for bright ones."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Mul", ["m", "many"], ["n"]),
        helper.make_node("Cast", ["n"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["b", "i"], ["g"], axis=0),
        helper.make_node("Mul", ["g", "zero"], ["z"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["h"]),
        helper.make_node("Add", ["h", "z"], ["y"]),
    ]
    model = graph(nodes, linear_weights() | {"many": np.array(15, np.float32), "zero": np.array(0, np.float32)})
    loaded = load(model, tmp_path, images=pictures() / 2)
    with pytest.raises(RuntimeError, match="expected the network to answer 40 images, got a failure of ONNX Runtime"):
        loaded.classifier.probabilities(torch.ones(40, *SHAPE), seeded())


def test_names_that_become_one_when_made_identifiers_stay_two(tmp_path: Path):
    model = linear()
    nodes = [
        helper.make_node("Flatten", ["x"], ["forward"]),
        helper.make_node("MatMul", ["forward", "a.b"], ["training"]),
        helper.make_node("Add", ["training", "a/b"], ["y"]),
    ]
    weights = linear_weights()
    loaded = load(graph(nodes, {"a.b": weights["w"], "a/b": weights["b"]}), tmp_path)
    check(loaded, linear_scores(pictures()).softmax(1))
    assert loaded.certificate.agrees
    assert model.graph.node


def test_one_network_answers_several_threads_at_once(tmp_path: Path):
    loaded = load(conv(), tmp_path)
    images = pictures(64)
    expected = loaded.classifier.probabilities(images, seeded())
    wrong = []

    def ask() -> None:
        for _ in range(20):
            if not torch.equal(loaded.classifier.probabilities(images, seeded()), expected):
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
