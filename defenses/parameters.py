"""Checks of parameters that are no whole numbers."""

from __future__ import annotations

from ..bench.errors import Unexpected


def number(defense: str, parameter: str, value: float, above: float, most: float) -> float:
    """Return `value` as a float if it is a number above `above` and at most `most`.

    Raises:
        ValueError: it is not (bool and NaN are not numbers here).
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= most:
        raise Unexpected(
            f"{parameter} of {defense} to be a number above {above:g} and at most {most:g}",
            f"{value!r}",
            "choose one in that range",
        )
    return float(value)
