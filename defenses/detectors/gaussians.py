"""Several Gaussians in one space: fitted by scikit-learn, evaluated in torch."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ...bench.errors import Unexpected

Covariance = Literal["tied", "own"]
_EM_STEPS = 200
"""Where expectation-maximisation stops, if it has not converged."""


@dataclass(frozen=True)
class Gaussians:
    """m Gaussians with weights, in d dimensions; all tensors float64."""

    log_weights: Tensor
    """`(m,)`."""
    means: Tensor
    """`(m, d)`."""
    whitening: Tensor
    """`(m, d, d)`, or `(1, d, d)` where all have one covariance: W with `W W^T` the inverse covariance."""

    def to(self, device: torch.device) -> Gaussians:
        """The same on a device."""
        return Gaussians(self.log_weights.to(device), self.means.to(device), self.whitening.to(device))

    def distances(self, points: Tensor) -> Tensor:
        """`(n, d)` float64 -> `(n, m)`: squared Mahalanobis distance to each mean."""
        if len(self.whitening) == 1:
            white, centres = points @ self.whitening[0], self.means @ self.whitening[0]
            return (white[:, None] - centres).square().sum(2)
        # One at a time: all at once would hold a matrix for every point and Gaussian.
        each = [((points - mean) @ w).square().sum(1) for mean, w in zip(self.means, self.whitening, strict=True)]
        return torch.stack(each, 1)

    def log_joint(self, points: Tensor) -> Tensor:
        """`(n, d)` float64 -> `(n, m)`: log of weight times density."""
        log_det = self.whitening.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = self.log_weights + log_det - 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        return constant - 0.5 * self.distances(points)


def one_a_class(
    points: Tensor, labels: Tensor, classes: int, covariance: Covariance, shrinkage: float, name: str
) -> Gaussians:
    """One Gaussian for each class, weighted by its share of the points.

    Covariances are maximum likelihood (`sklearn.covariance.empirical_covariance`), of each class about its own
    mean, pooled where tied; then shrunk towards a multiple of the identity (`shrunk_covariance`).

    Raises ValueError: a class has fewer than 2 points, or a covariance cannot be inverted.
    """
    from sklearn.covariance import empirical_covariance  # on use: it takes a second to import

    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) < 2:
        raise Unexpected(
            f"at least 2 training images of every class to fit {name} to",
            f"{int(counts.min())} of class {int(counts.argmin())}",
            "take more `images`, or a mixture that needs no classes",
        )
    x, y = points.numpy(), labels.numpy()
    means = np.stack([x[y == label].mean(0) for label in range(classes)])
    with threadpool_limits(1):
        if covariance == "tied":
            covariances = empirical_covariance(x - means[y], assume_centered=True)[None]
        else:
            own = [empirical_covariance(x[y == label] - means[label], assume_centered=True) for label in range(classes)]
            covariances = np.stack(own)
        whitening = _whitening(covariances, shrinkage, name)
    return Gaussians((counts / counts.sum()).double().log(), torch.from_numpy(means), whitening)


def mixture(
    points: Tensor, components: int, covariance: Covariance, shrinkage: float, seed: int, name: str
) -> Gaussians:
    """A mixture fitted by expectation-maximisation: `sklearn.mixture.GaussianMixture`, k-means for a start, at most
    200 steps. To every covariance `shrinkage` times the points' mean variance is added (its `reg_covar`).

    Raises ValueError: there are fewer points than components, or a covariance cannot be inverted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    x = points.numpy()
    if len(x) < components:
        raise Unexpected(
            f"at least as many training images as components for {name}",
            f"{len(x)} for {components}",
            "take more `images` or fewer components",
        )
    kind = "tied" if covariance == "tied" else "full"
    extra = shrinkage * float(x.var(0).mean())
    model = GaussianMixture(components, covariance_type=kind, reg_covar=extra, max_iter=_EM_STEPS, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that stops early is a fit all the same
        try:
            model.fit(x)
        except ValueError as error:
            raise _singular(name) from error
    whitening = torch.from_numpy(np.asarray(model.precisions_cholesky_))
    whitening = whitening[None] if covariance == "tied" else whitening
    return Gaussians(torch.from_numpy(model.weights_).log(), torch.from_numpy(model.means_), whitening)


def _whitening(covariances: np.ndarray, shrinkage: float, name: str) -> Tensor:
    from sklearn.covariance import shrunk_covariance

    shrunk = torch.from_numpy(np.stack([shrunk_covariance(c, shrinkage) for c in covariances]))
    lower, failed = torch.linalg.cholesky_ex(shrunk)
    if bool(failed.any()):
        raise _singular(name)
    identity = torch.eye(shrunk.shape[1], dtype=shrunk.dtype).expand_as(shrunk)
    return torch.linalg.solve_triangular(lower, identity, upper=False).mT.contiguous()


def _singular(name: str) -> Unexpected:
    return Unexpected(
        f"features whose covariance can be inverted for {name}",
        "a singular one",
        "raise `shrinkage`, take more `images`, or fewer `dimensions`",
    )
