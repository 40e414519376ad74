"""ONNX graphs from images to one score each: detectors of somebody's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..conditions import Conditions
from ..head import SUM_TOLERANCE
from ..preprocess import Preprocess
from .check import ModelFileError, WrongCount
from .image_function import ImageFunction, load_image_function
from .ports import ANY, Names


def load_score_graph(
    path: Path,
    conditions: Conditions,
    *,
    preprocess: Preprocess,
    names: Names = ANY,
    sha256: str | None = None,
) -> ImageFunction:
    """Load a detector: images `(n, c, h, w)` float32 in [0, 1] in, `(n,)` float32 out, higher is more suspicious.

    The graph may give one number an image, or two: the probabilities that the image is genuine and that it is not, of
    which the second is the score. The arguments are those of `load_image_function`.

    Raises ModelFileError: see there; `classes` where it gives another number, `outputs` for two numbers that are no
    probabilities or for a score that is not finite.
    """

    def with_columns(columns: int) -> ImageFunction:
        """The last of so many numbers is the score."""
        last = columns - 1
        return load_image_function(
            path, lambda out: out[:, last], columns, conditions, preprocess=preprocess, names=names, sha256=sha256
        )

    try:
        graph = with_columns(1)
    except WrongCount:
        graph = _two(with_columns)
    if not bool(graph.trial.isfinite().all()):
        raise ModelFileError(
            "outputs",
            "a finite score for every evaluation image",
            "NaN or infinity",
            "look for a division or a logarithm of zero in the graph",
        )
    return graph


def _two(with_columns: Callable[[int], ImageFunction]) -> ImageFunction:
    try:
        graph = with_columns(2)
    except WrongCount as error:
        raise WrongCount(
            error.counts,
            "1 or 2 numbers an image",
            "make the graph return one score an image, or two probabilities: genuine, and not",
        ) from error
    low, error = float(graph.trial.min()), float((graph.trial.sum(1) - 1).abs().max())
    if low < 0 or error > SUM_TOLERANCE:
        raise ModelFileError(
            "outputs",
            "two probabilities an image",
            f"numbers from {low:.4g} whose sum is off from 1 by up to {error:.4g}",
            "end the graph in a Softmax, or let it return one score an image",
        )
    return graph
