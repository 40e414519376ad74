"""Torch modules, for people who are still training: answers and gradients by one and the same module."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...bench.errors import Failed, one_line
from ..backend import check_backend, compiled, refuse_backend, tried
from ..certificate import AtLevels, Scorer, certify
from ..conditions import Conditions
from ..head import Head, Output
from ..loaded import Loaded, agree, assembled, inferring, refuse_change, taken
from ..memory import Room, out_of_memory
from ..onnx.check import ModelFileError
from ..onnx.runtime import Raw
from ..preprocess import Preprocess
from .exported import exported


def from_module(
    module: nn.Module,
    conditions: Conditions,
    *,
    preprocess: Preprocess,
    output: Output = "logits",
    reject_index: int | None = None,
    export: bool = False,
) -> Loaded:
    """Turn a torch module into a Classifier.

    A copy is taken, put into eval mode and frozen: training may go on, what is evaluated stays as it was. The module
    is given preprocessed images in the dtype of its first parameter. Gradients are always its own. Arguments as for
    `load_onnx`, and `export`: whether backend `auto` means ONNX Runtime on the CPU, where torch can export the module
    and the export agrees with it.

    Raises:
        ModelFileError: classes, where it gives another number of columns; outputs, where its answers are no tensor,
            not finite, not what `output` says, change from call to call or depend on the other images of the batch;
            backend, where the one that was named cannot answer for it.
        RuntimeError: where the module fails on a batch of images.
        NoRoomError: see `load_onnx`.
    """
    shape, device, room = conditions.shape, conditions.device, conditions.room
    head = Head(conditions.classes, output, reject_index)
    conditions = replace(conditions, images=taken(conditions))
    images = conditions.images
    module = copy.deepcopy(module).to(device).eval().requires_grad_(False)
    scores = _scoring(module, head, preprocess.on(shape[0], device))
    with torch.no_grad():
        head.check(torch.cat(room.in_blocks(images, scores)))
        some = images[:8]
        together = room.answered(some, scores)
        refuse_change(together, room.answered(some, scores))
        # Other images beside each: fewer than fit, for as long as more than one does.
        apart = max(1, min(3, room.at_once(len(some)) - 1))
        if not agree(together, torch.cat([scores(part) for part in some.split(apart)])):
            raise ModelFileError(
                "outputs",
                "answers to one image that do not depend on the others in its batch",
                "ones that do",
                "normalise with running statistics (eval mode), not with those of the batch",
            )

    def logits(images: Tensor) -> Tensor:
        return head.logits(scores(images)).float()

    @torch.no_grad()
    def reference(images: Tensor) -> Tensor:
        return logits(images)

    @torch.no_grad()
    def passed_on(images: Tensor) -> Tensor:
        return head.probabilities(scores(images))

    precise = _precise(module, head, preprocess.on(shape[0], device, torch.float64), images[:1], room)
    certificate = certify(
        reference,
        logits,
        images,
        conditions.rng,
        room=room,
        precise=precise,
        rejects=reject_index is not None,
        levels=AtLevels(conditions.steps, saturates=output == "probabilities"),
    )

    def through(raw: Raw) -> Scorer:
        dtype, prepare = _dtype(module), preprocess.on(shape[0], device)

        def answered(images: Tensor) -> Tensor:
            prepared = prepare(images)
            return head.logits(head.scores(raw(prepared if dtype is None else prepared.to(dtype)))).float()

        return answered

    def by_onnxruntime() -> Scorer:
        if device.type != "cpu":
            raise refuse_backend("onnxruntime", "a torch module, which is exported for the CPU only")
        some = preprocess.on(shape[0], device)(images[:2].expand(2, *shape))
        answered = through(exported(module, some.to(_dtype(module) or some.dtype)))
        check_backend("onnxruntime", answered, reference, images, room)
        return answered

    backend = conditions.backend
    named, answering = "torch", logits
    if backend == "compiled":
        named, answering = "torch (compiled)", compiled(logits, reference, conditions)
    elif backend == "onnxruntime" or (backend == "auto" and export and device.type == "cpu"):
        try:
            named, answering = "onnxruntime-cpu (exported)", tried("onnxruntime", by_onnxruntime)
        except ModelFileError:
            if backend != "auto":
                raise
    probabilities = inferring(answering, head.classes) if output == "logits" or answering is not logits else passed_on
    whole = assembled(conditions, head, probabilities, logits, certificate)
    return Loaded(whole, certificate, named, reference)


def module_digest(module: nn.Module) -> str:
    """Hex sha256 of a module: its class's qualified name, its printed structure, and its state_dict's bytes.

    What neither shows, such as the code of `forward` or a plain attribute, does not count.
    """
    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}\n{module!r}\n".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _scoring(module: nn.Module, head: Head, prepare: Callable[[Tensor], Tensor]) -> Scorer:
    dtype = _dtype(module)

    def scores(images: Tensor) -> Tensor:
        prepared = prepare(images)
        try:
            raw = module(prepared if dtype is None else prepared.to(dtype))
        except Exception as error:  # whatever somebody's own code raises
            if out_of_memory(error):
                raise
            raise Failed(
                f"the module to answer images {tuple(prepared.shape)}",
                one_line(error),
                "check size, channels and layout, or mend the module",
            ) from error
        if not isinstance(raw, Tensor):
            raise ModelFileError("outputs", "a tensor from the module", type(raw).__name__, "return the logits alone")
        if raw.numel() != len(images) * head.columns or len(raw) != len(images):
            raise ModelFileError(
                "classes",
                f"{head.columns} numbers for each of {len(images)} images",
                tuple(raw.shape),
                "take a network for these classes; if one output means none of them, say which with reject_index",
            )
        return head.scores(raw)

    return scores


def _dtype(module: nn.Module) -> torch.dtype | None:
    """What it computes in: its first parameter's; None where it has none."""
    return next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), None)


def _precise(
    module: nn.Module, head: Head, prepare: Callable[[Tensor], Tensor], image: Tensor, room: Room
) -> Scorer | None:
    """Return the logits of a float64 copy, None where the module does not run in it."""
    scores = _scoring(copy.deepcopy(module).double(), head, prepare)
    try:
        with torch.no_grad():
            exact = room.answered(image.double(), scores).dtype == torch.float64
    except RuntimeError as error:  # a cast to float32 inside the module
        if out_of_memory(error):
            raise
        return None
    return (lambda images: head.logits(scores(images))) if exact else None
