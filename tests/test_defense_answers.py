"""What each defense is known to answer, and what it refuses."""

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from defense_victims import ask_logits, gradient, pixels, small_net, through
from foolbench.defenses.images.bit_depth import bit_depth
from foolbench.defenses.images.jpeg import jpeg
from foolbench.defenses.images.median import median
from foolbench.defenses.images.onnx_preprocess import onnx_preprocess
from foolbench.defenses.images.sorting import median_network, merge_exchange
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

# what each is known to answer


@given(bits=st.integers(1, 8), values=st.lists(st.floats(0, 1, width=32), min_size=64, max_size=64))
@settings(deadline=None)
def test_bit_depth_keeps_the_levels_the_ends_and_the_nearest_value(bits: int, values: list[float]):
    images = torch.tensor(values).reshape(1, 1, 8, 8)
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    squeezed = through(lambda inner: bit_depth(inner, bits), images)
    levels = torch.arange(2**bits).float() / (2**bits - 1)
    assert bool(torch.isin(squeezed, levels).all())
    assert squeezed[0, 0, 0, :2].tolist() == [0.0, 1.0]
    assert float((squeezed - images).abs().max()) <= 0.5 / (2**bits - 1) + 1e-7
    assert torch.equal(through(lambda inner: bit_depth(inner, bits), squeezed), squeezed)


def test_eight_bits_leave_8_bit_images_alone():
    images = torch.arange(256).reshape(1, 1, 16, 16).float() / 255
    assert torch.equal(through(lambda inner: bit_depth(inner, 8), images), images)


def pillow(image: Tensor, quality: int) -> Tensor:
    channels_last = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(channels_last.squeeze(-1) if image.shape[0] == 1 else channels_last).save(
        file, "JPEG", quality=quality, subsampling=2
    )
    decoded = np.array(Image.open(file))
    return torch.from_numpy(decoded.reshape(channels_last.shape)).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("quality", [1, 30, 75, 100])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (1, 5, 13), (1, 600, 3), (3, 8, 8), (3, 17, 30)])
def test_jpeg_is_pillows_own_file_of_each_image(shape: tuple[int, int, int], quality: int):
    images = pixels(shape, n=11)
    expected = torch.stack([pillow(image, quality) for image in images])
    assert torch.equal(through(lambda inner: jpeg(inner, quality), images), expected)


@pytest.mark.parametrize("n", [64 * 64, 64 * 64 + 1])
def test_jpeg_of_more_images_than_a_sheet_holds(n: int):
    images = pixels((1, 8, 8), n=n)
    coded = through(lambda inner: jpeg(inner, 75), images)
    for i in (0, 1, 63, 64, 4095, n - 1):
        assert torch.equal(coded[i], pillow(images[i], 75))


def test_jpeg_answers_threads_as_it_answers_one():
    inner, images = small_net((3, 16, 16)), pixels((3, 16, 16), n=40)
    victim = jpeg(inner, 50)
    expected = victim.probabilities(images, torch.Generator())
    answers: list[Tensor] = []
    workers = [
        threading.Thread(target=lambda: answers.append(victim.probabilities(images, torch.Generator())))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(answers) == 4
    assert all(torch.equal(answer, expected) for answer in answers)


@pytest.mark.parametrize("size", range(2, 9))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14)])
def test_median_is_scipys(shape: tuple[int, int, int], size: int):
    images = pixels(shape)
    expected = scipy.ndimage.median_filter(images.numpy(), size=(1, 1, size, size), mode="reflect")
    assert torch.equal(through(lambda inner: median(inner, size), images), torch.from_numpy(expected))


def test_median_shares_the_gradient_among_equal_pixels():
    images = torch.full((1, 1, 8, 8), 0.5)
    images[0, 0, 4, 4] = 1.0
    total = replace(small_net(), logits=lambda x, rng: x[:, 0, 3:4, 3])
    got = gradient(median(total, 3), images)[0, 0]
    expected = torch.zeros(8, 8)
    expected[2:5, 2:5] = 1 / 8
    expected[4, 4] = 0
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("n", [1, 2, 4, 9, 10])
def test_the_network_sorts_every_order_of_zeros_and_ones(n: int):
    # the 0-1 principle: a network that sorts all of these sorts anything
    for bits in range(2**n):
        lanes = [bits >> i & 1 for i in range(n)]
        picked = list(lanes)
        for a, b in merge_exchange(n):
            lanes[a], lanes[b] = min(lanes[a], lanes[b]), max(lanes[a], lanes[b])
        assert lanes == sorted(lanes)
        for a, b, _, _ in median_network(n):
            picked[a], picked[b] = min(picked[a], picked[b]), max(picked[a], picked[b])
        assert picked[n // 2] == lanes[n // 2]


def test_onnx_clips_and_uses_the_runtime_for_values_and_torch_for_gradients():
    images = torch.tensor([0.0, 0.5, 1.0, 0.25]).reshape(1, 1, 2, 2).repeat(1, 1, 4, 4)
    seen = through(lambda inner: onnx_preprocess(inner, lambda x: x * 2 - 0.5, None, "sharpen"), images)
    assert torch.equal(seen, (images * 2 - 0.5).clamp(0, 1))
    pick = replace(small_net(), logits=lambda x, rng: x.flatten(1))
    victim = onnx_preprocess(pick, lambda x: torch.from_numpy(x.numpy() * 2 - 0.5), lambda x: x * 2 - 0.5)
    assert victim.surrogates == ()
    leaf = images.clone().requires_grad_()
    slope = torch.autograd.grad(ask_logits(victim, leaf).sum(), leaf)[0]
    # 0 -> -0.5 and 1 -> 1.5 are clipped; 0.25 -> exactly 0 is not
    assert torch.equal(slope, torch.where((images == 0) | (images == 1), 0.0, 2.0))


# what they refuse


@pytest.mark.parametrize("bits", [0, 9, 3.0, True, "3"])
def test_bit_depth_refuses(bits):
    with pytest.raises(
        ValueError, match=r"^expected bits of bit_depth to be a whole number from 1 to 8, got .*: choose"
    ):
        bit_depth(small_net(), bits)


@pytest.mark.parametrize("quality", [0, 101, 75.0, None])
def test_jpeg_refuses_a_quality(quality):
    with pytest.raises(
        ValueError, match=r"^expected quality of jpeg to be a whole number from 1 to 100, got .*: choose"
    ):
        jpeg(small_net(), quality)


def test_jpeg_refuses_two_channels():
    with pytest.raises(
        ValueError, match=r"^expected images of 1 or 3 channels for jpeg, got 2: JPEG codes gray or RGB"
    ):
        jpeg(small_net((2, 8, 8)), 75)


@pytest.mark.parametrize("size", [1, 9, 3.0, -3])
def test_median_refuses(size):
    with pytest.raises(ValueError, match=r"^expected size of median to be a whole number from 2 to 8, got .*: choose"):
        median(small_net(), size)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            lambda x: x[:, :, 1:],
            r"^expected the preprocessor denoise to return images \(5, 1, 8, 8\) torch.float32, got",
        ),
        (
            lambda x: x.double(),
            r"^expected the preprocessor denoise to return images .* got \(5, 1, 8, 8\) torch.float64",
        ),
        (lambda x: x / 0, r"^expected the preprocessor denoise to return finite values, got NaN or infinity: look"),
    ],
    ids=["shape", "type", "nan"],
)
def test_onnx_refuses_a_graph_that_returns_no_images(graph, message):
    victim = onnx_preprocess(small_net(), graph, name="denoise")
    with pytest.raises(RuntimeError, match=message):
        victim.probabilities(pixels((1, 8, 8)), torch.Generator())
