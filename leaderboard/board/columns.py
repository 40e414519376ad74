"""The numbers that a board shows, each with its definition: table, methods page and downloads all read this list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..record.record import ATTACKS, TITLES, Measure, Record
from ..record.words import score, score_interval, share, share_interval

PERTURB_RATIO = "images that the victim accepts and gets right before the attack"
FOOL_RATIO = "classes × independent runs"

WHAT: dict[str, tuple[str, str]] = {
    "evolution": (
        "Share of classes for which a population of images, mutated pixel by pixel with nothing but the victim’s "
        "probabilities to guide it (Nguyen 2015, direct encoding), found an image that the victim accepts as that "
        "class with at least the confidence τ.",
        FOOL_RATIO,
    ),
    "cppn": (
        "The same search over small pattern-producing networks, whose images are regular: stripes, symmetries, "
        "repeated motifs (Nguyen 2015, indirect encoding).",
        FOOL_RATIO,
    ),
    "deepception": (
        "Share of images whose label a few visible patches, cut from other images and placed by querying, changed. "
        "A reconstruction after Ouarti & Carmona (2018), whose method is known from its abstract only.",
        PERTURB_RATIO,
    ),
    "one_pixel": (
        "Share of images whose label the change of one single pixel changed; differential evolution over position and "
        "colour, seeing probabilities only (Su 2019).",
        PERTURB_RATIO,
    ),
    "fgsm": (
        "Share of images whose label one step along the sign of the gradient changed, at the battery’s headline ε "
        "(Goodfellow 2015).",
        PERTURB_RATIO,
    ),
    "gradient_ascent": (
        "Share of classes for which ascending the victim’s gradient from noise found an image that it accepts as that "
        "class with at least the confidence τ (Nguyen 2015, Simonyan 2013). The best of objectives and decays counts.",
        FOOL_RATIO,
    ),
}


@dataclass(frozen=True)
class Column:
    """One number of a record."""

    key: str
    """In addresses, in the CSV and as the anchor `col-KEY` on the methods page."""
    title: str
    definition: str
    denominator: str
    higher_is_better: bool
    kind: Literal["share", "score"]
    of: Callable[[Record], Measure]

    def value(self, measure: Measure) -> str:
        """The number as the table shows it, without its unit."""
        return score(measure) if self.kind == "score" else share(measure)

    def interval(self, measure: Measure) -> str:
        """Its 95% interval as the table shows it; empty where there is none."""
        return score_interval(measure) if self.kind == "score" else share_interval(measure)


def _fooling(name: str) -> Callable[[Record], Measure]:
    def of(record: Record) -> Measure:
        attack = record.attacks.get(name)
        return attack.fooling_ratio if attack else Measure(value=None, reason="no result in its record")

    return of


SCORE = Column(
    "robust_score",
    "Robust score",
    "The mean over the six attacks of 100 × survival. Survival is the robust accuracy under an attack that changes "
    "natural images, and clean accuracy × (1 − fooling ratio) under one that makes images of nothing. So a victim "
    "must be useful and safe at once: one that rejects everything scores 0. The interval is a bootstrap over tasks.",
    "six attacks, equal weights",
    True,
    "score",
    lambda r: r.scores.robust_score,
)
CLEAN = Column(
    "clean_accuracy",
    "Clean accuracy",
    "Share of unattacked evaluation images that the victim accepts and labels right.",
    "all evaluation images",
    True,
    "share",
    lambda r: r.scores.clean_accuracy,
)
FOOLING = tuple(
    Column(name, TITLES[name], *WHAT[name], higher_is_better=False, kind="share", of=_fooling(name)) for name in ATTACKS
)
WORST = Column(
    "worst_case",
    "Worst case",
    "The lowest of the six survivals: what is left under the attack that hurts this victim most.",
    "that attack’s own",
    True,
    "share",
    lambda r: r.scores.worst_case,
)
SURVIVES = Column(
    "survives_all_perturb",
    "Survives all three",
    "Share of images that the victim gets right and that none of the three attacks on natural images changed.",
    "evaluation images that all three attacks were run on",
    True,
    "share",
    lambda r: r.scores.survives_all_perturb,
)
REJECTED = Column(
    "clean_rejection",
    "Clean rejection",
    "Share of unattacked evaluation images that the victim rejects: its largest class probability does not exceed "
    "the probability it gives to “none of these”.",
    "all evaluation images",
    False,
    "share",
    lambda r: r.scores.clean_rejection,
)
TABLE = (SCORE, WORST, CLEAN, *FOOLING)
"""In the table, in its order: first what is better high, then what is better low."""
ALL = (*TABLE, SURVIVES, REJECTED)
"""In downloads and on the methods page."""

FLAGS = {
    "randomised": "Two identical queries got different answers, so each final image was judged ten times.",
    "zero_gradient": "The input gradient vanishes on part of the images; attacks that follow it are blind there.",
    "misdeclared": "A defense says something of itself that is not so: that nothing in it is random, that it rejects "
    "nothing, or that its gradient is exact. Attacks adapt to what is said.",
    "masking": "An attack without gradients, or with another model’s, does better than the victim’s own gradient; or "
    "FGSM does less with a larger ε, or does not bring the victim down to chance with any. The gradient misleads, and "
    "the white-box numbers overstate the robustness.",
    "memorised": "The victim tells the battery’s own first images, whose seeds are public, from fresh ones of the same "
    "kind.",
    "not_converged": "The last tenth of the budget still gained more than the interval: more budget would fool more.",
    "surrogate": "The victim could not be differentiated, so white-box numbers come from images made on other models "
    "or along finite differences.",
    "rejects_clean": "The victim rejects more than 5% of clean images.",
    "saturated": "The victim is so sure of clean images that τ is 1.0 in float32; a fooling image must be as sure.",
    "underconfident": "The victim is far better than chance and hardly surer than chance: the reading at 99% is void, "
    "that at τ counts.",
    "gradient_mismatch": "The differentiable copy of the model and the submission’s own answers disagree.",
}
"""What each flag means; an entry's page adds that entry's own evidence."""
