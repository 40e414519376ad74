"""A module as it was before anything was asked of it, so that it can be built anew."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class KeptModule:
    """A module's own pickle, made and read by this run alone; or, of one that has none, a copy, which stays here."""

    pickled: bytes | None
    copied: torch.nn.Module | None = None

    def module(self) -> torch.nn.Module:
        """The module as it was, a new one each time."""
        return copy.deepcopy(self.copied) if self.pickled is None else pickle.loads(self.pickled)  # type: ignore[return-value]

    def __reduce__(self) -> tuple[object, ...]:
        """Raises PicklingError of a copy: what cannot be pickled cannot go to another process."""
        if self.pickled is None:
            raise pickle.PicklingError("the module cannot be pickled")
        return KeptModule, (self.pickled,)


def kept_module(module: torch.nn.Module) -> KeptModule | None:
    """Keep a module as it is now; None where it can neither be pickled nor copied."""
    try:
        pickled = pickle.dumps(module)
        pickle.loads(pickled)
    except Exception:  # whatever a stranger's class raises
        try:
            return KeptModule(None, copy.deepcopy(module))
        except Exception:
            return None
    return KeptModule(pickled)
