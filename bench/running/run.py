"""Shards to results: in as many threads as there are workers, in any order, with finished shards kept on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...attacks.entry import Entry
from ..errors import FoolbenchError, OverBudget, Problem, Unexpected, one_line
from ..machine.memory import lack_told
from .arena import Arena
from .progress import Progress
from .shards import Shard, ShardResult, cut, join, load_shard, longest_first
from .work import work


@dataclass(frozen=True)
class EntryFailure:
    """Why an entry has no result: its attack overspent or raised. The other entries go on."""

    code: str
    reason: str


def run_entries(
    arena: Arena,
    entries: Iterable[Entry],
    *,
    folder: Path | None,
    determined_by: Mapping[str, Any],
    workers: int,
    progress: Progress,
    elsewhere: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, ShardResult | EntryFailure]:
    """Work on every shard of these entries; finished shards found in `folder`, or by their file's name `elsewhere`, are
    taken as they are, and `arena.ground.memory` is told of their batch.

    The result does not depend on `workers` or on the order in which shards finish. Raises the first error that no
    other entry can survive (ModelFailure, EnvironmentFault, KeyboardInterrupt), with finished shards saved.
    """
    plan = [shard for entry in entries for shard in cut(entry)]
    paths = {
        shard: None if folder is None else folder / f"{shard.name}-{shard.digest(determined_by)[:16]}.npz"
        for shard in plan
    }
    failed: dict[tuple[str, int], EntryFailure] = {}
    stop = threading.Event()
    # Before any thread starts: Python 3.11 cannot read two npz headers at once (ast's recursion check is not its own).
    found = {
        shard: load_shard(path if path.exists() else elsewhere.get(path.name, path))
        for shard, path in paths.items()
        if path is not None
    }
    done = {(shard.entry.name, shard.index): result for shard, result in found.items() if result is not None}
    for (name, index), result in done.items():
        arena.ground.memory.taken(int(result.batch))
        progress.finished(name, index, result)

    def one(shard: Shard) -> ShardResult:
        tick = progress.shard(shard.entry.name, shard.index)
        finished = work(arena, shard, stop=stop.is_set, tick=tick)
        path = paths[shard]
        if path is not None:
            finished.save(path)
        progress.finished(shard.entry.name, shard.index, finished)
        return finished

    order = longest_first(shard for shard in plan if (shard.entry.name, shard.index) not in done)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="shard")
    try:
        futures = {pool.submit(one, shard): shard for shard in order}
        waiting = set(futures)
        while waiting:
            ready, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ready:
                shard = futures[future]
                key = shard.entry.name, shard.index
                try:
                    with lack_told("for the images that the attack itself holds"):
                        done[key] = future.result()
                except OverBudget as error:
                    failed[key] = EntryFailure("FB500", _reason(error.problems[0]))
                except (FoolbenchError, OSError):
                    raise
                except Unexpected as error:
                    failed[key] = EntryFailure("FB501", f"the attack failed: {_reason(error)}")
                except Exception as error:
                    failed[key] = EntryFailure("FB501", f"the attack raised {one_line(error)}")
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    results: dict[str, ShardResult | EntryFailure] = {}
    for entry in {shard.entry.name: shard.entry for shard in plan}.values():
        keys = [(entry.name, shard.index) for shard in cut(entry)]
        # The first of its failures, whichever came first: every shard of a failing entry is worked on to its end.
        failure = next((failed[key] for key in keys if key in failed), None)
        results[entry.name] = failure or join([done[key] for key in keys])
    return results


def _reason(error: Problem | Unexpected) -> str:
    return f"expected {error.expected}, got {error.got}"
