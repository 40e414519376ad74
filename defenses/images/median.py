"""Median smoothing (feature squeezing)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.base import Classifier
from .preprocess import preprocess, whole_number
from .sorting import Comparator, median_network

_IN_CACHE = 2**16
"""Pixel values that a CPU core works on at a time: the network passes over them dozens of times, and more of them
would come from memory each time (measured: 2 to 4 times slower)."""


def median(inner: Classifier, size: int) -> Classifier:
    """Replace each pixel by the median of the `size` x `size` window around it, in each channel by itself
    (Xu, Evans, Qi 2018, §III-B).

    The window, as in the paper and in `scipy.ndimage.median_filter(mode="reflect")`, to whose values this is equal to
    the bit: of an odd size it is centred; of an even size the pixel is the one right below the centre, and the median
    is the greater of the two middle values. Outside the image lies its mirror image, the edge row included (d c b a |
    a b c d | d c b a).

    Gradient: exact. A median is the value of a pixel of its window, so its derivative is 1 to that pixel; where several
    pixels of the window hold that value (common in 8-bit images) they get equal shares.

    Raises:
        ValueError: `size` is not a whole number from 2 to 15, or to the image's shorter side where that is less.
    """
    _, h, w = inner.shape
    whole_number("median", "size", size, 2, min(h, w, 15))
    network = median_network(size * size)
    rows, columns = _mirrored(h, size).to(inner.device), _mirrored(w, size).to(inner.device)

    def smooth_part(images: Tensor) -> Tensor:
        padded = images.index_select(-2, rows).index_select(-1, columns)
        smoothed: Tensor = _WindowMedian.apply(padded, size, network)  # pyright: ignore[reportAssignmentType]
        return smoothed

    def smooth(images: Tensor) -> Tensor:
        if images.device.type != "cpu":
            return smooth_part(images)
        part = max(1, _IN_CACHE * torch.get_num_threads() // images[0].numel())
        return torch.cat([smooth_part(some) for some in images.split(part)])

    return preprocess(inner, "median", smooth, backward=smooth, exact=True)


def _mirrored(length: int, size: int) -> Tensor:
    """`(length + size - 1,)` int64: which pixel stands at each place of a padded row."""
    place = torch.arange(-(size // 2), length + (size - 1) // 2) % (2 * length)
    return torch.where(place < length, place, 2 * length - 1 - place)


def _windows(padded: Tensor, size: int) -> list[Tensor]:
    """`(..., h + size - 1, w + size - 1)` -> `size**2` views `(..., h, w)`: each pixel's window, place by place."""
    h, w = padded.shape[-2] - size + 1, padded.shape[-1] - size + 1
    return [padded[..., i : i + h, j : j + w] for i in range(size) for j in range(size)]


class _WindowMedian(torch.autograd.Function):
    """Median over each window, by a sorting network on whole images: several times as fast as sorting windows."""

    @staticmethod
    def forward(ctx, padded: Tensor, size: int, network: tuple[Comparator, ...]) -> Tensor:
        lanes = _windows(padded, size)
        for a, b, low, high in network:
            left, right = lanes[a], lanes[b]
            if low:
                lanes[a] = torch.minimum(left, right)
            if high:
                lanes[b] = torch.maximum(left, right)
        middle = lanes[len(lanes) // 2]
        ctx.save_for_backward(padded, middle)
        ctx.size = size
        return middle

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        padded, middle = ctx.saved_tensors
        ties = torch.zeros_like(middle)
        for pixels in _windows(padded, ctx.size):
            ties += pixels == middle
        share = gradients[0] / ties
        result = torch.zeros_like(padded)
        for pixels, sums in zip(_windows(padded, ctx.size), _windows(result, ctx.size), strict=True):
            sums += share * (pixels == middle)
        return result, None, None
