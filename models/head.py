"""From what a network puts out to class probabilities and logits, with the rejecting output set apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .onnx.check import ModelFileError

Output = Literal["logits", "probabilities"]

SUM_TOLERANCE = 1e-3
"""How far from 1 the sum of a row of probabilities may be."""


@dataclass(frozen=True)
class Head:
    """How a network's output is read."""

    classes: int
    """K, without the rejecting output."""
    output: Output
    reject_index: int | None = None
    """The column that means "none of the classes", where there is one: then the network has K + 1 columns."""

    def __post_init__(self) -> None:
        if self.reject_index is not None and not 0 <= self.reject_index <= self.classes:
            raise ModelFileError(
                "outputs",
                f"reject_index from 0 to {self.classes}",
                self.reject_index,
                f"name the output of the {self.columns} that means none of the classes, counted from 0",
            )

    @property
    def columns(self) -> int:
        """How many numbers the network gives for each image."""
        return self.classes + (self.reject_index is not None)

    def scores(self, raw: Tensor) -> Tensor:
        """Read a network's output, batch first, as `(n, columns)` float32 with the rejecting column last.

        Outputs of another shape, such as `(n, K, 1, 1)`, lose their dimensions of size 1. float64 stays float64.
        """
        scores = raw.reshape(len(raw), self.columns)
        if scores.dtype != torch.float64:
            scores = scores.float()
        if self.reject_index is None or self.reject_index == self.classes:
            return scores
        kept = [i for i in range(self.columns) if i != self.reject_index]
        return torch.cat([scores[:, kept], scores[:, self.reject_index : self.reject_index + 1]], dim=1)

    def logits(self, scores: Tensor) -> Tensor:
        """Return logits whose softmax gives the probabilities, `(n, columns)`, differentiable.

        Of probabilities the logarithm is taken, cut off below at the smallest normal float32 (about -87).
        """
        if self.output == "logits":
            return scores
        return scores.clamp_min(torch.finfo(torch.float32).tiny).log()

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the K class probabilities, `(n, K)` float32; what is missing from 1 is the rejected mass."""
        if self.output == "logits":
            scores = scores.softmax(1)
        scores = scores.float()
        return scores if self.reject_index is None else scores[:, : self.classes]

    def check(self, scores: Tensor) -> None:
        """Refuse answers to real images that cannot be what the submission says they are.

        Raises ModelFileError: nan, for NaN or infinity; outputs, for probabilities below 0 or whose sum is not 1, and
        for logits that are plainly probabilities.
        """
        if not bool(scores.isfinite().all()):
            bad = int((~scores.isfinite().all(1)).sum())
            raise ModelFileError(
                "nan",
                "finite outputs",
                f"NaN or infinity on {bad} of {len(scores)} evaluation images",
                "check the preprocessing (size, mean, std, scale) and that the network itself does not overflow",
            )
        error = float((scores.sum(1) - 1).abs().max())
        lowest = float(scores.min())
        sums_to_one = lowest >= 0 and error <= SUM_TOLERANCE
        if self.output == "probabilities" and not sums_to_one:
            raise ModelFileError(
                "outputs",
                "probabilities",
                f"outputs from {lowest:.4g} to {float(scores.max()):.4g} whose sum is off from 1 by up to {error:.4g}",
                "say output: logits",
            )
        if self.output == "logits" and sums_to_one:
            raise ModelFileError(
                "outputs",
                "logits",
                "outputs that are at least 0 and sum to 1 on every evaluation image",
                "say output: probabilities",
            )
