"""What the images that attacks ended with say of a victim's statements: only there may it reject, or be random."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...leaderboard.record.record import Statement
from ...models.base import Classifier
from ...models.levels import from_bytes
from ..asking.clean import SAME, CleanAnswers
from ..asking.out_of_distribution import most_rejected, twice
from ..battery.ground import Ground
from ..machine.seeds import generator
from ..running.run import EntryFailure
from ..running.shards import ShardResult
from .statements import KEPT

MOST = 100
"""Final images of each entry that are asked about again, at most."""


def false_on_final_images(
    victim: Classifier, clean: CleanAnswers, ground: Ground, results: Mapping[str, ShardResult | EntryFailure]
) -> tuple[Statement, ...]:
    """Statements that hold on the images of `examine` and not on those of the attacks. Costs two queries of each of at
    most 100 images of an entry; none where `clean` has settled both. Raises ModelFailure.
    """
    silent = not victim.rejects and clean.most_rejected <= KEPT
    if clean.randomised and not silent:
        return ()
    rng = generator(ground.spec.name, "finals", device=victim.device)
    difference = kept = 0.0
    for result in results.values():
        if isinstance(result, EntryFailure) or not result.attacked.any():
            continue
        images = from_bytes(torch.from_numpy(result.images[result.attacked][:MOST]).to(victim.device))
        first, second = twice(victim, images, rng, ground.asking, ground.memory)
        difference, kept = max(difference, float((first - second).abs().max())), max(kept, most_rejected(first))
    found = []
    if difference > SAME and not clean.randomised:
        finding = f"it declares nothing random, and two answers to an image of an attack differed by {difference:.3g}"
        found.append(Statement("deterministic", f"{finding} (the judge, who found it steady before, asked once)"))
    if kept > KEPT and silent:
        finding = f"it declares no rejection, and an answer to an image of an attack kept {kept:.3g} from the classes"
        found.append(Statement("rejection", finding))
    return tuple(found)
