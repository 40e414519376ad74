"""What a submission is, in words: read from the YAML as given, which may hold anything a stranger can type."""

from __future__ import annotations

from typing import Any

from .battery import RankedRow
from .record import AttackResult, Record
from .words import percent, printable, safe_url, score, score_interval, share


def _text(value: object) -> str | None:
    return printable(value) if isinstance(value, str) and value.strip() else None


def name_of(record: Record) -> str:
    """The submission's name as given, or a stand-in."""
    return _text(record.submission.get("name")) or f"unnamed {record.digest[:8]}"


def authors_of(record: Record) -> list[str]:
    """The authors as given; a single string counts as one."""
    authors = record.submission.get("authors")
    if isinstance(authors, str):
        authors = [authors]
    return [name for a in authors if (name := _text(a))] if isinstance(authors, list) else []


def model_of(record: Record) -> str:
    """The model in a few words, such as "lenet.onnx" or "timm resnet18"."""
    model = record.submission.get("model")
    if not isinstance(model, dict):
        return "model not stated"
    kind = _text(model.get("kind")) or "model"
    named = _text(model.get("path")) or _text(model.get("name"))
    return named if named and named.endswith(f".{kind}") else f"{kind} {named}" if named else kind


def defenses_of(record: Record) -> list[str]:
    """The defenses in order, each in a few words, such as "bit_depth (bits 3)"."""
    defenses = record.submission.get("defenses")
    return [_defense(d) for d in defenses] if isinstance(defenses, list) else []


def _defense(defense: Any) -> str:
    if not isinstance(defense, dict):
        return printable(str(defense))
    kind = printable(str(defense.get("kind", "defense")))
    told = ", ".join(
        printable(f"{k} {v}") for k, v in defense.items() if k != "kind" and isinstance(v, str | int | float)
    )
    return f"{kind} ({told})" if told else kind


def missed_of(attack: AttackResult) -> str | None:
    """What an attack missed of what is there, as a clause that follows its name; None where it is not known."""
    missed, every = attack.missed, [v.title for v in attack.variants.values() if v.limit == attack.limit]
    if missed is None or not every:
        return None
    if not missed.n:
        return f"missed nothing: {every[0]} fools no image either"
    return f"missed {missed.k} of the {missed.n} images that {every[0]} fools"


def declared_of(record: Record) -> list[str]:
    """What the victim says of itself, in clauses: chance, rejection, and stand-ins for gradients."""
    seen = record.seen
    words = {"randomised": "chance decides its answers", "rejects": "it may reject an image"}
    said = [words[what] for what in seen.declares if what in words]
    if seen.surrogates:
        names = ", ".join(printable(name, 60) for name in seen.surrogates)
        said.append(f"the gradient of {names} is a stand-in (BPDA)")
    return said


def links_of(record: Record) -> list[tuple[str, str]]:
    """`(label, address)` of the links that a page may follow: http and https only."""
    links = record.submission.get("links")
    if not isinstance(links, dict):
        return []
    return [(printable(str(label)), url) for label, value in links.items() if (url := safe_url(value))]


def date_of(record: Record) -> str:
    """The day on which the evaluation started, such as "2026-03-01"."""
    return printable(record.provenance.started[:10])


def weakest(record: Record) -> tuple[RankedRow, float] | None:
    """The ranked row that leaves least, and the survival it leaves; None unless all rows were measured."""
    measured: list[tuple[float, str, RankedRow]] = []
    for row in record.battery.ranked:
        result = record.rows.get(row.name)
        if result is None or result.survival.value is None:
            return None
        measured.append((result.survival.value, row.name, row))
    if not measured:
        return None
    value, _, row = min(measured, key=lambda found: found[:2])
    return row, value


def summary_of(record: Record) -> str:
    """The result in one or two sentences that can be quoted."""
    scores, battery = record.scores, record.battery
    where = battery.name + (" (smoke tier)" if battery.tier == "smoke" else "")
    interval = score_interval(scores.robust_score)
    if scores.robust_score.value is None:
        first = f"{name_of(record)} has no robust score on {where}: {scores.robust_score.reason or 'not measured'}."
    else:
        first = (
            f"{name_of(record)} reaches a robust score of {score(scores.robust_score)} of 100 on {where}"
            + (f" (95% interval {interval})" if interval else "")
            + "."
        )
    if scores.clean_accuracy.value is not None:
        first += f" It gets {share(scores.clean_accuracy)} % of clean images right"
        low = weakest(record)
        if low is None:
            return first + "."
        return first + f"; {printable(low[0].title, 60)} hurts it most and leaves {percent(low[1])} %."
    return first
