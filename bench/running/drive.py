"""One block of tasks: the driver owns the victim, the batches, the budget and the progress; the attack owns nothing.

The fixed device batch is the battery's. A block is worked on in one thread and in one order, so its result depends on
nothing but the block, the victim and the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...attacks.answers import label_alone
from ...attacks.base import BlackBox, Fool, Perturb
from ...attacks.entry import Access, Limit
from ...models.base import Classifier
from ..asking.answers import checked_answers
from ..battery.ground import Asking
from ..errors import OverBudget, Problem, Unexpected

Hit = Callable[[Tensor, Tensor], Tensor]
"""`(probabilities (n, K), owners (n,))` -> bool `(n, tasks an owner holds)`: which answers succeed as they stand."""

Within = Callable[[Tensor, Tensor], Tensor]
"""`(images (n, c, h, w), owners (n,))` -> bool `(n,)`: which images are within their tasks' limit."""

Tick = Callable[[int, int], None]
"""Told, after each batch, how many images were just asked for and how many tasks have been fooled so far."""


class Stopped(Exception):
    """Whoever runs the blocks asked this one to stop between two batches."""


@dataclass
class Meter:
    """Counts what each owner has spent and when each of its tasks was first fooled; enforces the budget."""

    owners: int
    tasks_per_owner: int
    budget: int
    setup_budget: int
    hit: Hit
    tick: Tick
    device: torch.device
    flat: Hit | None = None
    """Which answers succeed at the flat confidence too; None: not asked."""
    setup: int = 0
    queries: int = 0
    gradients: int = 0
    fooled: int = 0
    """Tasks fooled so far, as the driver saw it; the judge decides later."""
    spent: Tensor = field(init=False)
    first: Tensor = field(init=False)
    """`(owners, tasks_per_owner)` int64: what the owner had spent, that query included, when the task was first
    fooled; -1 where it never was."""
    first_flat: Tensor = field(init=False)
    """The same at the flat confidence."""

    def __post_init__(self) -> None:
        self.spent = torch.zeros(self.owners, dtype=torch.int64, device=self.device)
        self.first = torch.full((self.owners, self.tasks_per_owner), -1, dtype=torch.int64, device=self.device)
        self.first_flat, self._sure = self.first.clone(), 0
        self._rows = _RowOwners.of(torch.empty(0, dtype=torch.int64, device=self.device), self.owners)

    def charge(self, owners: Tensor) -> Tensor:
        """Count one look for each row before it is taken; returns `(n,)` int64 what its owner has then spent.

        Raises OverBudget before anything is asked of the victim.
        """
        if not torch.equal(owners, self._rows.owners):
            self._rows = _RowOwners.of(owners, self.owners)
        rows, setup = self._rows, self._rows.setup
        total = self.spent + rows.counts
        worst = int(total.max()) if self.owners else 0
        if worst > self.budget:
            raise _over_budget("a task", worst, self.budget)
        if self.setup + setup > self.setup_budget:
            raise _over_budget("its set-up", self.setup + setup, self.setup_budget)
        at = self.spent[owners] + rows.turn
        self.spent, self.setup = total, self.setup + setup
        return at

    def observe(self, probabilities: Tensor, owners: Tensor, at: Tensor) -> None:
        """Note which tasks these answers fool for the first time."""
        if self.fooled < self.first.numel():
            self.first, self.fooled = self._noted(self.first, self.fooled, self.hit(probabilities, owners), owners, at)
        if self.flat is not None and self._sure < self.first_flat.numel():
            sure = self.flat(probabilities, owners)
            self.first_flat, self._sure = self._noted(self.first_flat, self._sure, sure, owners, at)

    def _noted(self, first: Tensor, known: int, hits: Tensor, owners: Tensor, at: Tensor) -> tuple[Tensor, int]:
        """`first` with new hits `(n, tasks an owner holds)` in it, and how many tasks it now knows; `known` before."""
        rows, columns = hits.nonzero(as_tuple=True)
        if len(rows) == 0:
            return first, known
        who = owners[rows]
        new = (who >= 0) & (first[who, columns] < 0)
        rows, flat = rows[new], (who * self.tasks_per_owner + columns)[new]
        if len(rows) == 0:
            return first, known
        never = torch.iinfo(torch.int64).max
        earliest = torch.full((first.numel(),), never, dtype=torch.int64, device=self.device)
        earliest.scatter_reduce_(0, flat, at[rows], "amin")
        earliest = earliest.view_as(first)
        first = torch.where(earliest < never, earliest, first)
        return first, int((first >= 0).sum())


class _RowOwners(NamedTuple):
    """Whose each row of a query is: which owner pays for it. Most searches ask for the same owners every time."""

    owners: Tensor
    """`(n,)`, a copy."""
    setup: int
    """Rows that no owner pays for."""
    counts: Tensor
    """`(owners,)`: rows of each."""
    turn: Tensor
    """`(n,)`: how many rows its owner has up to each row, that row included."""

    @staticmethod
    def of(owners: Tensor, count: int) -> _RowOwners:
        """Raises ValueError for an owner that the block does not have."""
        shared = owners < 0
        setup = int(shared.sum())
        counts = torch.bincount(owners[~shared] if setup else owners, minlength=count)
        if len(counts) > count:
            raise Unexpected(f"owners below {count}", int(owners.max()), "name tasks of the block")
        order = torch.argsort(owners, stable=True)
        starts = torch.cumsum(counts, 0) - counts
        position = torch.empty_like(owners)
        position[order] = torch.arange(len(owners), device=owners.device) - setup
        return _RowOwners(owners.clone(), setup, counts, position - starts[owners] + 1)


def _over_budget(who: str, asked: int, granted: int) -> OverBudget:
    expected = f"{who} to ask at most {granted:,} queries and gradients"
    fix = "make the attack keep its budget, or raise it in a battery of your own"
    return OverBudget(Problem("FB500", expected, f"an attack that asked for {asked:,}", fix))


def check_asked(images: Tensor, owners: Tensor, shape: tuple[int, int, int]) -> None:
    """Hold an attack to its protocol: at least one image, of the task's shape, and an owner for each.

    Without it an attack could ask for many images in the name of one, or for none for ever. Raises ValueError.
    """
    if images.shape[1:] != shape or len(images) == 0 or owners.shape != images.shape[:1]:
        raise Unexpected(
            f"images (n, {', '.join(map(str, shape))}), n at least 1, and n owners",
            f"{tuple(images.shape)} and {tuple(owners.shape)}",
            "ask for images of the task's shape, each in the name of one task",
        )


def within_limit(limit: Limit | None, task: Fool | Perturb) -> Within | None:
    """What the judge of these tasks would find within their limit; None where nothing limits them."""
    if limit is None or not isinstance(task, Perturb):
        return None
    levels, originals = task.levels, task.levels.to_bytes(task.images)

    def within(images: Tensor, owners: Tensor) -> Tensor:
        return limit.kept(limit.sizes(originals[owners], levels.to_bytes(images)), levels)

    return within


def drive_black_box(
    attack: BlackBox[Any],
    task: Any,
    victim: Classifier,
    meter: Meter,
    *,
    attack_rng: torch.Generator,
    victim_rng: torch.Generator,
    how: Asking,
    stop: Callable[[], bool],
    access: Access = "scores",
    within: Within | None = None,
) -> Tensor:
    """Run a search to its end and return its finals. Every query is rounded to the levels first, so that what was
    answered is what can be saved and replayed. With `access` "label" the search is sent `label_alone` of each answer.
    Images outside `within` are no hits.

    Raises OverBudget, ModelFailure, and Stopped when `stop()` turns true.
    """
    search = attack.search(task, attack_rng)
    try:
        query = next(search)
        while True:
            if stop():
                raise Stopped
            check_asked(query.images, query.owners, victim.shape)
            at = meter.charge(query.owners)
            probabilities = checked_answers(victim, query.images, victim_rng, how)
            meter.queries += len(query.images)
            owners = query.owners
            if within is not None:
                owners = torch.where(within(query.images, owners), owners, -1)  # nobody's
            meter.observe(probabilities, owners, at)
            meter.tick(len(query.images), meter.fooled)
            query = search.send(label_alone(probabilities) if access == "label" else probabilities)
    except StopIteration as finished:
        return finished.value
    finally:
        search.close()
