"""Square patches: where they can stand, cutting them out, pasting them.

A corner is the (row, column) of a window's top left pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...bench.errors import Unexpected
from ..levels import Levels

Corners = list[tuple[int, int]]
"""Places in a fixed order, the same for all images of a block."""


def strided_lines(image: Tensor, side: int, stride: int) -> tuple[list[int], list[int]]:
    """Rows and columns of the windows of `side` at `stride` from the top left of a `(c, h, w)` image.

    None sticks out, so the last pixels stay uncovered where `stride` does not divide what is left.
    """
    _, height, width = image.shape
    _require_fit(height, width, side)
    return list(range(0, height - side + 1, stride)), list(range(0, width - side + 1, stride))


def strided_corners(image: Tensor, side: int, stride: int) -> Corners:
    """The corners of those windows, row by row."""
    rows, columns = strided_lines(image, side, stride)
    return [(row, column) for row in rows for column in columns]


def grid_corners(image: Tensor, side: int, grid: int, spare_centre: bool = False) -> Corners:
    """At most `grid` x `grid` corners, evenly spaced from edge to edge, rounded to pixels, each once, row by row.

    With `spare_centre`, only those whose window stays clear of the central square of half the image's side.
    """
    _, height, width = image.shape
    _require_fit(height, width, side)

    def line(span: int) -> list[int]:
        return [span // 2] if grid == 1 else sorted({round(i * span / (grid - 1)) for i in range(grid)})

    def central(start: int, length: int) -> bool:
        return start < length - length // 4 and start + side > length // 4

    corners = [
        (row, column)
        for row in line(height - side)
        for column in line(width - side)
        if not (spare_centre and central(row, height) and central(column, width))
    ]
    if not corners:
        raise Unexpected(
            f"a position outside the image's centre for a patch of side {side} on {height}x{width} pixels",
            f"none at grid {grid}",
            "use a smaller side, a finer grid, or spare_centre=False",
        )
    return corners


def overlaps(corners: Corners, side: int, device: torch.device) -> Tensor:
    """`(g, g)` bool: whether the windows at two of the g corners share a pixel (each does with itself)."""
    at = torch.tensor(corners, device=device)
    return ((at[:, None] - at[None]).abs() < side).all(2)


def crop(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """One window of each image: `(n, c, h, w)` at `(n, 2)` -> `(n, c, side, side)`."""
    each, rows, columns = _pixels(corners, side)
    return images[each, :, rows, columns].permute(0, 3, 1, 2)


def paste(images: Tensor, patches: Tensor, corners: Tensor) -> Tensor:
    """One opaque patch on each image: `(n, c, h, w)`, `(n, c, s, s)` at `(n, 2)` -> new `(n, c, h, w)`."""
    pasted = images.clone()
    each, rows, columns = _pixels(corners, patches.shape[-1])
    pasted[each, :, rows, columns] = patches.permute(0, 2, 3, 1)
    return pasted


def paste_at_each(images: Tensor, patches: Tensor, corners: Corners) -> Tensor:
    """Each image's patch at each corner alone: `(n, c, h, w)`, `(n, c, s, s)` -> new `(n, g, c, h, w)`."""
    pasted = copy_each(images, len(corners))
    paste_at_each_(pasted, patches, corners)
    return pasted


def copy_each(images: Tensor, count: int) -> Tensor:
    """So many copies of each image: `(n, c, h, w)` -> new `(n, count, c, h, w)`."""
    return images.repeat_interleave(count, 0).view(len(images), count, *images.shape[1:])


def paste_at_each_(pasted: Tensor, patches: Tensor, corners: Corners) -> None:
    """Write each image's patch `(n, c, s, s)`, at each of g corners, into the copy `(n, g, c, h, w)` that is its."""
    side = patches.shape[-1]
    for at, (row, column) in enumerate(corners):
        pasted[:, at, :, row : row + side, column : column + side] = patches


def unpaste_at_each_(pasted: Tensor, images: Tensor, corners: Corners, side: int) -> None:
    """Give such copies of `(n, c, h, w)` images back what patches of `side` have covered."""
    for at, (row, column) in enumerate(corners):
        window = (..., slice(row, row + side), slice(column, column + side))
        pasted[:, at][window] = images[window]


def windows_on_canvas(sources: Tensor, canvas: Tensor, corners: Corners, side: int) -> Tensor:
    """Each window of each source in its own place on the canvas: `(n, c, h, w)` -> new `(n, g, c, h, w)`."""
    pasted = canvas.expand(len(sources), len(corners), -1, -1, -1).clone()
    for at, (row, column) in enumerate(corners):
        window = (..., slice(row, row + side), slice(column, column + side))
        pasted[:, at][window] = sources[window]
    return pasted


def flat_patches(patches: Tensor, levels: Levels) -> Tensor:
    """The patches in their own mean colours, to the nearest level."""
    return levels.rounded(patches.mean((2, 3), keepdim=True)).expand_as(patches).contiguous()


def shuffled_patches(patches: Tensor, rng: torch.Generator) -> Tensor:
    """The patches with their pixels in random order; a pixel keeps its colour. Each patch has an order of its own."""
    n, channels, side, _ = patches.shape
    order = torch.rand(n, 1, side * side, device=patches.device, generator=rng).argsort(2)
    return patches.flatten(2).gather(2, order.expand(-1, channels, -1)).view_as(patches)


def _pixels(corners: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    offsets = torch.arange(side, device=corners.device)
    each = torch.arange(len(corners), device=corners.device)[:, None, None]
    return each, corners[:, 0, None, None] + offsets[:, None], corners[:, 1, None, None] + offsets


def _require_fit(height: int, width: int, side: int) -> None:
    if side > min(height, width):
        raise Unexpected(
            f"a side of at most {min(height, width)} for images of {height}x{width} pixels", side, "use a smaller side"
        )
