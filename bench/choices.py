"""Words that a user chooses from, on the command line as in Python, and what is said of any other word.

The floor of the house, beside `errors`: light to import, and known to every room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .errors import InvalidInput, Problem, Where

Tier = Literal["standard", "smoke"]
"""How much of a battery is run: all of it, or about 1/20, which is never ranked."""
DeviceName = Literal["auto", "cpu", "cuda"]
"""Where torch computes; `auto` takes the GPU where there is one."""
HardenHow = Literal["fooling-class", "adversarial", "detector", "density"]
"""What `foolbench harden` trains."""
HardenNetwork = Literal["lenet", "mlp", "resnet"]
"""The kinds of network that `foolbench harden` trains from scratch."""
HardenAttack = Literal["fgsm", "pgd"]
"""What makes the adversarial images that `foolbench harden` trains with."""


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that `word` was probably meant to be; upper case and `_` for `-` do not count as different."""
    from difflib import get_close_matches

    plain = {name.lower().replace("-", "_"): name for name in reversed(known)}
    match = get_close_matches(word.lower().replace("-", "_"), list(plain), 1, cutoff=0.5)
    return plain[match[0]] if match else None


def unknown_word(name: str, word: str, known: Sequence[str]) -> InvalidInput:
    """The error for a word that is none of the known ones.

    Args:
        name: of what it was given for, such as `--tier`; the fix is this name and the nearest known word.
        word: what was given.
        known: the words to choose from, at least one.
    """
    fix = f"{name} {nearest(word, known) or known[0]}"
    return InvalidInput(Problem("FB113", f"one of {', '.join(known)}", repr(word), fix, Where(key=name)))
