"""Projection on principal components: what is left of an image in the directions in which natural images vary."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ...bench.errors import Unexpected
from ...models.base import Classifier
from .clip import clip
from .preprocess import preprocess, whole_number


def pca(inner: Classifier, images: Tensor, components: int) -> Classifier:
    """Project each image, as a vector of all its values, onto the affine space of the first principal components.

    `mean + (x - mean) V V^T`, clipped to [0, 1]; V are the `components` directions of greatest variance of `images`.
    Natural images lie near a space of low dimension, perturbations mostly do not (Hendrycks and Gimpel 2017; as a
    defense: Bhagoji et al. 2018). Departure from the latter: the model behind is not trained again on projected
    images. Fitted by scikit-learn's PCA in double precision on one thread, with a solver that uses no chance, so the
    same images give the same projection, however many cores there are. Without the clipping, applied twice it is
    itself (but for rounding).

    Args:
        inner: what sees the projected images.
        images: `(m, c, h, w)` float32 in [0, 1], m at least 2: what to fit. `inner`'s evaluation images must not be
            among them.
        components: how many directions to keep.

    Gradient: exact; a value that was clipped passes none.

    Raises:
        ValueError: see `fitted`.
    """
    return projected(inner, *fitted(images, inner.shape, components))


def projected(inner: Classifier, mean: Tensor, directions: Tensor) -> Classifier:
    """Put the projection in front of a Classifier, as `pca` does: what `fitted` returned serves any number of them."""
    mean, directions = mean.to(inner.device), directions.to(inner.device)

    def project(images: Tensor) -> Tensor:
        kept = directions.to(images.dtype)
        centred = images.flatten(1) - mean.to(images.dtype)
        return clip((mean.to(images.dtype) + centred @ kept.T @ kept).view_as(images))

    return preprocess(inner, "pca", project, backward=project, exact=True)


def fitted(images: Tensor, shape: tuple[int, int, int], components: int) -> tuple[Tensor, Tensor]:
    """What `principal` finds in images `(m, c, h, w)` that are to be of this shape.

    Raises:
        ValueError: `images` have another shape than `shape`, or `components` is not a whole number from 1 to the number
            of values of an image, or to m where that is less.
    """
    if tuple(images.shape[1:]) != tuple(shape) or len(images) < 2:
        raise Unexpected(
            f"at least 2 images of shape {tuple(shape)} to fit pca to",
            tuple(images.shape),
            "pass the training images of the same battery",
        )
    whole_number("pca", "components", components, 1, min(len(images), images[0].numel()))
    return principal(images, components)


def principal(images: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """The mean `(d,)` and the directions `(components, d)`, orthonormal, float32."""
    from sklearn.decomposition import PCA  # on use: it takes a second to import

    rows = images.flatten(1).double().cpu().numpy()
    # The covariance is the smaller matrix where there are more images than values; SVD never makes it where not.
    solver = "covariance_eigh" if rows.shape[0] > rows.shape[1] else "full"
    with threadpool_limits(1):
        fit = PCA(components, svd_solver=solver).fit(rows)
    return torch.from_numpy(fit.mean_).float(), torch.from_numpy(fit.components_).float()
