"""Doubts: what a victim may not do, told by what it answered. Pure functions of what was seen of it."""

from __future__ import annotations

from pydantic import JsonValue

from ...leaderboard.record.record import Flag, Recognition, Seen
from ...leaderboard.record.seen import FEWEST_APART, TOLERATED, Compared, Fresh, Informative
from .intervals import proportion


def behaviour(seen: Seen) -> list[Flag]:
    """The doubts that this victim earns, in a fixed order."""
    found = (
        None if seen.fresh is None else _stateful(seen.fresh, seen.randomised),
        _recognised(seen.recognition),
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


def _recognised(seen: Recognition | None) -> Flag | None:
    if seen is None or not seen.memorised:
        return None
    own, fresh = seen.own, seen.fresh
    sentence = (
        f"The victim tells the battery's own first images, whose seeds are public, from fresh ones of the same kind: "
        f"of {own.n} it accepts {own.k} with more than the median confidence, of as many fresh ones {fresh.k}. "
        "Attackers will not use these seeds: measure it on a battery of your own, with another name."
    )
    evidence: dict[str, JsonValue] = {"own": own.k, "fresh": fresh.k, "images": own.n}
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
