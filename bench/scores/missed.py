"""What a search misses of what is there: known where a setting of the same attack asks about everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...attacks.entry import Entry
from ...leaderboard.record.record import Measure
from ..running.run import EntryFailure
from ..running.shards import ShardResult
from .intervals import proportion


def missed(
    members: Sequence[Entry],
    results: Mapping[str, ShardResult | EntryFailure],
    counts: Callable[[Entry, ShardResult], np.ndarray],
) -> Measure | None:
    """Of the tasks that an exhaustive setting of a group fooled, the share that its first setting did not, over the
    tasks that both were given. `counts`: which tasks are in a ratio's denominator.

    None where there is no such setting, or one of the two has no result.
    """
    first = results[members[0].name]
    for entry in members:
        every = results[entry.name]
        if entry.exhaustive and isinstance(every, ShardResult) and isinstance(first, ShardResult):
            n = min(len(every.fooled), len(first.fooled))
            there = (counts(entry, every) & every.fooled)[:n]
            nothing = "asking about everything fooled nothing either"
            return proportion(int((there & ~first.fooled[:n]).sum()), int(there.sum()), nothing)
    return None
