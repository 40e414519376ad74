"""Numbers with their intervals, and the scores that every table shows first, as a record holds and prints them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

_UNMEASURED = "—"


class Measure(BaseModel):
    """A number with its 95% interval; for a proportion also k of n (Wilson's interval then)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None
    low: float | None = None
    high: float | None = None
    k: int | None = None
    n: int | None = None
    reason: str | None = None
    """Where `value` is null: why it was not measured."""

    def __str__(self) -> str:
        """`0.943 [0.879, 0.974] (94/100)`, as far as they are known; `— (the reason)` where it was not measured."""
        if self.value is None:
            return f"{_UNMEASURED} ({self.reason})" if self.reason else _UNMEASURED
        interval = "" if self.low is None or self.high is None else f" [{_number(self.low)}, {_number(self.high)}]"
        counts = "" if self.k is None or self.n is None else f" ({self.k}/{self.n})"
        return f"{_number(self.value)}{interval}{counts}"


class Scores(BaseModel):
    """The numbers that a table shows first. Printed, one a line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clean_accuracy: Measure
    clean_rejection: Measure
    robust_score: Measure
    """0 to 100: 100 × mean endurance over the ranked rows."""
    survival_score: Measure
    """0 to 100: 100 × mean survival over the ranked rows."""
    worst_case: Measure
    """The lowest survival of the ranked rows, 0 to 1."""
    survives_all_perturb: Measure

    def __str__(self) -> str:
        """One score a line, `robust_score` first."""
        names = sorted(type(self).model_fields, key=lambda name: name != "robust_score")
        wide = max(map(len, names))
        return "\n".join(f"{name:<{wide}}  {getattr(self, name)}" for name in names)

    def __repr__(self) -> str:
        """The same on one line."""
        held = ", ".join(f"{name}={getattr(self, name)}" for name in type(self).model_fields)
        return f"{type(self).__name__}({held})"


def _number(value: float) -> str:
    """Three significant digits, or as many as keep apart from 0, 1 and 100 what is not exactly that."""
    for digits in range(3, 17):
        text = f"{value:.{digits}g}"
        if float(text) == value or float(text) not in (0.0, 1.0, 100.0):
            return text
    return repr(value)
