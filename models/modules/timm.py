"""timm models by name, with weights from a safetensors file or from the hub."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
from safetensors import SafetensorError
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from ...bench.errors import Failed, one_line
from ..conditions import Conditions
from ..head import Output
from ..loaded import Loaded
from ..memory import out_of_memory
from ..onnx.check import ModelFileError, checked_safetensors
from ..preprocess import Preprocess
from .module import from_module

Argument = bool | int | float | str | tuple | list

RESERVED = frozenset(
    (
        *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
        *("scriptable", "exportable", "no_jit", "features_only", "num_classes", "in_chans"),
    )
)
"""Arguments of timm that would read other files (pickles among them), give no classes, or have a key of their own."""


@dataclass(frozen=True)
class Architecture:
    """A network as timm builds it."""

    name: str
    """timm's name, with a tag where the hub's weights are to be particular ones (`resnet18.a1_in1k`)."""
    num_classes: int
    """The model's outputs, the rejecting one counted."""
    in_chans: int
    """The model's input channels."""
    args: Mapping[str, Argument] = field(default_factory=dict)
    """More arguments of the model, numbers and words only, such as `pad_type: same`."""

    @property
    def wanted(self) -> dict[str, Any]:
        """What timm's constructor is given beside the name."""
        return {"num_classes": self.num_classes, "in_chans": self.in_chans, **self.args}


def load_timm(
    network: Architecture,
    conditions: Conditions,
    *,
    weights: Path | None = None,
    pretrained: bool = False,
    sha256: str | None = None,
    preprocess: Preprocess | None = None,
    output: Output = "logits",
    reject_index: int | None = None,
) -> Loaded:
    """Build a timm model and load its weights, exactly all of them.

    Gradients come from the torch module; answers too, or from its export to ONNX Runtime (see models/backend.py).

    Args:
        network: what timm builds.
        conditions: what it is loaded for.
        weights: a safetensors file of the model's state_dict; names and shapes must be the model's own.
        pretrained: take the hub's weights instead, which needs the network the first time.
        sha256: digest of the weights file, checked where given.
        preprocess: None: size, mean, std and interpolation of the model's own configuration in timm. Images are
            scaled straight to that size; where they are to be cropped, say so here.
        output: what the model puts out.
        reject_index: the output that means "none of the classes", if there is one.

    Raises:
        ModelFileError: unknown names and arguments (unsupported); a weights file that is missing, altered, no
            safetensors file or for another model; and what `from_module` raises.
        RuntimeError: where the hub's weights cannot be had.
    """
    _check_name(network.name)
    forbidden = sorted(k for k, v in network.args.items() if k in RESERVED or not isinstance(v, Argument))
    if forbidden:
        raise ModelFileError(
            "unsupported",
            "arguments of the model itself, numbers and words",
            ", ".join(forbidden),
            "leave them out; weights, num_classes and in_chans have keys of their own",
        )
    if (weights is None) == (not pretrained):
        raise ModelFileError(
            "missing",
            "either a weights file or pretrained: true",
            "both" if pretrained else "neither",
            "give one of the two",
        )
    if weights is not None:
        state = _state(weights, sha256)
        module = _built(network)
        _load(module, state, weights)
    else:
        module = _pretrained(network)
    return from_module(
        module,
        conditions,
        preprocess=preprocess or own_preprocess(module),
        output=output,
        reject_index=reject_index,
        export=True,
    )


def own_preprocess(module: nn.Module) -> Preprocess:
    """Return the size, mean, std and interpolation that a timm model's configuration gives."""
    config = resolve_model_data_config(module)
    interpolation = config["interpolation"]
    return Preprocess(
        size=tuple(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation if interpolation in ("bicubic", "nearest") else "bilinear",
    )


def _check_name(name: str) -> None:
    tagged = "." in name
    known = timm.list_pretrained() if tagged else timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(name.split(".")[0], known, n=3)
        raise ModelFileError(
            "unsupported",
            f"a model that timm {timm.__version__} has",
            f"{name!r}",
            f"did you mean {' or '.join(near)}?" if near else "timm.list_models() names them all",
        )


def _built(network: Architecture) -> nn.Module:
    try:
        return timm.create_model(network.name, pretrained=False, **network.wanted)
    except Exception as error:  # whatever the model's constructor raises at arguments it does not take
        if out_of_memory(error):
            raise
        given = ", ".join(f"{k}={v!r}" for k, v in network.wanted.items())
        raise ModelFileError(
            "unsupported",
            f"arguments that timm's {network.name} takes",
            f"{given} ({one_line(error)})",
            "correct or leave out the arguments of the model",
        ) from error


def _pretrained(network: Architecture) -> nn.Module:
    try:
        return timm.create_model(network.name, pretrained=True, **network.wanted)
    except Exception as error:
        if out_of_memory(error):
            raise
        _built(network)  # says so if it is the arguments that are wrong
        raise Failed(
            f"the pretrained weights of {network.name} from the hub",
            one_line(error),
            "connect to the network once, or save the weights as safetensors and name the file with weights",
        ) from error


def _state(path: Path, sha256: str | None) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(checked_safetensors(path, sha256))
    except SafetensorError as error:
        raise ModelFileError(
            "truncated",
            "a whole safetensors file",
            f"{path.name}, which does not parse ({one_line(error)})",
            "copy or save it again, all of it",
        ) from error


def _load(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    # batch norm's counter of training steps, which nothing reads in eval mode, is left out by many
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    wrong = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in found.items()
        if names
    ]
    if wrong:
        raise ModelFileError(
            "unsupported",
            f"the {len(own)} tensors of the model in {path.name}",
            "; ".join(wrong),
            "check the name, num_classes, in_chans and args that the weights were saved with",
        )
    module.load_state_dict({**own, **state})
