"""What a defense makes of images before what stands behind it sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.base import Answer, Classifier
from ..errors import Unexpected
from ..submission.defenses import Defense, Ensemble, OnnxDefense, PackageDefense, RandomizedSmoothing
from ..submission.detectors import Rejects

_IMAGES_AT_ONCE = 250


@dataclass(frozen=True)
class RecordedDefense:
    """A defense in front of a recorder, which keeps every image that it is asked about."""

    front: Classifier
    arrived: list[Tensor]
    """What the recorder was asked about since the list was last emptied."""
    at_once: int
    """How many images the defense may be asked about at a time, so that it is known which one arrived."""

    def change(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images as they arrive behind the defense, and the labels of those that do, both on the CPU.

        Of several versions of an image the first counts. `rng` is on the defense's device. Raises ValueError where
        nothing arrives, and what the defense raises.
        """
        kept, theirs = [], []
        for some, truth in zip(images.split(self.at_once), labels.split(self.at_once), strict=True):
            self.arrived.clear()
            given = some.to(self.front.device)
            self.front.probabilities(given, rng)
            seen = torch.cat([given[:0], *self.arrived])[: len(some)].cpu()
            kept.append(seen)
            theirs.append(truth[: len(seen)])
        self.arrived.clear()
        if not any(len(seen) for seen in kept):
            raise Unexpected(
                "this defense to ask what stands behind it about training images",
                f"no question about any of {len(images)}",
                "write the defenses that are fitted to data before it, or leave them out",
            )
        return torch.cat(kept), torch.cat(theirs)


def recorded(
    defense: Defense, model: Classifier, build: Callable[[Defense, Classifier], Classifier]
) -> RecordedDefense | None:
    """Put a defense in front of a recorder, to see what arrives; None where that is always the image itself.

    `model` is the submission's own; `build` puts a defense in front of a Classifier, and what it raises is raised.
    """
    match defense:
        case OnnxDefense(role="preprocess"):
            pass
        case Rejects() | Ensemble():
            # Feature squeezing asks about squeezed copies too, but what stands behind it answers for the image.
            return None
        case PackageDefense():
            # It may ask as often as it likes, in any order, and choose its question by the answer before.
            return _in_front(lambda recorder: build(defense, recorder), model, at_once=1)
        case RandomizedSmoothing():
            defense = defense.model_copy(update={"samples": 1})  # all copies are alike, and one is enough
        case _:
            pass
    # None of these looks at an answer, so the network is spared the work.
    blind = replace(model, probabilities=_nothing(model.classes), logits=None)
    return _in_front(lambda recorder: build(defense, recorder), blind, at_once=_IMAGES_AT_ONCE)


def _in_front(build: Callable[[Classifier], Classifier], model: Classifier, at_once: int) -> RecordedDefense:
    arrived: list[Tensor] = []

    def watched(answer: Answer) -> Answer:
        def look(images: Tensor, rng: torch.Generator) -> Tensor:
            arrived.append(images.detach())
            return answer(images, rng)

        return look

    logits = None if model.logits is None else watched(model.logits)
    return RecordedDefense(
        build(replace(model, probabilities=watched(model.probabilities), logits=logits)), arrived, at_once
    )


def _nothing(classes: int) -> Answer:
    return lambda images, rng: images.new_zeros(len(images), classes)
