"""ONNX files: answers through ONNX Runtime, gradients through a certified torch copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..answers import value_of
from ..backend import compiled, refuse_backend
from ..certificate import LOGIT_TOLERANCE, AtLevels, Certificate, Scorer, certify
from ..conditions import Conditions
from ..head import Head, Output
from ..loaded import Loaded, assembled, inferring, taken
from ..memory import out_of_memory
from ..preprocess import Preprocess
from .check import checked_onnx
from .convert import NoCopyError, TorchCopy, torch_copy
from .graph import with_one_output
from .opened import Opened, open_file, open_on_cuda
from .ports import ANY, Names, input_port
from .runtime import Raw, answering, first_line, in_batches_of, open_session

TRIAL_IMAGES = 32
"""How many images a graph with its batch size opened is compared on with the file as it is."""
FLOOR = -13.8
"""Probabilities are compared down to this logarithm, a millionth: float32 sums leave no digits below."""
ROUNDED_TOLERANCE = 0.25
"""How far logits of a copy whose roundings are left out may differ, as a share of their spread. It only keeps out a
copy of another function: what the copy is good for, its gradient, is held to the file's own answers. Measured:
0.004 to 0.006 for networks quantised to 8 bits."""
HALF_TOLERANCE = 2e-2
"""How far logits may differ where the network computes in float16, as a share of their spread."""

Feeds = Callable[[torch.dtype], Callable[[Tensor], Tensor]]


def load_onnx(
    path: Path,
    conditions: Conditions,
    *,
    preprocess: Preprocess,
    output: Output,
    reject_index: int | None = None,
    names: Names = ANY,
    sha256: str | None = None,
) -> Loaded:
    """Load an ONNX file as a Classifier.

    Answers come, unless a backend is named, from ONNX Runtime on the CPU; on a CUDA device from the torch copy if its
    logits are certified, else from ONNX Runtime there. Gradients always come from the torch copy (onnx2fx), and only
    if it is certified; of a network that rounds from a float copy whose roundings are passed straight through, and
    `surrogates` says so. Where the output is probabilities made by a final Softmax, they come from before that Softmax,
    so that its saturation hides nothing.

    A batch size written into the file is opened; the result is compared on real images with the file as it is, and
    where it disagrees the file runs in its own batch size: right, but slow.

    Args:
        path: the file.
        conditions: what it is loaded for.
        preprocess: what the network expects of `[0, 1]` pixels.
        output: what the network puts out.
        reject_index: the output column that means "none of the classes", if there is one.
        names: which input and which output, where there are several.
        sha256: the file's digest, checked where given.

    Raises:
        ModelFileError: for whatever is wrong with the file or with what was declared of it, each with its fix; backend,
            where the one that was named cannot answer for it.
        RuntimeError: where the network fails while it runs.
        NoRoomError: where memory does not suffice for one image; what else raises for lack of memory, such as torch's
            OutOfMemoryError, where it does not for the network itself.
    """
    shape, device, room = conditions.shape, conditions.device, conditions.room
    model = checked_onnx(path, sha256)
    head = Head(conditions.classes, output, reject_index)
    conditions = replace(conditions, images=taken(conditions))
    images = conditions.images
    port = input_port(model, names.input, preprocess, shape)

    def feeding(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        prepare = preprocess.on(shape[0], device, dtype)
        return lambda images: port.shaped(prepare(images))

    feed = feeding(torch.float32)
    with torch.no_grad():
        trial = feed(images[:TRIAL_IMAGES] if len(images) > 1 else images.expand(2, *shape))
        opened = open_file(model, path.parent, port, head, names.output, trial, room)
        head.check(torch.cat(room.in_blocks(images, lambda block: head.scores(opened.run(feed(block))))))

    def answers(run: Raw) -> Scorer:
        @torch.no_grad()
        def probabilities(images: Tensor) -> Tensor:
            return head.probabilities(head.scores(run(feed(images))))

        return probabilities

    @torch.no_grad()
    def reference(images: Tensor) -> Tensor:
        return head.logits(head.scores(opened.as_it_is(feed(images))))

    logits, certificate = _differentiable(opened, head, feeding, trial, reference, conditions)
    # A straight-through copy gives gradients alone: its logits are not those of the file.
    certified = None if certificate.mismatch or certificate.straight_through else logits

    def by_onnxruntime() -> tuple[str, Scorer] | None:
        if device.type == "cpu":
            return "onnxruntime-cpu", answers(opened.run)
        on_cuda = open_on_cuda(opened, head, trial, device, room)
        return None if on_cuda is None else ("onnxruntime-cuda", answers(on_cuda))

    named, probabilities = "onnxruntime-cpu", answers(opened.run)  # what always works: tensors are moved to it and back
    backend = conditions.backend
    if backend in ("torch", "compiled"):
        if certified is None:
            raise refuse_backend(backend, f"no torch copy that may speak for it: {certificate.reason}")
        named, torch_answers = "torch (onnx2fx)", certified
        if backend == "compiled":
            named, torch_answers = "torch (compiled)", compiled(certified, reference, conditions)
        probabilities = inferring(torch_answers, head.classes)
    elif backend == "auto" and device.type == "cuda" and certified is not None:
        named, probabilities = "torch (onnx2fx)", inferring(certified, head.classes)
    elif (found := by_onnxruntime()) is not None:
        named, probabilities = found
    elif backend == "onnxruntime":
        raise refuse_backend(backend, "no CUDA provider in ONNX Runtime here, or other answers from it")
    whole = assembled(conditions, head, probabilities, logits, certificate)
    return Loaded(whole, certificate, named, reference)


def _differentiable(
    opened: Opened,
    head: Head,
    feeding: Feeds,
    trial: Tensor,
    reference: Scorer,
    conditions: Conditions,
) -> tuple[Scorer | None, Certificate]:
    """Make the torch copy and certify it; where that fails of a network that rounds, a float copy of it."""
    logits, certificate = _tried(opened, head, feeding, trial, reference, conditions, floats=False)
    if certificate.agrees:
        return logits, certificate
    passed, straight = _tried(opened, head, feeding, trial, reference, conditions, floats=True)
    if passed is None or not straight.agrees:
        return logits, certificate

    def valued(images: Tensor) -> Tensor:
        """What the file answers, with the gradient of the float copy."""
        return value_of(passed(images), reference(images.detach()))

    return valued, replace(straight, straight_through=True, mismatch=certificate.mismatch, reason=certificate.reason)


def _tried(
    opened: Opened,
    head: Head,
    feeding: Feeds,
    trial: Tensor,
    reference: Scorer,
    conditions: Conditions,
    *,
    floats: bool,
) -> tuple[Scorer | None, Certificate]:
    """One copy, exact or in floats, and its certificate."""
    dtype = opened.port.dtype
    try:
        copied = torch_copy(opened, head.output, trial[:1], conditions.room, floats=floats)
    except NoCopyError as error:
        return None, Certificate(agrees=False, reason=str(error))
    copied_head = replace(head, output=copied.output)

    def scores(run: Raw, dtype: torch.dtype) -> Scorer:
        run = in_batches_of(opened.batch, run) if opened.batch else run
        feed = feeding(dtype)
        return lambda images: copied_head.logits(copied_head.scores(run(feed(images)))).to(dtype)

    logits = scores(copied.run, torch.float32)
    tolerance = HALF_TOLERANCE if dtype == torch.float16 else LOGIT_TOLERANCE
    try:
        certificate = certify(
            reference,
            logits,
            conditions.images,
            conditions.rng,
            room=conditions.room,
            precise=None if copied.precise is None else scores(copied.precise, torch.float64),
            rejects=head.reject_index is not None,
            floor=FLOOR if head.output == "probabilities" else None,
            logit_tolerance=ROUNDED_TOLERANCE if floats else tolerance,
            levels=AtLevels(
                # A rounding's own steps show at the smallest: what is left out there is left out of the copy too.
                conditions.steps[-1:] if floats else conditions.steps,
                _before_softmax(opened, copied, copied_head, feeding(torch.float32)),
                saturates=copied.output == "probabilities",
            ),
        )
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = f"the torch copy fails on real images ({first_line(error)})"
        return None, Certificate(agrees=False, reason=reason)
    return logits, certificate


def _before_softmax(opened: Opened, copied: TorchCopy, head: Head, feed: Callable[[Tensor], Tensor]) -> Scorer | None:
    """The file's own logits, where it gives probabilities that its last node makes of them: those do not saturate."""
    if copied.cut is None:
        return None
    raw = answering(
        open_session(with_one_output(opened.model, copied.cut), opened.folder, opened.port.name, opened.port.dtype),
        copied.cut,
    )
    run = in_batches_of(opened.batch, raw) if opened.batch else raw

    @torch.no_grad()
    def answers(images: Tensor) -> Tensor:
        return head.logits(head.scores(run(feed(images))))

    return answers
