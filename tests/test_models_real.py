"""The networks of the folder of real data answer as their source states."""

from pathlib import Path

import pytest
import torch
from foolbench.models.conditions import Conditions
from foolbench.models.onnx.load import load_onnx
from model_files import (
    CPU,
    DATA,
    TABLE,
    needs_data,
    real_images,
    real_preprocess,
    right_answers,
    seeded,
)

# third-party networks


def rows(dataset: str) -> list:
    return [pytest.param(row, id=Path(row["file"]).stem) for row in TABLE.get("onnx", []) if row["dataset"] == dataset]


def load_real(row: dict, images: torch.Tensor, classes: int):
    assert DATA is not None
    _, c, h, w = images.shape
    return load_onnx(
        DATA / row["file"],
        Conditions((c, h, w), classes, CPU, images[:200], seeded()),
        preprocess=real_preprocess(row),
        output=row["outputs"],
        sha256=row["sha256"],
    )


@needs_data
@pytest.mark.parametrize("row", rows("mnist") + rows("cifar10"))
def test_real_networks_run_as_they_are(row: dict):
    images, labels = real_images(row["dataset"])
    loaded = load_real(row, images, 10)
    assert loaded.certificate.agrees, loaded.certificate
    assert (loaded.certificate.gradient_error or 0) < 0.01
    stated = row["top1"]["test1000"] if isinstance(row["top1"], dict) else row["top1"]
    assert right_answers(loaded, images, labels) == round(stated * len(images))
    assert loaded.classifier.logits is not None
    some = images[:50]
    soft = loaded.classifier.logits(some, seeded()).softmax(1)
    torch.testing.assert_close(soft, loaded.classifier.probabilities(some, seeded()), atol=1e-4, rtol=0)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("row", rows("imagenet"))
def test_real_imagenet_networks_run_as_they_are(row: dict):
    """Crops of resized crops differ by a gray level from resized ones, so a few near-ties may turn."""
    images, labels = real_images("imagenet")
    loaded = load_real(row, images, 1000)
    assert loaded.certificate.agrees, loaded.certificate
    assert abs(right_answers(loaded, images, labels) - round(1000 * row["top1"])) <= 10
