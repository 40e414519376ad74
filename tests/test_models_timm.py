"""timm models: by name, with all their weights or not at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from foolbench.models.conditions import Conditions
from foolbench.models.loaded import Loaded
from foolbench.models.modules.timm import Architecture, load_timm
from foolbench.models.onnx.check import ModelFileError
from foolbench.models.preprocess import Preprocess
from model_files import CPU, DATA, TABLE, apart, needs_data, pictures, real_images, right_answers, seeded
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_model_data_config

NAME = "test_resnet"
SMALL: dict[str, Any] = {"num_classes": 10, "in_chans": 1}
SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(timm.create_model(NAME, **SMALL).state_dict(), path)
    return path


def load(weights: Path | None, name: str = NAME, **kwargs: Any) -> Loaded:
    where, rest = apart(kwargs, shape=SHAPE, classes=10)
    if "images" not in kwargs:
        where = replace(where, images=pictures(30, where.shape))
    built = SMALL | {key: rest.pop(key) for key in ("num_classes", "in_chans", "args") if key in rest}
    usual: dict[str, Any] = {"preprocess": Preprocess()}
    return load_timm(Architecture(name, **built), where, weights=weights, **(usual | rest))


def test_a_model_answers_as_timm_s_own(weights: Path):
    net = timm.create_model(NAME, **SMALL).eval()
    net.load_state_dict(load_file(weights))
    images = pictures(30, SHAPE)
    loaded = load(weights, preprocess=Preprocess(mean=(0.5,), std=(0.25,)))
    with torch.no_grad():
        expected = net((images - 0.5) / 0.25).softmax(1)
    torch.testing.assert_close(loaded.classifier.probabilities(images, seeded()), expected, atol=1e-5, rtol=0)
    assert loaded.classifier.logits is not None
    torch.testing.assert_close(loaded.classifier.logits(images, seeded()).softmax(1), expected, atol=1e-5, rtol=0)
    assert loaded.certificate.agrees
    assert loaded.backend == "onnxruntime-cpu (exported)"


def test_the_model_s_own_preprocessing_is_the_default(weights: Path):
    net = timm.create_model(NAME, num_classes=10).eval()
    path = weights.with_name("rgb.safetensors")
    save_file(net.state_dict(), path)
    shape = (3, 160, 160)
    images = pictures(4, shape)
    loaded = load(path, in_chans=3, shape=shape, images=images, preprocess=None)
    config = resolve_model_data_config(net)
    assert config["input_size"] == shape
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = net((images - mean) / std).softmax(1)
    torch.testing.assert_close(loaded.classifier.probabilities(images, seeded()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kwargs", "kind", "sentence"),
    [
        ({"name": "resnet81"}, "unsupported", "did you mean resnet"),
        ({"name": "resnet18.no_such_tag"}, "unsupported", "did you mean resnet18"),
        ({"name": "hf-hub:somebody/something"}, "unsupported", "expected a model that timm"),
        ({"args": {"no_such": 1}}, "unsupported", "no_such=1"),
        ({"args": {"checkpoint_path": "evil.pth"}}, "unsupported", "checkpoint_path"),
        ({"args": {"pretrained_cfg": "evil"}}, "unsupported", "pretrained_cfg"),
        ({"num_classes": 11}, "unsupported", "2 of another shape .*fc.weight .10, .* instead of .11"),
        ({"num_classes": 10, "classes": 9}, "classes", "expected 9 numbers"),
        ({"pretrained": True}, "missing", "got both"),
        ({"weights": None}, "missing", "got neither"),
        ({"sha256": "0" * 64}, "sha256", "0000"),
        ({"preprocess": Preprocess(mean=(0.1, 0.2, 0.3))}, "input", "gray and RGB"),
    ],
)
def test_what_cannot_be_built_is_refused(kwargs: dict[str, Any], kind: str, sentence: str, weights: Path):
    with pytest.raises(ModelFileError, match=sentence) as caught:
        load(kwargs.get("weights", weights), **{k: v for k, v in kwargs.items() if k != "weights"})
    assert caught.value.kind == kind


def test_weights_of_another_model_are_listed(weights: Path):
    state = load_file(weights)
    state["extra.weight"] = torch.zeros(1)
    del state["fc.bias"]
    path = weights.with_name("other.safetensors")
    save_file(state, path)
    with pytest.raises(ModelFileError, match=r"1 missing \(fc.bias\); 1 unexpected \(extra.weight\)"):
        load(path)


def test_a_hub_that_cannot_be_reached_is_an_environment_s_fault(monkeypatch: pytest.MonkeyPatch):
    build = timm.create_model

    def offline(name: str, pretrained: bool = False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return build(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match=r"no route to host.*name the file with weights"):
        load(None, pretrained=True)
    with pytest.raises(ModelFileError, match="no_such"):
        load(None, pretrained=True, args={"no_such": 1})


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("row", [pytest.param(r, id=r["timm_model"]) for r in TABLE.get("timm", [])])
def test_real_weights_reach_their_measured_accuracy(row: dict):
    assert DATA is not None
    images, labels = (x[::5] for x in real_images("imagenet"))
    loaded = load_timm(
        Architecture(row["timm_model"], 1000, 3, row["timm_kwargs"]),
        Conditions((3, 256, 256), 1000, CPU, images[:50], seeded()),
        weights=DATA / row["file"],
        sha256=row["sha256"],
        preprocess=Preprocess(size=(224, 224), resize=256, mean=(0.5,), std=(0.5,)),
    )
    assert loaded.certificate.agrees
    # 200 of the 1000 pictures: two standard errors of the share
    share = row["same_224"]["top1"]
    assert abs(right_answers(loaded, images, labels) / 200 - share) < 2 * (share * (1 - share) / 200) ** 0.5
