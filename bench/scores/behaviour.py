"""Doubts: what a victim may not do, told by what it answered. Pure functions of what was seen of it."""

from __future__ import annotations

from pydantic import JsonValue

from ...leaderboard.record.known import Known, Recognition, Shares
from ...leaderboard.record.measure import Measure
from ...leaderboard.record.record import Flag, Seen
from ...leaderboard.record.seen import FEWEST_APART, TOLERATED, Compared, Fresh, Informative
from .intervals import proportion


def behaviour(seen: Seen) -> list[Flag]:
    """The doubts that this victim earns, in a fixed order."""
    found = (
        None if seen.fresh is None else _stateful(seen.fresh, seen.randomised),
        None if seen.known is None else _memorised(seen.known),
        None if seen.recognition is None else _recognised(seen.recognition),
        None if seen.informative is None else _withheld(seen.informative),
    )
    return [flag for flag in found if flag is not None]


def _stateful(fresh: Fresh, randomised: bool) -> Flag | None:
    searched = {name: found for name, found in fresh.searched.items() if found.apart}
    company = {name: found for name, found in fresh.company.items() if found.apart}
    verdicts = {name: told for name, told in fresh.verdicts.items() if _turned(*told, randomised)}
    told = []
    if searched:
        told.append(f"{_of(_worst(searched))} queries of its searches got another answer from a victim built anew")
    if verdicts:
        images, before, now = max(verdicts.values(), key=lambda told: abs(told[2] - told[1]))
        told.append(f"of {images:,} final images {before:,} fooled the searched victim and {now:,} one built anew")
    if company:
        name, worst = max(company.items(), key=lambda pair: pair[1].differ.value or 0)
        told.append(f"{_of(worst)} images got another answer in other company ({name})")
    if fresh.failed:
        told.append(f"it was built anew and would not answer: {fresh.why}")
    if not told:
        return None
    sentence = (
        f"An answer depends on more than its image: {'; '.join(told)}. Attacks were misled by what no user "
        "would meet, so its numbers are no robustness. Take out whatever remembers, counts or averages over a batch "
        "(batch normalisation in training mode, activations quantised by the batch), and evaluate again."
    )
    evidence: dict[str, JsonValue] = {
        **{f"searched: {name}": _numbers(found) for name, found in searched.items()},
        **{f"company: {name}": _numbers(found) for name, found in company.items()},
        **{f"judged: {name}": {"images": n, "before": a, "now": b} for name, (n, a, b) in verdicts.items()},
        "process": fresh.process,
    }
    return Flag(code="stateful", sentence=sentence, evidence=evidence)


def _turned(images: int, before: int, now: int, randomised: bool) -> bool:
    """Whether so many verdicts changed that rounding and chance do not explain it."""
    turned = abs(now - before)
    one, other = sorted((proportion(before, images), proportion(now, images)), key=lambda share: share.value or 0)
    if randomised:
        return (one.high or 0) < (other.low or 0)
    return turned >= FEWEST_APART and (proportion(turned, images).low or 0) > TOLERATED


def _worst(found: dict[str, Compared]) -> Compared:
    return max(found.values(), key=lambda each: each.differ.k or 0)


def _of(found: Compared) -> str:
    return f"{found.differ.k:,} of {found.differ.n:,}"


def _numbers(found: Compared) -> dict[str, JsonValue]:
    chance = {} if found.chance is None else {"by_chance": found.chance.k}
    return {"differ": found.differ.k, "images": found.differ.n, **chance, "largest": found.largest}


DOES = {"right": "are accepted and right", "accepted": "are accepted", "sure": "get a confidence of at least τ"}


def _memorised(known: Known) -> Flag | None:
    found = known.found
    if not found:
        return None
    than, excesses = next(iter(found.items()))
    said = "; ".join(
        f"{_share(one.here)} of them {DOES[one.what]}, and {_share(one.there)} of {than}" for one in excesses
    )
    sentence = (
        f"The victim does better on the evaluation images than on images that it cannot know: {said}. What it does for "
        "those it does for no user. Take out what was fitted to the evaluation images or looks them up (they are no "
        "training images), and evaluate again; where mild changes alone mislead an honest network, train it with some."
    )
    sides = {"evaluation images": known.own, known.others_are: known.others, **known.variants}
    evidence: dict[str, JsonValue] = {name: _fared(side) for name, side in sides.items() if side is not None}
    return Flag(code="memorised", sentence=sentence, evidence=evidence)


def _share(share: Measure) -> str:
    return f"{share.value or 0:.0%}"


def _fared(side: Shares) -> dict[str, JsonValue]:
    right: dict[str, JsonValue] = {} if side.right is None else {"right": side.right.k}
    return {"images": side.accepted.n, **right, "accepted": side.accepted.k, "sure": side.sure.k}


def _recognised(seen: Recognition) -> Flag | None:
    kinds = seen.kinds_known
    if seen.memorised:
        own, fresh, unseen = seen.own, seen.fresh, seen.unseen
        sentence = (
            "The victim tells images of nothing whose seeds are public from others of the same kinds: with more than "
            f"the median confidence it accepts {own.k} of {own.n} that every run begins with, {fresh.k} of {fresh.n} "
            f"of another public stream, and {unseen.k} of {unseen.n} that this submission alone fixes. Attackers will "
            "not use these seeds: take out what knows the images, and evaluate again."
        )
    elif kinds is not None and seen.made is not None:
        sentence = (
            "The victim knows what the attacks begin with (uniform noise, images of random CPPNs), and no other "
            f"nonsense: {_share(kinds.there)} of the first and {_share(kinds.here)} of other noise, patterns and "
            f"patches {DOES[kinds.what]}. Attackers may begin with anything: show the detector other nonsense too, or "
            "let it decide by what data are like, and evaluate again."
        )
    else:
        return None
    evidence: dict[str, JsonValue] = {"own": seen.own.k, "fresh": seen.fresh.k, "unseen": seen.unseen.k}
    evidence |= {"images": seen.own.n}
    evidence |= {} if seen.made is None else {"the attacks' first": _fared(seen.made)}
    evidence |= {kind: _fared(side) for kind, side in (seen.kinds or {}).items()}
    return Flag(code="recognition", sentence=sentence, evidence=evidence)


def _withheld(seen: Informative) -> Flag | None:
    kept = seen.withheld
    if kept is None:
        return None
    sentence = (
        f"The answers tell hardly more than a label: {kept}. That blinds a search, which climbs probabilities, and "
        "makes nothing safe: give the probabilities as the network has them, neither rounded nor capped nor cut to the "
        "first class, and evaluate again."
    )
    evidence: dict[str, JsonValue] = {
        **{"images": seen.images, "label_only": seen.label_only, "values": seen.values, "distinct": seen.distinct},
        **{"step": seen.step, "largest": seen.tops, "capped": seen.capped, "cap": seen.cap},
    }
    return Flag(code="withheld", sentence=sentence, evidence=evidence)
