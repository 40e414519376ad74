"""JPEG compression and decompression."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.base import Classifier
from .preprocess import preprocess, whole_number

_BLOCK = 8
"""Side in pixels of the blocks that JPEG transforms, each on its own."""

_SHEET = 512
"""Side in pixels of the sheets that small gray images are laid out on: large enough to make the cost of a call to
Pillow vanish, small enough to stay in the processor's cache."""


def jpeg(inner: Classifier, quality: int) -> Classifier:
    """Compress each image with JPEG and decompress it (Dziugaite, Ghahramani, Roy 2016), through Pillow, in memory.

    Values are rounded to 8 bits first. Gray images are coded as gray, colour images as YCbCr with 4:2:0 chroma
    subsampling; baseline coding, the standard tables scaled by `quality`. The pixels are those of Pillow's own JPEG
    file of each image by itself, on every platform that has the same libjpeg. Images on a GPU are brought to the CPU
    and back. It holds no state, so threads may share it.

    Gradient: none of its own (rounding); declared straight-through.

    Raises:
        ValueError: `quality` is not a whole number from 1 to 100, or the images have neither 1 nor 3 channels.
    """
    whole_number("jpeg", "quality", quality, 1, 100)
    channels = inner.shape[0]
    if channels not in (1, 3):
        raise Unexpected(
            "images of 1 or 3 channels for jpeg", channels, "JPEG codes gray or RGB only, leave this defense out"
        )

    def compress(images: Tensor) -> Tensor:
        pixels = (images * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        coded = _gray(pixels[:, 0], quality)[:, None] if channels == 1 else _colour(pixels, quality)
        return torch.from_numpy(coded).to(images.device).to(images.dtype) / 255

    return preprocess(inner, "jpeg", compress)


def _round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """`(h, w)` or `(h, w, 3)` uint8, contiguous -> what its JPEG file decodes to."""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(file, formats=("JPEG",)) as image:
            return np.asarray(image)


def _gray(pixels: np.ndarray, quality: int) -> np.ndarray:
    """`(n, h, w)` uint8 -> the same, coded.

    A gray JPEG is made of 8x8 blocks that do not see each other, and libjpeg fills up an image's last blocks by
    repeating its edge. So many images, each filled up in that way, can share one file and decode to the same bits
    as on their own, at a hundredth of the cost for small ones.
    """
    n, h, w = pixels.shape
    high, wide = -(-h // _BLOCK) * _BLOCK, -(-w // _BLOCK) * _BLOCK
    tiles = np.pad(pixels, ((0, 0), (0, high - h), (0, wide - w)), mode="edge")
    coded = np.empty_like(tiles)
    across = max(1, min(_SHEET // wide, n))
    per_sheet = across * max(1, _SHEET // high)
    for start in range(0, n, per_sheet):
        part = tiles[start : start + per_sheet]
        rows = -(-len(part) // across)
        sheet = np.zeros((rows * across, high, wide), np.uint8)
        sheet[: len(part)] = part
        sheet = sheet.reshape(rows, across, high, wide).swapaxes(1, 2).reshape(rows * high, across * wide)
        sheet = _round_trip(sheet, quality).reshape(rows, high, across, wide).swapaxes(1, 2)
        coded[start : start + per_sheet] = sheet.reshape(rows * across, high, wide)[: len(part)]
    return coded[:, :h, :w]


def _colour(pixels: np.ndarray, quality: int) -> np.ndarray:
    """`(n, 3, h, w)` uint8 -> the same, coded.

    One file an image: the decoder interpolates the halved chroma across block borders, so neighbours on a shared
    sheet would bleed into each other.
    """
    channels_last = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    coded = np.empty_like(channels_last)
    for i, image in enumerate(channels_last):
        coded[i] = _round_trip(image, quality)
    return np.ascontiguousarray(coded.transpose(0, 3, 1, 2))
