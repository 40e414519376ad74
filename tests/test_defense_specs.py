"""Every kind of defense as a submission's YAML: what is read, what is refused and where, and what comes of it."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.errors import FoolbenchError, InvalidInput, ModelFailure
from foolbench.bench.submission.defenses import OnnxDefense, PackageDefense
from foolbench.bench.submission.submission import json_schema, read_submission
from foolbench.bench.victim.assemble import Assembled, subject_of
from foolbench.defenses.randomized_smoothing import fewest_votes
from model_files import graph
from onnx import helper
from planted import ground
from small_runs import BATTERY, SUBMISSION, changed, inside, nearest_mean, one_document, refused, submit

PACKAGE = """\
from dataclasses import replace

def dim(inner, factor=0.5, also=()):
    return replace(inner, probabilities=lambda x, rng: inner.probabilities(x * factor, rng), logits=None,
                   no_gradient="it was left out")

def broken(inner):
    return {}["nothing"]

def other(inner):
    return 3
"""
ENTRIES = "[foolbench.defenses]\ndim = dimmer.made:dim\nbroken = dimmer.made:broken\nother = dimmer.made:other\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one that registers three defenses."""
    site = tmp_path / "site"
    install(site, "foolbench-dimmer", "1.2", ENTRIES + "away = dimmer.gone:away\n")
    (site / "dimmer").mkdir()
    (site / "dimmer" / "__init__.py").touch()
    (site / "dimmer" / "made.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(site)
    return site


def install(site: Path, name: str, version: str, entries: str) -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entries)


def given(folder: Path, *defenses: str, battery: dict[str, Any] = BATTERY) -> Path:
    """A submission with these defenses, a line each."""
    path = submit(folder, battery=battery)
    (folder / "other.onnx").write_bytes(shifted().SerializeToString())
    path.write_text(path.read_text() + "defenses:\n" + "".join(f"  - {{{defense}}}\n" for defense in defenses))
    return path


def shifted():
    """The nearest mean again, made to prefer the class 3."""
    bias = np.zeros(10, np.float32)
    bias[3] = 2
    return nearest_mean([helper.make_node("Add", ["z", "more"], ["y"])], more=bias)


def assembled(path: Path) -> Assembled:
    submission = read_submission(path)
    battery = read_battery(submission.spec.battery, folder=submission.folder)
    return subject_of(submission).assemble(ground(battery))


def answer(whole: Assembled, images: torch.Tensor) -> torch.Tensor:
    return whole.victim.probabilities(images, torch.Generator().manual_seed(0))


def small(classes: int) -> bytes:
    """A network of so many classes."""
    weights = {"w": np.zeros((64, classes), np.float32)}
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    return graph(nodes, weights, output=("N", classes)).SerializeToString()


ENSEMBLE = "kind: ensemble, models: [{path: other.onnx, output: logits}]"
KINDS = [
    ("kind: gaussian_blur, sigma: 1", {"sigma": 1.0}),
    ("kind: total_variation, weight: 0.1", {"weight": 0.1, "iterations": 50}),
    ("kind: random_resize_pad, grow: 2", {"grow": 2}),
    ("kind: gaussian_noise, sigma: 0.05", {"sigma": 0.05}),
    (
        "kind: randomized_smoothing, sigma: 0.1, samples: 30",
        {"sigma": 0.1, "samples": 30, "alpha": 0.001, "gradient_samples": 8},
    ),
    ("kind: pca, components: 20", {"components": 20, "images": 10000}),
    (ENSEMBLE, {}),
]


@pytest.mark.parametrize(("yaml", "meaning"), KINDS, ids=[yaml.split()[1] for yaml, _ in KINDS])
def test_each_kind_is_read_and_built(tmp_path: Path, yaml: str, meaning: dict[str, Any]):
    path = given(tmp_path, yaml)
    spec = read_submission(path).spec.defenses[0]
    assert {**spec.model_dump(), **meaning} == spec.model_dump()
    whole = assembled(path)
    assert whole.bare is not None
    images = read_battery("./battery.yaml", folder=tmp_path).load().pixels(torch.device("cpu"))
    got, bare = answer(whole, images), answer(whole.bare, images)
    assert got.shape == bare.shape
    assert not torch.equal(got, bare)
    assert whole.victim.logits is not None
    assert whole.victim.logits(images, torch.Generator()).shape[1] == 10 + whole.victim.rejects


WRONG = [
    ("kind: gaussian_blur", "FB105 defenses[0].sigma: Expected the key `sigma`, got none. | sigma: 1.0"),
    ("kind: gaussian_blur, sigma: 0.1",
     "FB104 defenses[0].sigma: Expected a number above 0.125, got 0.1. | sigma: 1.0"),
    ("kind: gaussian_noise, sigma: 2", "FB104 defenses[0].sigma: Expected a number of at most 1, got 2. | sigma: 1"),
    ("kind: total_variation, weight: x",
     "FB104 defenses[0].weight: Expected a number, got the text 'x'. | weight: 0.1"),
    ("kind: random_resize_pad, grow: 0", "FB104 defenses[0].grow: Expected a number of at least 1, got 0. | grow: 1"),
    ("kind: randomized_smoothing, sigma: 0.1, samples: 9, alpha: 0.9",
     "FB104 defenses[0].alpha: Expected a number of at most 0.5, got 0.9. | alpha: 0.5"),
    ("kind: pca, component: 3",
     "FB103 defenses[0].component: Expected the key `components`, got the unknown key `component`."),
    ("kind: ensemble, models: []",
     "FB104 defenses[0].models: Expected at least 1 further model, got an empty list. | "),
    ("kind: ensemble, models: [{path: othr.onnx, output: logits}]",
     "FB108 defenses[0].models[0].path: Expected a file, got othr.onnx, which is not there. | did you mean other."),
    ("kind: ensemble, models: [{path: ../x.onnx, output: logits}]",
     "FB109 defenses[0].models[0].path: Expected a path inside the YAML's folder, without `..`, got '../x.onnx'."),
    (f"kind: ensemble, models: [{{path: other.onnx, output: logits, sha256: {'a' * 64}}}]",
     "FB201 defenses[0].models[0].sha256: Expected other.onnx to have the sha256 aaaaaaaaaaaa…"),
    ("kind: package, name: dimm",
     "FB104 defenses[0].name: Expected a defense that an installed package registers, got 'dimm' "
     "(installed: away, broken, dim, other). | name: dim"),
    ("kind: package, name: dim, args: {a: {b: 1}}", "FB104 defenses[0].args.a: Expected"),
]  # fmt: skip


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("yaml", "expected"), WRONG, ids=range(len(WRONG)))
def test_one_mistake_one_problem_on_its_line(tmp_path: Path, yaml: str, expected: str):
    path = given(tmp_path, yaml)
    with pytest.raises(InvalidInput) as caught:
        read_submission(path)
    found = caught.value.problems
    assert [f"{p.code} {p.where.key}: {p.message} | {p.fix}"[: len(expected)] for p in found] == [expected]
    assert found[0].where.source == f"  - {{{yaml}}}"


RANGE = "choose one in that range"
AUTHORS = "look at `args`, or ask its authors"
LATE = [
    ("kind: median, size: 15", {},
     "FB104 Expected size of median to be a whole number from 2 to 8, got 15.", RANGE),
    ("kind: pca, components: 65", {},
     "FB104 Expected components of pca to be a whole number from 1 to 64, got 65.", RANGE),
    ("kind: pca, components: 5", {"data": {"kind": "npz", "path": "test.npz"}, "donors_per_class": 0},
     "FB104 Expected training images to fit this defense to, got none in the battery small.",
     "name some in the battery's `data.train`, or leave this defense out"),
    ("kind: random_resize_pad, grow: 9", {},
     "FB104 Expected grow of random_resize_pad to be a whole number from 1 to 8, got 9.", RANGE),
    ("kind: ensemble, models: [{path: small.onnx, output: logits}]", {},
     "FB207 Expected 10 numbers an image, one for each of 10 classes, got 7 ('y').",
     "take a network for these classes"),
    ("kind: onnx, role: preprocess, path: small.onnx", {},
     "FB207 Expected an image of the same shape as the one put in, 64 numbers, got 7 ('y').",
     "make the graph return an image like the one that it takes"),
    ("kind: onnx, role: preprocess, path: small.onnx, name: zz", {},
     "FB209 Expected an input named 'zz', got 'x'.", "write that as its `name`, or leave `name` out"),
    ("kind: package, name: dim, args: {fctor: 1}", {},
     "FB301 Expected the defense dim to be built, got TypeError: dim() got an unexpected keyword argument 'fctor'",
     AUTHORS),
    ("kind: package, name: broken", {},
     "FB301 Expected the defense broken to be built, got KeyError: 'nothing'.", AUTHORS),
    ("kind: package, name: other", {},
     "FB104 Expected the defense other to return a Classifier, got int.", "return dataclasses.replace(inner, ...)"),
    ("kind: package, name: away", {},
     "FB301 Expected the package foolbench-dimmer to import dimmer.gone:away, got ModuleNotFoundError: No module named",
     "install it again, or ask its authors"),
]  # fmt: skip


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("yaml", "battery", "expected", "fix"), LATE, ids=range(len(LATE)))
def test_what_only_shows_when_it_is_built_is_pinned_to_its_line_too(tmp_path: Path, yaml, battery, expected, fix):
    path = given(tmp_path, "kind: bit_depth, bits: 3", yaml, battery=changed(BATTERY, **battery))
    (tmp_path / "small.onnx").write_bytes(small(7))
    with pytest.raises(FoolbenchError) as caught:
        assembled(path)
    (problem,) = caught.value.problems
    told = f"{problem.code} {problem.message}"
    assert told == expected if expected.endswith(".") else told.startswith(expected)
    assert problem.fix == fix
    at = "defenses[1].models[0]" if "ensemble" in yaml else "defenses[1]"
    assert (problem.where.key, problem.where.source) == (at, f"  - {{{yaml}}}")
    assert isinstance(caught.value, ModelFailure if problem.code == "FB301" else InvalidInput)


def test_all_defenses_that_are_wrong_are_told_at_once_each_on_its_line(tmp_path: Path):
    path = given(tmp_path, "kind: median, size: 15", "kind: pca, components: 5", "kind: random_resize_pad, grow: 9")
    answer = inside("evaluate", path, "--out", tmp_path / "run", "--json")
    first = len(path.read_text().splitlines()) - 2
    assert [(e["code"], e["line"], e["key"], e["got"]) for e in one_document(answer)["errors"]] == [
        ("FB104", first, "defenses[0]", "15"),
        ("FB104", first + 2, "defenses[2]", "9"),
    ]
    assert answer.returncode == 2


def test_all_files_that_are_damaged_are_told_at_once_each_on_its_line(tmp_path: Path):
    path = given(tmp_path, "kind: bit_depth, bits: 3", ENSEMBLE)
    for name in ("model.onnx", "other.onnx"):
        (tmp_path / name).write_bytes(b"<html>")
    answer = inside("evaluate", path, "--out", tmp_path / "run", "--json")
    found = [(e["code"], e["key"], e["got"]) for e in one_document(answer)["errors"]]
    assert found == [
        ("FB202", "model", "a web page in model.onnx"),
        ("FB202", "defenses[1]", "a web page in other.onnx"),
    ]


def test_all_models_of_an_ensemble_that_do_not_fit_are_told_at_once(tmp_path: Path):
    models = ", ".join(f"{{path: {name}.onnx, output: {output}}}" for name, output in OTHERS.items())
    path = given(tmp_path, f"kind: ensemble, models: [{models}]")
    (tmp_path / "few.onnx").write_bytes(small(7))
    (tmp_path / "fewer.onnx").write_bytes(small(3))
    with pytest.raises(InvalidInput) as caught:
        assembled(path)
    assert [(p.code, p.where.key, p.got) for p in caught.value.problems] == [
        ("FB207", "defenses[0].models[0]", "7 ('y')"),
        ("FB208", "defenses[0].models[1]", caught.value.problems[1].got),
        ("FB207", "defenses[0].models[2]", "3 ('y')"),
    ]


OTHERS = {"few": "logits", "other": "probabilities", "fewer": "logits"}


def test_the_command_takes_a_number_wrong_for_this_battery_as_any_wrong_number(tmp_path: Path):
    path = given(tmp_path, "kind: median, size: 15")
    line = len(path.read_text().splitlines())
    message = refused(inside("evaluate", path, "--out", tmp_path / "run"), 2, "FB104")
    assert f"submission.yaml:{line}:5" in message.replace(" ", "")
    assert "Expected size of median to be a whole number from 2 to 8, got 15." in message
    assert f"fix: {RANGE}" in message


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.05, 2.0**-9, 2.0**-10, 0.001, 1e-12])
def test_smoothing_that_could_never_answer_is_refused(tmp_path: Path, alpha: float):
    def smoothing(samples: int) -> Path:
        return given(tmp_path, f"kind: randomized_smoothing, sigma: 0.1, samples: {samples}, alpha: {alpha}")

    fewest = min(n for n in range(1, 60) if 2 * scipy.stats.binom.pmf(n, n, 0.5) <= alpha)
    assert int(fewest_votes(fewest, alpha)[-1]) <= fewest
    assert int(fewest_votes(fewest - 1, alpha)[-1]) > fewest - 1
    assert read_submission(smoothing(fewest)).spec.defenses[0]
    with pytest.raises(InvalidInput) as caught:
        read_submission(smoothing(fewest - 1))
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"Expected at least {fewest} samples at alpha {alpha:g}, got {fewest - 1}, ")
    assert (problem.code, problem.where.key, problem.fix) == ("FB104", "defenses[0].samples", f"samples: {fewest}")


def test_an_ensembles_files_are_its_submissions_and_checked(tmp_path: Path):
    sha256 = hashlib.sha256(shifted().SerializeToString()).hexdigest()
    one = given(tmp_path / "a", ENSEMBLE.replace("logits", f"logits, sha256: {sha256}"))
    assert set(read_submission(one).files()) == {"model.onnx", "other.onnx"}
    path = given(tmp_path / "b", ENSEMBLE)
    before = subject_of(read_submission(path)).digest
    (tmp_path / "b" / "other.onnx").write_bytes(nearest_mean().SerializeToString())
    assert subject_of(read_submission(path)).digest != before


def test_an_ensemble_is_the_mean_of_its_models(tmp_path: Path):
    whole = assembled(given(tmp_path, ENSEMBLE))
    alone = submit(tmp_path / "alone", model=shifted())
    assert whole.bare is not None
    images = torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    expected = (answer(whole.bare, images) + answer(assembled(alone), images)) / 2
    torch.testing.assert_close(answer(whole, images), expected)


def test_an_image_meets_defenses_in_order_beside_what_stands_behind_them(tmp_path: Path):
    squeeze = "kind: bit_depth, bits: 1"
    first, last = (
        assembled(given(tmp_path / name, *order))
        for name, order in (("a", (squeeze, ENSEMBLE)), ("b", (ENSEMBLE, squeeze)))
    )
    images = torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(answer(first, images), answer(first, images.round()))  # all models see squeezed images
    assert not torch.equal(answer(last, images), answer(last, images.round()))  # only the one behind does
    assert first.victim.surrogates == last.victim.surrogates == ("bit_depth",)


def test_an_installed_package_is_used_and_its_version_counts(tmp_path: Path, installed: Path):
    path = given(tmp_path, "kind: package, name: dim, args: {factor: 0.25, also: [1, a]}")
    submission = read_submission(path)
    assert submission.as_given["defenses"] == [
        {"kind": "package", "name": "dim", "args": {"factor": 0.25, "also": [1, "a"]}}
    ]
    assert submission.packages() == {"foolbench-dimmer": "1.2"}
    whole = assembled(path)
    assert whole.bare is not None
    images = torch.rand((5, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(answer(whole, images), answer(whole.bare, images * 0.25))
    assert whole.victim.no_gradient == "it was left out"
    before = submission.digest()
    for file in (old := installed / "foolbench_dimmer-1.2.dist-info").iterdir():
        file.unlink()
    old.rmdir()
    install(installed, "foolbench-dimmer", "1.3", ENTRIES)
    assert read_submission(path).packages() == {"foolbench-dimmer": "1.3"}
    assert read_submission(path).digest() != before
    assert assembled(path).digest != whole.digest
    install(installed, "rival", "0.1", ENTRIES)
    with pytest.raises(InvalidInput, match="Expected one package to register 'dim', got foolbench-dimmer, rival"):
        read_submission(path)


def test_the_package_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).parents[1] / "docs" / "defenses.md").read_text(encoding="utf-8")
    starts = ("```python\n# my_defenses.py\n", "```toml\n", "```yaml\n")
    module, toml, yaml = (text.split(start)[-1].split("```")[0] for start in starts)
    entries = tomllib.loads(toml)["project"]["entry-points"]["foolbench.defenses"]
    install(tmp_path, "gamma", "1", "[foolbench.defenses]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    (tmp_path / "my_defenses.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    path = submit(tmp_path / "run")
    path.write_text(path.read_text() + yaml)
    whole = assembled(path)
    assert whole.bare is not None
    assert whole.victim.logits is not None
    images = torch.rand((5, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(answer(whole, images), answer(whole.bare, images**1.5))


def test_the_command_names_what_is_not_installed_and_lists_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = given(tmp_path, "kind: package, name: dim")
    line = len(path.read_text().splitlines())
    message = refused(inside("validate", path), 2, "FB104")
    assert f"submission.yaml:{line}:27" in message.replace(" ", "")
    assert "Expected a defense that an installed package registers, got 'dim' (none is installed)." in message
    install(tmp_path / "site", "foolbench-dimmer", "1.2", ENTRIES)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert inside("validate", path).returncode == 0
    shown = inside("list", "defenses").stdout
    assert "package: dim" in shown
    assert "foolbench-dimmer 1.2" in shown
    for kind in ("gaussian_blur", "randomized_smoothing", "ensemble", "package"):
        assert kind in shown


def test_the_schema_describes_every_kind():
    definitions = json_schema()["$defs"]
    assert definitions["Ensemble"]["properties"]["models"]["items"]["$ref"] == "#/$defs/OnnxFile"
    assert set(definitions["OnnxModel"]["properties"]) == {*definitions["OnnxFile"]["properties"], "kind"}
    assert definitions["PackageDefense"]["properties"]["args"]["type"] == "object"
    assert OnnxDefense.__name__ in definitions
    assert PackageDefense.model_fields["args"].is_required() is False
    assert SUBMISSION["schema"] == 1
