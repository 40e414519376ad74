"""Shards to results: in as many threads as there are workers, in any order, with finished shards kept on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...attacks.entry import Entry
from ..errors import FoolbenchError, OverBudget, Problem, Unexpected, one_line
from ..machine.memory import lack_told
from .before import Before
from .prepared import Prepared
from .progress import Progress
from .shards import Shard, ShardResult, cut, join, load_shard, longest_first
from .work import work

NEEDLESS = "FB503"
"""The code of an entry that this victim makes needless."""


@dataclass(frozen=True)
class EntryFailure:
    """Why an entry has no result: its attack overspent or raised, or is needless here. The other entries go on."""

    code: str
    reason: str

    @property
    def needless(self) -> bool:
        """Whether it was not run since this victim makes it needless; that is no failure."""
        return self.code == NEEDLESS


Results = Mapping[str, ShardResult | EntryFailure]
"""What entries came to, by name."""


def run_entries(
    prepared: Prepared,
    entries: Iterable[Entry],
    *,
    folder: Path | None,
    determined_by: Mapping[str, Any],
    workers: int,
    progress: Progress,
    elsewhere: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, ShardResult | EntryFailure]:
    """Work on every shard of these entries; finished shards found in `folder`, or by their file's name `elsewhere`, are
    taken as they are, and `prepared.ground.memory` is told of their batch.

    The shards of an entry wait for those of the entries that it needs, as far as these are in the plan. The result does
    not depend on `workers` or on the order in which shards finish. Raises the first error that no
    other entry can survive (ModelFailure, EnvironmentFault, KeyboardInterrupt), with finished shards saved.
    """
    plan = list(entries)
    shards = [shard for entry in plan for shard in cut(entry)]
    paths = {shard: _path(shard, folder, determined_by) for shard in shards}
    outcomes: dict[Shard, ShardResult | EntryFailure] = {}
    # Before any thread starts: Python 3.11 cannot read two npz headers at once (ast's recursion check is not its own).
    for shard, path in paths.items():
        found = None if path is None else load_shard(path if path.exists() else elsewhere.get(path.name, path))
        if found is not None:
            prepared.ground.memory.taken(int(found.batch))
            progress.finished(shard.entry.name, shard.index, found)
            outcomes[shard] = found
    stop = threading.Event()
    by_name = {entry.name: entry for entry in plan}

    def before(entry: Entry) -> Before:
        joined = {name: _joined([outcomes[s] for s in cut(by_name[name])]) for name in entry.needs if name in by_name}
        return Before(by_name, {name: result for name, result in joined.items() if isinstance(result, ShardResult)})

    def ready(entry: Entry) -> bool:
        return all(s in outcomes for name in entry.needs if name in by_name for s in cut(by_name[name]))

    def one(shard: Shard) -> ShardResult:
        tick = progress.shard(shard.entry.name, shard.index)
        finished = work(prepared, shard, before(shard.entry), stop=stop.is_set, tick=tick)
        path = paths[shard]
        if path is not None:
            finished.save(path)
        progress.finished(shard.entry.name, shard.index, finished)
        return finished

    pool = ThreadPoolExecutor(workers, thread_name_prefix="shard")
    try:
        futures: dict[Future[ShardResult], Shard] = {}
        left = longest_first(s for s in shards if s not in outcomes)
        while left or futures:
            now = [shard for shard in left if ready(shard.entry)]
            left = [shard for shard in left if shard not in now]
            futures |= {pool.submit(one, shard): shard for shard in now}
            if not futures:
                raise Unexpected(
                    "entries that wait for none that waits for them", left[0].entry.name, "mend its `after`"
                )
            done, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                outcomes[futures.pop(future)] = _outcome(future)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return {entry.name: _joined([outcomes[shard] for shard in cut(entry)]) for entry in plan}


def _path(shard: Shard, folder: Path | None, determined_by: Mapping[str, Any]) -> Path | None:
    return None if folder is None else folder / f"{shard.name}-{shard.digest(determined_by)[:16]}.npz"


def _outcome(future: Future[ShardResult]) -> ShardResult | EntryFailure:
    """What a finished shard came to. Raises what no other entry can survive."""
    try:
        with lack_told("for the images that the attack itself holds"):
            return future.result()
    except OverBudget as error:
        return EntryFailure("FB500", _reason(error.problems[0]))
    except (FoolbenchError, OSError):
        raise
    except Unexpected as error:
        return EntryFailure("FB501", f"the attack failed: {_reason(error)}")
    except Exception as error:
        return EntryFailure("FB501", f"the attack raised {one_line(error)}")


def _joined(outcomes: Sequence[ShardResult | EntryFailure]) -> ShardResult | EntryFailure:
    """An entry's shards as one; the first of its failures, whichever came first: every shard of a failing entry is
    worked on to its end."""
    parts: list[ShardResult] = []
    for outcome in outcomes:
        if isinstance(outcome, EntryFailure):
            return outcome
        parts.append(outcome)
    return join(parts)


def _reason(error: Problem | Unexpected) -> str:
    return f"expected {error.expected}, got {error.got}"
