"""Lack of memory while a network or a defense is loaded halves what is asked about at once, and changes no result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from foolbench.bench.asking.clean import examine
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.ground import Execution
from foolbench.bench.errors import EnvironmentFault
from foolbench.bench.evaluation.api import evaluate
from foolbench.bench.evaluation.pipeline import Run
from foolbench.bench.honesty.statements import false_statements
from foolbench.bench.machine.memory import Memory, sparing
from foolbench.bench.probe.probe import probe
from foolbench.bench.submission.submission import read_submission
from foolbench.bench.victim.assemble import Assembled, subject_of
from foolbench.models.backend import compiled
from foolbench.models.certificate import Certificate, certify
from foolbench.models.conditions import Conditions
from foolbench.models.loaded import Loaded
from foolbench.models.memory import NoRoomError, Room
from foolbench.models.modules.module import from_module
from foolbench.models.onnx import image_function
from foolbench.models.onnx.check import ModelFileError
from foolbench.models.onnx.convert import TorchCopy
from foolbench.models.onnx.image_graph import load_image_graph
from foolbench.models.preprocess import Preprocess
from model_files import conv, graph, load, pictures
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from planted import CPU, battery, classifier, ground, halves, left_or_right, seeded, subject
from small_runs import SUBMISSION, changed, submit
from torch import Tensor, nn

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
CPU_ALLOCATOR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
ORT = Fail(
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'z_nchwc' Status "
    "Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* "
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
    "Failed to allocate memory for requested buffer of size 822083584"
)


class Hungry(nn.Module):
    """Tells left from right, `most` images at a time; with gradients or in float64, half as many."""

    def __init__(self, most: int, error: Exception = CUDA):
        super().__init__()
        self.net, self.most, self.error = left_or_right(), most, error

    def forward(self, images: Tensor) -> Tensor:
        dear = images.dtype == torch.float64 or (torch.is_grad_enabled() and images.requires_grad)
        if len(images) > (self.most // 2 if dear else self.most):
            raise self.error
        return self.net(images)


def loaded(module: nn.Module, room: Room) -> Loaded:
    return from_module(module, conditions(room), preprocess=Preprocess())


def conditions(room: Room, **changes: Any) -> Conditions:
    return replace(Conditions((1, 8, 8), 2, CPU, pictures(40), seeded(), room=room), **changes)


def about(certificate: Certificate) -> dict[str, Any]:
    """Its numbers, to within rounding."""
    return {k: pytest.approx(v, abs=1e-6) if isinstance(v, float) else v for k, v in certificate.as_json().items()}


@pytest.mark.parametrize("error", [CUDA, CPU_ALLOCATOR, MemoryError(), RuntimeError("could not execute a primitive")])
def test_a_module_is_certified_as_with_room_for_all(error: Exception):
    room = Room()
    found, whole = loaded(Hungry(7, error), room), loaded(Hungry(1000), Room())
    # 40 images, then 20, 10 and 5 for answers; of 3 the gradient fits.
    assert room.limit == 3
    assert found.certificate.agrees
    assert found.certificate.gradient_precision == "float64"
    assert found.certificate.as_json() == about(whole.certificate)


def test_a_certificate_draws_the_same_whatever_fits():
    """How wrong a gradient looks depends on the directions, of most networks by far more than on rounding."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Sigmoid(), nn.Linear(10, 3)).requires_grad_(False)

    def copy(images: Tensor) -> Tensor:
        wrong = (9 * images).sin().flatten(1)[:, :3]
        return net(images) + wrong - wrong.detach()

    whole, limited, other = (
        certify(net, copy, pictures(40), seeded(seed), room=Room(limit)).gradient_error
        for seed, limit in ((0, None), (0, 3), (1, None))
    )
    assert limited == pytest.approx(whole, rel=1e-4)
    assert other != pytest.approx(whole, rel=2e-3)


def test_one_image_that_does_not_fit_is_no_fault_of_the_module():
    with pytest.raises(NoRoomError, match="can't allocate memory"):
        loaded(Hungry(1, CPU_ALLOCATOR), Room())
    with pytest.raises(RuntimeError, match="check size, channels and layout"):
        loaded(Hungry(1, RuntimeError("mat1 and mat2 shapes cannot be multiplied")), Room())


class Mixing(nn.Module):
    """Its answer to an image depends on the others beside it."""

    def forward(self, images: Tensor) -> Tensor:
        answers = left_or_right()(images)
        return answers - 0.5 * answers.mean(0)


@pytest.mark.parametrize("limit", [None, 4, 3, 2])
def test_answers_that_depend_on_the_batch_are_refused_in_any_room_for_two(limit: int | None):
    with pytest.raises(ModelFileError, match="do not depend on the others"):
        loaded(Mixing(), Room(limit))


def stingy(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """ONNX Runtime with memory for `most` images."""
    asked: list[int] = []
    run = onnxruntime.InferenceSession.run

    def limited(self: Any, outputs: Any, feeds: dict[str, Any]) -> Any:
        asked.append(max(len(array) for array in feeds.values()))
        if asked[-1] > most:
            raise ORT
        return run(self, outputs, feeds)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", limited)
    return asked


def test_a_file_still_takes_any_batch_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = load(conv(), tmp_path)
    asked, room = stingy(monkeypatch, 7), Room()
    found = load(conv(), tmp_path, room=room)
    assert room.limit == 4  # of 32 images for the trial
    assert (found.backend, found.certificate.as_json()) == (whole.backend, about(whole.certificate))
    del asked[:]
    found.classifier.probabilities(pictures(7), seeded())
    assert asked == [7]  # not one by one


def test_what_is_compiled_halves_with_the_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", lambda scores, dynamic: scores)
    room = Room()
    where = conditions(room, batch=64)
    answer, images = compiled(Hungry(20), left_or_right(), where), where.images
    assert room.limit == 16
    assert torch.equal(answer(images), left_or_right()(images))
    assert compiled(Hungry(20), left_or_right(), conditions(Room(12), batch=64))(images).shape == (40, 2)


def test_lack_of_memory_takes_no_gradient_from_a_graph_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "same.onnx"
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path.write_bytes(graph(nodes, {}, output=("N", 1, 8, 8)).SerializeToString())

    def copy(*_: object) -> TorchCopy:
        def run(images: Tensor) -> Tensor:
            if len(images) > 5:
                raise CPU_ALLOCATOR
            return images * 1

        return TorchCopy(run, None, "logits")

    monkeypatch.setattr(image_function, "torch_copy", copy)
    room = Room()
    made = load_image_graph(path, conditions(room), preprocess=Preprocess())
    assert made.differentiable is not None
    assert room.limit == 4


def test_a_defense_is_fitted_in_as_many_images_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = submit(tmp_path, submission=changed(SUBMISSION, defenses=[{"kind": "max_softmax"}]))
    given = read_submission(path)
    chosen = read_battery(given.spec.battery, folder=given.folder)
    images = pictures(7)

    def assembled(memory: Memory) -> Assembled:
        return subject_of(given).assemble(ground(chosen, memory))

    whole = assembled(Memory()).victim.probabilities(images, seeded())
    asked, memory = stingy(monkeypatch, 10), Memory()
    found = assembled(memory)
    assert memory.limit == 10  # of 20 evaluation images
    assert found.bare is not None
    torch.testing.assert_close(found.victim.probabilities(images, seeded()), whole, atol=1e-5, rtol=0)
    del asked[:]
    assembled(Memory(5))
    assert max(asked) == 5


def test_a_run_whose_network_barely_loads_has_the_same_scores(tmp_path: Path):
    chosen = battery(tmp_path / "battery", *halves(40), train=halves(40, seed=1))

    def run(most: int, max_batch: int | None = None) -> Run:
        out = tmp_path / f"{most}-{max_batch}"
        return evaluate(Hungry(most), battery=chosen, out=out, device="cpu", workers=1, max_batch=max_batch)

    whole, halved, limited = run(1000), run(7), run(7, max_batch=3)
    assert not whole.failures | halved.failures | limited.failures
    assert [each.record.provenance.batch for each in (whole, halved, limited)] == [None, 3, 3]
    assert whole.record.scores == halved.record.scores == limited.record.scores


def test_what_a_victim_states_is_checked_in_as_many_images_as_fit(tmp_path: Path):
    chosen = battery(tmp_path / "battery", *halves(40), train=halves(40, seed=1))
    net, memory = Hungry(24), Memory()
    on = ground(chosen, memory)
    victim = sparing(classifier(net, (1, 8, 8), 2, noise=0.5), memory)
    clean = examine(victim, on)
    assert memory.limit == 10  # and it is checked on 16 images
    net.error = AssertionError("asked for more than fit")
    assert false_statements(victim, clean, on, certified=False) == ()


def test_a_probe_of_a_network_without_room_for_an_image_says_so(tmp_path: Path):
    chosen = battery(tmp_path / "battery", *halves(40), train=halves(40, seed=1))
    with pytest.raises(EnvironmentFault, match=r"FB403.* one image at a time"):
        probe(subject(classifier(Hungry(0), (1, 8, 8), 2)), chosen, Execution("cpu"), images=4)
