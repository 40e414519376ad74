"""Lack of memory halves the batch; the run goes on, and the record says so."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from foolbench.bench.asking.out_of_distribution import twice
from foolbench.bench.battery.ground import Asking, Execution
from foolbench.bench.evaluation import attack_panel as panel_evidence
from foolbench.bench.evaluation import pipeline
from foolbench.bench.evaluation.pipeline import Run, evaluate_subject
from foolbench.bench.machine.memory import Memory, sparing
from foolbench.bench.machine.npz import packed
from foolbench.bench.probe.files import write_probe
from foolbench.bench.probe.probe import probe
from foolbench.bench.running.shards import load_shard
from foolbench.leaderboard.record.store import RunFolder
from foolbench.models.base import Classifier
from foolbench.models.memory import out_of_memory
from planted import CPU, battery, classifier, halves, left_or_right, linear_onnx, seeded, small, subject, timeless
from torch import Tensor, nn


def hungry(most: int, asked: list[int], error: Exception) -> Classifier:
    """Answers no more than `most` images at once."""

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        asked.append(len(images))
        if len(images) > most:
            raise error
        return images.flatten(1)[:, :2].softmax(1)

    return Classifier((1, 2, 2), 2, CPU, probabilities, probabilities)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes"),
    RuntimeError("Failed to allocate memory for requested buffer of size 99"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("could not create a primitive"),
    RuntimeError("could not execute a primitive"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_the_batch_halves_until_it_fits_and_stays_there(error: Exception):
    asked: list[int] = []
    victim, memory = hungry(12, asked, error), Memory()
    images = torch.rand(100, 1, 2, 2, generator=seeded())
    answers = sparing(victim, memory).probabilities(images, seeded())
    assert torch.equal(answers, images.flatten(1)[:, :2].softmax(1))
    assert asked[:4] == [100, 50, 25, 13]
    assert memory.limit == 7
    del asked[:]
    sparing(victim, memory).probabilities(images, seeded())
    assert max(asked) == 7


def test_two_answers_are_compared_in_batches_of_one_size():
    """Where memory runs out between them, an honest network whose last bits depend on the batch is asked again."""
    room = iter([40])

    def probabilities(images: Tensor, rng: torch.Generator) -> Tensor:
        if len(images) > next(room, 10):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return torch.tensor([[0.5, 0.5 - 1e-5 * len(images)]]).expand(len(images), 2)

    memory, images = Memory(), torch.rand(40, 1, 2, 2)
    victim = sparing(Classifier((1, 2, 2), 2, CPU, probabilities, None), memory)
    first, second = twice(victim, images, seeded(), Asking(64), memory)
    assert memory.limit == 10
    assert torch.equal(first, second)


def test_other_errors_are_not_taken_for_it_and_one_image_is_the_end():
    assert not out_of_memory(RuntimeError("shapes do not match"))
    victim = sparing(hungry(0, [], MemoryError()), Memory())
    with pytest.raises(MemoryError):
        victim.probabilities(torch.rand(8, 1, 2, 2), seeded())


class Hungry(nn.Module):
    """Tells left from right, but no more than `most` images at a time; with gradients, half as many."""

    def __init__(self, most: int):
        super().__init__()
        self.net, self.most = left_or_right(), most

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > (self.most // 2 if torch.is_grad_enabled() and images.requires_grad else self.most):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.net(images)


def test_a_run_goes_on_in_smaller_batches_and_says_so(tmp_path: Path):
    images, labels = halves(40)
    chosen = battery(tmp_path / "battery", images, labels, train=halves(40, seed=1))

    def measured(most: int, max_batch: int | None = None) -> Run:
        victim = classifier(Hungry(most), (1, 8, 8), 2)
        execution = Execution(workers=1, max_batch=max_batch)
        return evaluate_subject(subject(victim), chosen, execution, out=tmp_path / f"{most}-{max_batch}")

    whole, halved, limited = measured(1000), measured(40), measured(1000, max_batch=13)
    assert not whole.failures | halved.failures
    # A batch of 64 halves once for answers, and once more for gradients.
    assert [run.record.provenance.batch for run in (whole, halved, limited)] == [None, 16, 13]
    scores = [run.record.scores.model_dump() for run in (whole, halved, limited)]
    assert scores[0] == scores[1] == scores[2]


def test_a_resumed_run_says_in_what_batches_its_finished_shards_were_answered(tmp_path: Path):
    chosen = battery(tmp_path / "battery", *halves(40), train=halves(40, seed=1))
    folder = tmp_path / "run"

    def batch(most: int) -> int | None:
        victim = classifier(Hungry(most), (1, 8, 8), 2)
        return evaluate_subject(subject(victim), chosen, Execution(workers=1), out=folder).record.provenance.batch

    def kept() -> dict[Path, int]:
        found = {path: load_shard(path) for path in (folder / "shards").iterdir()}
        return {path: int(shard.batch) for path, shard in found.items() if shard is not None}

    assert batch(40) == 16
    record = timeless(RunFolder(folder).record)
    before = {path: path.read_bytes() for path in kept()}
    assert set(kept().values()) == {16}
    assert batch(1000) == 16
    assert timeless(RunFolder(folder).record) == record
    assert {path: path.read_bytes() for path in kept()} == before
    # What is worked on again has room for more, whatever the others were answered in.
    first, second = sorted(before)[:2]
    first.unlink()
    assert batch(64) == 16  # the gradients of 40 images do not fit, and those of 20 do
    assert [kept()[first], kept()[second]] == [20, 16]
    for path, size in kept().items():
        if size == 16:
            path.unlink()
    assert batch(1000) == 20
    assert [kept()[first], kept()[second]] == [20, 64]
    # Shards from before the batch was kept say nothing of it, and are taken all the same.
    for path in kept():
        with np.load(path) as arrays:
            path.write_bytes(packed({name: arrays[name] for name in arrays.files if name != "batch"}))
    before = {path: path.read_bytes() for path in before}
    assert batch(1000) is None
    assert {path: path.read_bytes() for path in before} == before


def test_a_probe_goes_on_in_smaller_batches_and_says_so(tmp_path: Path):
    chosen = battery(tmp_path / "battery", *halves(40), train=halves(40, seed=1))
    whole, halved, limited = (
        probe(subject(classifier(Hungry(most), (1, 8, 8), 2)), chosen, Execution("cpu", max_batch=max_batch), images=4)
        for most, max_batch in ((1000, None), (40, None), (1000, 13))
    )
    # A batch of 64 images does not fit, nor do the 40 evaluation images where only 13 may be asked about.
    batches = [write_probe(found, tmp_path / str(found.batch)).batch for found in (whole, halved, limited)]
    assert batches == [None, 32, 13]
    for found in (halved, limited):
        assert np.array_equal(found.rows, whole.rows)
        np.testing.assert_allclose(found.properties.local_map, whole.properties.local_map, rtol=1e-5)
        np.testing.assert_allclose(found.properties.cumulative, whole.properties.cumulative, rtol=1e-5)


def test_the_panel_is_attacked_and_asked_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The submission has room for a batch; its panel's one model has not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    member = linear_onnx(tmp_path / "battery", "member", left_or_right(gain=4.0))
    attacks = small(fgsm={}, evolution={})
    chosen = battery(
        tmp_path / "battery", *halves(40), train=halves(40, seed=1), attacks=attacks, panel={"models": [member]}
    )

    def measured(most: int) -> Run:
        stingy = Hungry(most)
        stingy.net = left_or_right(gain=4.0)
        model = classifier(stingy, (1, 8, 8), 2)
        monkeypatch.setattr(panel_evidence, "panel_member", lambda *given: SimpleNamespace(classifier=model))
        monkeypatch.setattr(pipeline, "panel_classifier", lambda *given: model)
        victim = subject(classifier(left_or_right(), (1, 8, 8), 2))
        return evaluate_subject(victim, chosen, Execution("cpu", 1), out=tmp_path / f"run-{most}")

    halved = measured(5)  # attacks it, and keeps what came out
    asked = measured(3)  # from there on it is only asked
    assert [run.record.provenance.batch for run in (halved, asked)] == [2, 2]
    cells = [cell for cell in asked.record.transfer or () if cell.source == "submission"]
    assert {cell.victim for cell in cells} == {"member"}
    assert all(cell.any_label.n for cell in cells)
    assert asked.record.transfer == halved.record.transfer
