"""Numbers, names and addresses as people read them: one place, so that every page says the same thing the same way."""

from __future__ import annotations

import math
import re
import unicodedata
from urllib.parse import urlsplit

from .record import Measure

DASH = "—"
"""What was not measured. Never 0, and never without its reason beside it."""
NBSP = "\u00a0"
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\\<>\"'`]")


def _decimals(measure: Measure) -> int:
    """Percentage points with a decimal only where the interval is narrow enough to mean it."""
    if measure.low is None or measure.high is None:
        return 0 if measure.n is not None and measure.n < 2000 else 1
    return 1 if (measure.high - measure.low) < 0.02 else 0


def percent(value: float, decimals: int = 0) -> str:
    """0.943 -> "94". Rounds to 0 or 100 only what is exactly that: 0.998 -> "99.8", 0.99999 -> "> 99.9"."""
    if value in (0.0, 1.0):
        return f"{value * 100:.0f}"
    for places in range(decimals, 2):
        text = f"{value * 100:.{places}f}"
        if float(text) not in (0.0, 100.0):
            return text
    return f"<{NBSP}0.1" if value < 0.5 else f">{NBSP}99.9"


def share(measure: Measure) -> str:
    """A proportion as a percentage without its sign ("94"), or a dash."""
    return DASH if measure.value is None else percent(measure.value, _decimals(measure))


def share_interval(measure: Measure) -> str:
    """The 95% interval of a proportion, such as "90–97"; empty where there is none."""
    if measure.value is None or measure.low is None or measure.high is None:
        return ""
    places = _decimals(measure)
    low, high = (f"{x * 100:.{0 if x in (0.0, 1.0) else places}f}" for x in (measure.low, measure.high))
    return f"{low}–{high}"


def score(measure: Measure) -> str:
    """A score of 0 to 100 with one decimal, or a dash."""
    return DASH if measure.value is None else f"{measure.value:.1f}"


def score_interval(measure: Measure) -> str:
    """The 95% interval of a score, such as "38.9–43.6"; empty where there is none."""
    if measure.value is None or measure.low is None or measure.high is None:
        return ""
    return f"{measure.low:.1f}–{measure.high:.1f}"


def signed(measure: Measure, factor: float) -> str:
    """A difference in points with its sign and interval: "+3.1 [−0.4, +6.5]". `factor` is 100 for proportions."""
    if measure.value is None:
        return DASH
    text = _sign(measure.value * factor)
    if measure.low is None or measure.high is None:
        return text
    return f"{text} [{_sign(measure.low * factor)}, {_sign(measure.high * factor)}]"


def _sign(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def counts(measure: Measure) -> str:
    """`k/n` of a proportion; empty where they were not kept."""
    return "" if measure.k is None or measure.n is None else f"{measure.k:,}/{measure.n:,}"


def confidence(value: float | None) -> str:
    """A probability with its sign: 0.9931 -> "99.3 %"."""
    return DASH if value is None else f"{percent(value, 1)}{NBSP}%"


def quantity(value: float | None) -> str:
    """A count or a size to three significant digits, with thousands separators: 12345.6 -> "12,300"."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0 or (float(value).is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        exponent = math.floor(math.log10(abs(value)))
        power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{value / 10**exponent:.2g}{NBSP}×{NBSP}10{power}"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    text = f"{rounded:,.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if digits > 0 else text


def duration(seconds: float | None) -> str:
    """Seconds as "0.42 s", "35 s", "4 min 10 s" or "2 h 5 min"."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.2g}{NBSP}s"
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if minutes == 0:
        return f"{whole}{NBSP}s"
    if hours == 0:
        return f"{minutes}{NBSP}min {whole % 60}{NBSP}s"
    return f"{hours:,}{NBSP}h {minutes % 60}{NBSP}min"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """1, "entry", "entries" -> "1 entry"."""
    return f"{number:,}{NBSP}{noun if number == 1 else (many or noun + 's')}"


def in_words(number: int) -> str:
    """A count in words up to twelve, in digits beyond: 7 -> "seven", 0 -> "no"."""
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"


def printable(text: str, most: int = 200) -> str:
    """The text on one line, at most `most` characters, with whatever cannot be printed (control characters, marks
    that turn the reading direction) replaced by U+FFFD: a stranger's name must not break a page or an SVG."""
    plain = "".join(c if c.isprintable() else " " if c in "\t\r\n" else "\ufffd" for c in text).strip()
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def slug(text: str) -> str:
    """A name as a part of an address: lower-case ASCII letters, digits and dashes, at most 40, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "entry"


def safe_url(value: object) -> str | None:
    """The value if it is an http or https address that a page may link to, else None. Submissions are hostile input."""
    if not isinstance(value, str) or len(value) > 2000 or _CONTROL.search(value):
        return None
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and host and parts.username is None else None
