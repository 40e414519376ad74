"""What the pages and downloads say: numbers, names, addresses, captions and tables in words."""

from __future__ import annotations

import pytest
from foolbench.leaderboard.board.export import bibtex, csv_text
from foolbench.leaderboard.record import words
from foolbench.leaderboard.record.record import AttackResult, Measure, TaskRow
from foolbench.leaderboard.record.rows import RankedRow
from foolbench.leaderboard.site.entry import properties_of, ranked_of, transfer_of
from foolbench.leaderboard.site.gallery import caption
from record_attacks import SIX, TITLES, Recipe
from records import RECIPES, record


@pytest.mark.parametrize(
    ("value", "decimals", "told"),
    [
        (0.0, 0, "0"),
        (1.0, 1, "100"),
        (0.943, 0, "94"),
        (0.998, 0, "99.8"),
        (0.004, 0, "0.4"),
        (0.9999999, 1, "> 99.9"),
        (0.0001, 0, "< 0.1"),
        (0.9931, 1, "99.3"),
    ],
)
def test_percentages_never_round_to_what_they_are_not(value: float, decimals: int, told: str) -> None:
    assert words.percent(value, decimals).replace(words.NBSP, " ") == told


def test_quantities_and_names() -> None:
    assert words.share_interval(Measure(value=0.0, low=0.0, high=0.004)) == "0–0.4"
    shown = [words.quantity(x) for x in (None, 0, 50_000, 12_345.6, 0.8, 3.1e-6)]
    assert shown == ["—", "0", "50,000", "12,300", "0.8", "3.1 × 10⁻⁶".replace(" ", words.NBSP)]
    assert words.slug("Ünïcode & <b>Tags</b> 漢字") == "unicode-b-tags-b"
    assert words.slug("漢字") == "entry"
    assert [words.in_words(n) for n in (0, 1, 7, 12, 13, 1300)] == ["no", "one", "seven", "twelve", "13", "1,300"]
    assert words.printable("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc d"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JAVASCRIPT://x",
        "data:text/html,x",
        "//example.org",
        "http://",
        "https://a b",
        None,
        3,
        "https://user:pw@example.org",
        'https://example.org/"onclick=',
        "ftp://example.org",
        "http://[",
        "java\nscript:x",
    ],
)
def test_only_plain_web_addresses_are_linked(url: object) -> None:
    assert words.safe_url(url) is None


@pytest.mark.parametrize("url", ["https://example.org/a?b=1#c", "http://example.org"])
def test_a_plain_web_address_stays_as_it_is(url: str) -> None:
    assert words.safe_url(url) == url


def test_formulas_become_text() -> None:
    assert [csv_text(t) for t in ("=1", "+1", "-1", "@x", "\tx", "a=1", "")] == [
        "'=1",
        "'+1",
        "'-1",
        "'@x",
        "'\tx",
        "a=1",
        "",
    ]
    assert r"title = {{100\% \& \textbackslash{}input\{x\}}" in bibtex(record(Recipe(r"100% & \input{x}")))


# an entry's page


def test_captions_say_what_happened() -> None:
    attacks = record(RECIPES[1]).attacks
    classes = ["zero", "one", "two"]

    def told(name: str, **row: object) -> str:
        attack: AttackResult = attacks[name]
        return caption(attack, TITLES[name], TaskRow.model_validate({"counts": True} | row), classes).replace(
            words.NBSP, " "
        )

    fooled = {"image": 0, "truth": 1, "before": 1, "fooled": True, "label": 2, "confidence": 0.9931}
    assert told("fgsm", **fooled) == "“one” → “two”, 99.3 %, FGSM, ε = 0.2"
    assert told("one_pixel", **fooled | {"fooled": False, "label": 1}) == "“one” → still “one”, 99.3 %, One pixel"
    assert told("fgsm", **fooled | {"fooled": False, "label": None}) == "“one” → rejected, not fooled, FGSM, ε = 0.2"
    found = {"run": 0, "target": 2, "fooled": True, "label": 2, "confidence": 0.98}
    assert told("cppn", **found) == "no natural image → “two”, 98.0 %, CPPN (indirect encoding)"
    missed = found | {"fooled": False, "label": 0, "confidence": 0.2}
    assert told("gradient_ascent", **missed) == "aimed at “two”, 20.0 % for it, the victim said “zero”, Gradient ascent"


def test_rows_say_what_they_count_over_what_and_which_attack_took_how_many() -> None:
    made = record(RECIPES[1])
    lost = made.rows["fgsm"]
    right = sum(lost.counts)
    by = ["fgsm"] * 2 + ["fgsm_5"] * 3 + ["one_pixel"] * 6 + [None] * (len(lost.tasks) - 11)
    within = {"curve": [0.2, 0.5], "epsilon": 0.2}
    nested = RankedRow(name="linf", title="Low", entries=["fgsm", "one_pixel"], **within)
    alone = made.battery.ranked[0]
    battery = made.battery.model_copy(update={"ranked": [alone, nested, alone.model_copy(update={"name": "gone"})]})
    made = made.model_copy(update={"rows": made.rows | {"linf": lost.model_copy(update={"by": by})}})
    first, second, third = ranked_of(made, battery)
    assert (first.title, first.counted, first.over) == (TITLES["evolution"],) * 2 + ("10 to 50,000 passes",)
    assert first.took == f"{sum(x is not None for x in made.rows['evolution'].lost)} of 50"
    assert (second.title, second.counted) == ("Low", "FGSM, One pixel")
    assert second.over == "ε 0 to 0.5, survival at 0.2"
    assert second.took == f"11 of {right}: One pixel 6, FGSM 5"
    assert (third.result, third.took) == (None, "")


def test_transfer_is_read_in_both_directions() -> None:
    made = record(RECIPES[0])
    incoming, outgoing = transfer_of(made, made.battery)
    assert [name for name, _ in incoming.rows] == ["lenet-a", "lenet-b", "mlp", "random forest"]
    assert incoming.attacks == SIX
    cells = [c for _, row in outgoing.rows for c in row]
    assert all(c is not None and c.source == "submission" for c in cells)


def test_properties_are_told_in_words() -> None:
    rows = properties_of({"falls": {"k": 3, "n": 9, "value": 1 / 3}, "local_ratio": {"median": None, "n": 0}, "odd": 2})
    assert [(group, told) for group, _, told in rows] == [
        ("Local", "— not defined on any image"),
        ("Cumulative", "3 of 9"),
        ("", "2"),
    ]
