"""Rejection of what is improbable: a generative model p(x, y) beside the classifier's p(y | x)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.base import Classifier
from ..images.preprocess import whole_number
from ..parameters import number
from .features import Space, fitted_features
from .gaussians import Covariance, mixture, one_a_class
from .reject import reject_when
from .threshold import CleanImages, Threshold


def density(
    inner: Classifier,
    at: Threshold | CleanImages,
    images: Tensor,
    labels: Tensor,
    rng: torch.Generator,
    *,
    features: Space = "pixels",
    dimensions: int | None = None,
    covariance: Covariance = "tied",
    shrinkage: float = 0.01,
    components: int | None = None,
) -> Classifier:
    """Reject where a density fitted to training images is low (what Nguyen, Yosinski, Clune 2015, §5, propose against
    fooling images: a generative model, which knows p(x, y) and so what lies far from every image).

    One Gaussian for each class, score `-max over y of log p(x, y)`; or, where `components` says how many, a mixture
    of Gaussians without regard to classes, score `-log p(x)`. Fitted by scikit-learn, see `gaussians.py`.

    Args:
        inner: the Classifier to defend.
        at: the threshold, or clean images to choose it by. Chosen on the images that the density was fitted to, it is
            a little too strict: they lie nearer to their means than new ones.
        images: `(m, c, h, w)` float32 in [0, 1]: what to fit.
        labels: `(m,)` int64: their true classes.
        rng: on `inner`'s device; for what is random in `inner`, and for the start of a mixture.
        features: `pixels`, the images' first principal components, or `logits`, what `inner` says of them.
        dimensions: how many components of `pixels`; None: 30, or as many as there are.
        covariance: one for all Gaussians (`tied`), or one for each (`own`).
        shrinkage: how far covariances are drawn towards a multiple of the identity, 0 to 1.
        components: Gaussians of the mixture; None: one for each class.

    Gradient: exact.

    Raises:
        ValueError: `dimensions`, `shrinkage` or `components` (1 to 1000) are out of range, or `dimensions` come with
            logits; `images` do not fit `inner` or lack a class; a covariance is singular; or see `reject_when`.
    """
    name = "density"
    if shrinkage != 0 or isinstance(shrinkage, bool):
        number(name, "shrinkage", shrinkage, 0, 1)
    seen, points, labels = fitted_features(inner, features, dimensions, images, labels, rng, name)
    if components is None:
        model = one_a_class(points, labels, inner.classes, covariance, shrinkage, name)
    else:
        whole_number(name, "components", components, 1, 1000)
        seed = int(torch.randint(2**31 - 1, (), generator=rng, device=rng.device))
        model = mixture(points, components, covariance, shrinkage, seed, name)
    model = model.to(inner.device)

    def score(images: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
        logs = model.log_joint(seen(images, answer))
        return -(logs.amax(1) if components is None else logs.logsumexp(1)).to(images.dtype)

    return reject_when(inner, name, score, at, needs_logits=features == "logits")
