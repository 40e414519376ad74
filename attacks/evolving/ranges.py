"""Checks of the fields of the evolutionary attacks."""

from __future__ import annotations

from ...bench.errors import Unexpected


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless each is at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise Unexpected(f"{name} of at least 1", size, "raise it")


def check_rates(**rates: float) -> None:
    """Raise ValueError unless each is a probability."""
    for name, rate in rates.items():
        if not 0.0 <= rate <= 1.0:
            raise Unexpected(f"{name} between 0 and 1", rate, "give a probability")


def check_eta(eta: float) -> None:
    """Raise ValueError unless it is a distribution index."""
    if not eta >= 0.0:
        raise Unexpected("eta of at least 0", eta, "the paper uses 15")
