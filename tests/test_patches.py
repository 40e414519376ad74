"""Patches are cut and pasted where they say."""

import torch
from foolbench.attacks.patches.paste import (
    crop,
    grid_corners,
    overlaps,
    paste,
    paste_at_each,
    shuffled_patches,
    windows_on_canvas,
)


def test_patches_are_cut_and_pasted_where_they_say():
    images = torch.rand(3, 2, 6, 7, generator=torch.Generator().manual_seed(5))
    at = torch.tensor([[0, 0], [2, 3], [4, 5]])
    patches = crop(images, at, 2)
    assert torch.equal(patches[1], images[1, :, 2:4, 3:5])
    assert torch.equal(paste(images, patches, at), images)
    corners = grid_corners(images[0], 2, 3)
    assert corners == [(r, c) for r in (0, 2, 4) for c in (0, 2, 5)]
    pasted = paste_at_each(images, patches, corners)
    each = torch.stack([paste(images, patches, torch.tensor([c] * 3)) for c in corners], 1)
    assert torch.equal(pasted, each)
    alone = windows_on_canvas(images, torch.zeros(2, 6, 7), corners, 2)
    for place, (row, column) in enumerate(corners):
        window = (..., slice(row, row + 2), slice(column, column + 2))
        assert torch.equal(alone[:, place][window], images[window])
        assert (alone[:, place] != 0).sum() == 3 * 2 * 4
    touching = overlaps([(0, 0), (0, 1), (0, 2), (2, 0)], 2, images.device)
    assert touching.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    mixed = shuffled_patches(patches, torch.Generator().manual_seed(0))
    for before, after in zip(patches, mixed, strict=True):
        assert sorted(before.flatten(1).T.tolist()) == sorted(after.flatten(1).T.tolist())
