"""Torch modules, for people who are still training: answers and gradients by one and the same module."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .certificate import Scores, blocks, certify
from .check import ModelFileError
from .head import Head, Output
from .loaded import Loaded, agree, assembled, inferring, refuse_change, taken
from .preprocess import Preprocess
from .runtime import first_line


def from_module(
    module: nn.Module,
    *,
    shape: tuple[int, int, int],
    classes: int,
    preprocess: Preprocess,
    output: Output = "logits",
    reject_index: int | None = None,
    device: torch.device,
    images: Tensor,
    rng: torch.Generator,
) -> Loaded:
    """Turn a torch module into a Classifier.

    A copy is taken, put into eval mode and frozen: training may go on, what is evaluated stays as it was. The module
    is given preprocessed images in the dtype of its first parameter. Arguments as for `load_onnx`.

    Raises:
        ModelFileError: classes, where it gives another number of columns; outputs, where its answers are no tensor,
            not finite, not what `output` says, change from call to call or depend on the other images of the batch.
        RuntimeError: where the module fails on a batch of images.
    """
    head = Head(classes, output, reject_index)
    images = taken(images, shape, device)
    module = copy.deepcopy(module).to(device).eval().requires_grad_(False)
    scores = _scoring(module, head, preprocess.on(shape[0], device))
    with torch.no_grad():
        head.check(torch.cat([scores(block) for block in blocks(images)]))
        some = images[:8]
        together = scores(some)
        refuse_change(together, scores(some))
        if not agree(together, torch.cat([scores(block) for block in some.split(3)])):
            raise ModelFileError(
                "outputs",
                "expected answers to one image that do not depend on the others in its batch, got ones that do",
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

    precise = _precise(module, head, preprocess.on(shape[0], device, torch.float64), images[:1])
    certificate = certify(reference, logits, images, rng, precise=precise)
    probabilities = inferring(logits, classes) if output == "logits" else passed_on
    rejects = reject_index is not None
    whole = assembled(shape, classes, device, probabilities, logits, certificate, rejects=rejects)
    return Loaded(whole, certificate, "torch", reference)


def module_digest(module: nn.Module) -> str:
    """Hex sha256 of a module: its class's qualified name, its printed structure, and its state_dict's bytes.

    What neither shows, such as the code of `forward` or a plain attribute, does not count.
    """
    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}\n{module!r}\n".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _scoring(module: nn.Module, head: Head, prepare: Callable[[Tensor], Tensor]) -> Scores:
    dtype = next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), None)

    def scores(images: Tensor) -> Tensor:
        prepared = prepare(images)
        try:
            raw = module(prepared if dtype is None else prepared.to(dtype))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever somebody's own code raises
            raise RuntimeError(
                f"expected the module to answer images {tuple(prepared.shape)}, got {type(error).__name__} "
                f"({first_line(error)}): check size, channels and layout, or mend the module"
            ) from error
        if not isinstance(raw, Tensor):
            raise ModelFileError(
                "outputs", f"expected a tensor from the module, got {type(raw).__name__}", "return the logits alone"
            )
        if raw.numel() != len(images) * head.columns or len(raw) != len(images):
            raise ModelFileError(
                "classes",
                f"expected {head.columns} numbers for each of {len(images)} images, got {tuple(raw.shape)}",
                "take a network for these classes; if one output means none of them, say which with reject_index",
            )
        return head.scores(raw)

    return scores


def _precise(module: nn.Module, head: Head, prepare: Callable[[Tensor], Tensor], image: Tensor) -> Scores | None:
    """Return the logits of a float64 copy, None where the module does not run in it."""
    scores = _scoring(copy.deepcopy(module).double(), head, prepare)
    try:
        with torch.no_grad():
            exact = scores(image.double()).dtype == torch.float64
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # a cast to float32 inside the module
        return None
    return (lambda images: head.logits(scores(images))) if exact else None
