"""One step against many: the note that a single step alone says little."""

from __future__ import annotations

from foolbench.bench.scores.single_step import single_step
from foolbench.leaderboard.record.record import AttackResult, Variant
from record_attacks import wilson


def _variant(limit: str, fooled: int, *, targeted: bool = False) -> Variant:
    return Variant(
        title=limit, parameters={"targeted": targeted}, limit=limit, fooling_ratio=wilson(fooled, 200), budget=1
    )


def _attack(headline: Variant, *variants: Variant, mode: str = "gradient") -> AttackResult:
    others = {f"setting_{i}": variant for i, variant in enumerate(variants)}
    return AttackResult(**headline.model_dump(), task="perturb", mode=mode, tasks=[], variants=others)  # pyright: ignore


def _flags(one: AttackResult, many: AttackResult) -> list[dict[str, object]]:
    return [dict(flag.evidence) for flag in single_step({"fgsm": one, "projected_ascent": many})]


def test_what_one_step_leaves_and_many_take_is_told_at_the_worst_limit() -> None:
    one = _attack(_variant("L∞ ≤ 0.3", 86), _variant("L∞ ≤ 0.1", 20), _variant("L∞ ≤ 0.3", 2, targeted=True))
    many = _attack(_variant("L∞ ≤ 0.3", 172), _variant("L∞ ≤ 0.1", 60))
    (evidence,) = _flags(one, many)
    assert evidence == {"limit": "L∞ ≤ 0.3", "gap": 0.43, "one_step": 0.43, "many_steps": 0.86}


def test_an_honest_difference_earns_nothing() -> None:
    one, many = _attack(_variant("L∞ ≤ 0.3", 100)), _attack(_variant("L∞ ≤ 0.3", 118))
    assert _flags(one, many) == []  # the intervals meet
    assert _flags(many, one) == []
    more = _attack(_variant("L∞ ≤ 0.3", 190))
    assert len(_flags(one, more)) == 1
    assert _flags(one, more.model_copy(update={"mode": "surrogate"})) == []
    assert _flags(one, _attack(_variant("L∞ ≤ 0.2", 190))) == []  # another limit
    assert list(single_step({"fgsm": one})) == []
