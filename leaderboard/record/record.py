"""The Record: the JSON result of one submission on one battery, and the only thing that report and site read.

Keys are a contract (schema 1): they may be joined by others, never renamed. What was not measured is null with its
`reason` beside it, never 0.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from .battery import BatteryRef, _Model
from .known import Recognition as Recognition
from .measure import Measure as Measure
from .measure import Scores as Scores
from .rows import RowResult as RowResult
from .seen import Seen as Seen
from .seen import Statement as Statement

SCHEMA = 1


class TaskRow(_Model):
    """What the judge says of one task, after re-querying its final 8-bit image."""

    image: int | None = None
    """Perturb: index into the battery's evaluation images."""
    truth: int | None = None
    """Perturb: the image's class."""
    before: int | None = None
    """Perturb: the victim's label of the clean image; null when it rejected it."""
    run: int | None = None
    """Fool: which independent run."""
    target: int | None = None
    """Fool, and targeted Perturb variants: the class aimed at."""
    counts: bool
    """Whether the task is in the fooling ratio's denominator (Perturb: accepted and right before)."""
    fooled: bool | None
    """Null where the attack was not run on this task or was stopped."""
    label: int | None = None
    """The victim's label afterwards; null when it rejects the image."""
    confidence: float | None = None
    """The victim's probability of that label (of `target`, for Fool) on the final image."""
    share: float | None = None
    """Randomised victims: the share of the judge's draws on which it was fooled."""
    queries: int | None = None
    """Queries (white box: gradients and queries) spent on this task when it was first fooled."""
    spent: int = 0
    """Queries and gradients spent on this task in all."""
    size: float | None = None
    """Perturb: the largest change of a pixel value (FGSM), or the number of pixels changed."""
    variant: str | None = None
    """Where the best of several settings counts: which one it was."""
    refused: str | None = None
    """Why the judge refused the image (out of range or limit); a refused image fools nobody."""


class Variant(_Model):
    """One setting of an attack: the headline's own numbers, or one shown beside it."""

    title: str
    """What people read, such as "3 pixels" or "ε = 0.1"."""
    parameters: dict[str, JsonValue]
    limit: str | None = None
    """Perturb: what the judge held the images to, such as "L∞ ≤ 0.2" or "1 pixel"."""
    fooling_ratio: Measure
    fooling_ratio_99: Measure | None = None
    """Fool only: the same at a flat confidence of 0.99."""
    robust_accuracy: Measure | None = None
    """Perturb only."""
    label_change: Measure | None = None
    """Perturb only: label changed, over all images (Moosavi-Dezfooli 2017's denominator)."""
    rejected: Measure | None = None
    """Perturb only: the victim rejects the final image, and is not fooled; of the fooling ratio's denominator."""
    median_confidence: float | None = None
    queries: float | None = None
    """Median queries to success, over successes."""
    median_size: float | None = None
    """Median `size` over successes; the smallest ε, where the attack looks for it."""
    budget: int
    """Queries (white box: gradients and queries) granted to each task (Fool by a black box: to each run)."""
    total_queries: int = 0
    setup_queries: int = 0
    """Queries spent once per block on what all its tasks share; charged separately."""
    gradients: int = 0
    seconds: float | None = None
    curve: list[tuple[int, int]] = Field(default_factory=list)
    """Success against queries: `[queries, tasks fooled by then]`, a step function."""


class AttackResult(Variant):
    """An attack of the battery, or a control: its headline setting, task by task, and its other settings."""

    task: Literal["fool", "perturb"]
    mode: Literal["black_box", "gradient", "surrogate"]
    mode_reason: str | None = None
    """Where the mode is `surrogate`: why the victim could not be differentiated."""
    needless: bool = False
    """Whether it was not run since this victim makes it needless, which is no failure."""
    tasks: list[TaskRow]
    missed: Measure | None = None
    """Where a variant asks about everything, or about a stated grid, within the same limit: of the tasks that it
    fooled, the share that this search did not. So it says how far the robust accuracy is from what is true."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    properties: dict[str, JsonValue] | None = None
    """deepception: the four measured properties of the victim."""


class Flag(_Model):
    """An evaluation smell: something a reader must know before believing the numbers."""

    code: str
    kind: Literal["doubt", "note"] = "note"
    """A doubt keeps the entry from being ranked; see doubts.py, which says which are."""
    attack: str | None = None
    sentence: str
    """What it means and what to do about it."""
    evidence: dict[str, JsonValue]


class TransferCell(_Model):
    """How one source's images of one attack do against one victim."""

    source: str
    victim: str
    attack: str
    any_label: Measure
    same_label: Measure


class BareResult(_Model):
    """The model without its defenses, on the same seeds."""

    scores: Scores
    tau: float | None
    rows: dict[str, RowResult]
    attacks: dict[str, AttackResult]
    controls: dict[str, AttackResult]
    seen: Seen
    flags: list[Flag]


class Provenance(_Model):
    """Where, when and with what."""

    versions: dict[str, str]
    device: str
    backend: str
    commit: str | None
    dirty: bool | None
    source_digest: str
    """sha256 of those of foolbench's own source files that can move a number of a record."""
    started: str
    """ISO 8601, UTC."""
    seconds: float
    seeds: dict[str, JsonValue]
    workers: int | None = None
    batch: int | None = None
    """The most images that went through the network at once, in the end, where memory or the user allowed fewer than
    the battery's batch, in this run or in one that finished shards were taken from; it moves the last bits of
    float32."""
    host: dict[str, JsonValue] = Field(default_factory=dict)


class Record(_Model):
    """One submission on one battery."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    battery: BatteryRef
    submission: dict[str, Any]
    """As given."""
    digest: str
    """sha256 of the submission: its text's meaning and every file it names."""
    scores: Scores
    tau: float | None
    """The confidence that a fooling image must reach; null when the victim gets no clean image right."""
    rows: dict[str, RowResult]
    """The ranked rows that were measured or tried, by name."""
    attacks: dict[str, AttackResult]
    controls: dict[str, AttackResult]
    bare: BareResult | None
    difference: dict[str, Measure] | None
    """Paired, this victim minus the bare model: `clean_accuracy`, `robust_score`, `survival_score`, and each row's
    endurance."""
    transfer: list[TransferCell] | None
    transfer_reason: str | None = None
    seen: Seen
    flags: list[Flag]
    certificate: dict[str, JsonValue] | None = None
    """How well the torch copy of the model agrees with the submission's own answers, and its gradients with finite
    differences."""
    rankable: bool
    unranked_reason: str | None = None
    provenance: Provenance
