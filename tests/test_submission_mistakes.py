"""YAML in: every bad submission with its exact message and line, whatever is typed into it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import get_args

import pytest
import yaml
from foolbench.bench.cli.explain import EXPLANATIONS
from foolbench.bench.errors import InvalidInput
from foolbench.bench.submission.defenses import Defense
from foolbench.bench.submission.submission import GivenSubmission, read_submission
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from valid_submission import VALID, folder_of, problems, shown


def test_a_real_file_gets_all_its_errors_at_once_in_order(tmp_path):
    text = """\
# comment
schema: 2
naem: My net
authors: A. Author
battery: digit-v1
model:
  kind: onx
  pth: nope.onnx
  sha256: abc
  input: {size: [8], mean: 0.5, std: [0.0], scale: 2, layuot: nhwc}
  output: logit
  output: logits
defenses:
  - {kind: bit_depth, bits: three}
  - {kind: jpeg, quality: 200}
  - {knd: median, size: 40}
  - {kind: onnx, path: ../x.onnx}
  - 3
links: {paper: "javascript:alert(1)"}
colour: !!python/object/apply:os.system ["touch owned"]
"""
    found = [shown(problem) for problem in problems(folder_of(tmp_path, text))]
    batteries = re.search("Expected (.*) or the path", found[3])
    assert batteries is not None
    assert found == [
        "2:9 FB111 schema: Expected schema 1, got schema 2. | schema: 1, or update foolbench",
        "3:1 FB103 naem: Expected the key `name`, got the unknown key `naem`. | name: My net",
        "4:10 FB104 authors: Expected a list, got the text 'A. Author'. | authors: [A. Author]",
        f"5:10 FB110 battery: Expected {batteries[1]} or the path of a YAML file, got 'digit-v1'. | battery: digits-v1",
        "7:9 FB104 model.kind: Expected onnx or timm, got the text 'onx'. | kind: onnx",
        "8:3 FB103 model.pth: Expected the key `path`, got the unknown key `pth`. | path: nope.onnx",
        "9:11 FB104 model.sha256: Expected the 64 hexadecimal digits of a sha256, got 3 characters."
        " | paste what `sha256sum FILE` prints",
        "10:17 FB104 model.input.size: Expected 2 numbers, got 1. | size: [28, 28]",
        "10:28 FB104 model.input.mean: Expected a list, got 0.5. | mean: [0.5]",
        "10:39 FB104 model.input.std[0]: Expected a number above 0, got 0.0. | write 1.0 here",
        "10:52 FB104 model.input.scale: Expected 1 or 255, got 2. | scale: 255",
        "10:55 FB103 model.input.layuot: Expected the key `layout`, got the unknown key `layuot`. | layout: nhwc",
        "11:11 FB104 model.output: Expected logits or probabilities, got the text 'logit'. | output: logits",
        "12:3 FB106 model.output: Expected `output` once, got it twice, first on line 11. | keep one of the two",
        "14:29 FB104 defenses[0].bits: Expected a whole number, got the text 'three'. | bits: 3",
        "15:27 FB104 defenses[1].quality: Expected a number of at most 100, got 200. | quality: 100",
        "16:6 FB103 defenses[2].knd: Expected the key `kind`, got the unknown key `knd`. | kind: median",
        "16:25 FB104 defenses[2].size: Expected a number of at most 15, got 40. | size: 15",
        "17:5 FB105 defenses[3].role: Expected the key `role`, got none. | role: preprocess",
        "17:24 FB109 defenses[3].path: Expected a path inside the YAML's folder, without `..`, got '../x.onnx'."
        " | put the file beside the YAML and write its name alone",
        "18:5 FB104 defenses[4]: Expected a mapping (`key: value`), got 3. | write a mapping (`key: value`) here",
        "19:16 FB104 links.paper: Expected a web address, got 'javascript:alert(1)'. | begin with https://",
        "20:9 FB101 colour: Expected plain YAML, got the tag !!python/object/apply:os.system, which is never read."
        " | remove the tag",
    ]
    assert not Path("owned").exists()


KINDS = " or ".join(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Defense)[0]))
ONE = [  # what is replaced in VALID, by what, and the one problem that follows
    ("name: LeNet-5 behind 3-bit squeezing", 'name: "a\\u202eb"',
     "2:7 FB104 name: Expected printable text, got 'a\\u202eb'. | use letters, digits, punctuation, spaces"),
    ("name: LeNet-5 behind 3-bit squeezing", "name: no", "2:7 FB110"),
    ("authors: [A. Author]", "authors: []",
     "3:10 FB104 authors: Expected at least 1 value, got 0. | authors: [A. Author]"),
    ("authors: [A. Author]\n", "", "1:1 FB105 authors: Expected the key `authors`, got none. | authors: [A. Author]"),
    ("  output: logits\n", "", "5:1 FB105 model.output: Expected the key `output`, got none. | output: logits"),
    ("path: lenet.onnx", "path: lenett.onnx",
     "7:9 FB108 model.path: Expected a file, got lenett.onnx, which is not there. | did you mean lenet.onnx?"),
    ("path: lenet.onnx", "path: /etc/passwd",
     "7:9 FB109 model.path: Expected a path relative to the YAML's folder, got '/etc/passwd'."
     " | put the file beside the YAML and write its name alone"),
    ("path: lenet.onnx", "path: https://example.org/x.onnx",
     "7:9 FB109 model.path: Expected a path relative to the YAML's folder, got 'https://example.org/x.onnx'."
     " | put the file beside the YAML and write its name alone"),
    ("path: lenet.onnx", "path: link.onnx",
     "7:9 FB109 model.path: Expected a file inside the YAML's folder, got 'link.onnx', which is a link out of it."
     " | put the file beside the YAML and write its name alone"),
    ("2f782beca6c4", "3f782beca6c4",
     "8:11 FB201 model.sha256: Expected lenet.onnx to have the sha256 3f782beca6c4…, got 2f782beca6c4…."
     " | fetch the file again, or, if it is the right one,"
     " sha256: 2f782beca6c497e09ee1b67bd6a1202048f19e97f7e1364a58d415ce7b3ecd9e"),
    ("mean: [0.0], std: [1.0]", "mean: [0, 0, 0], std: [1.0, 1]",
     "9:57 FB104 model.input.std: Expected as many numbers as mean has (3), or one, got 2."
     " | give mean and std one number a channel"),
    ("mean: [0.0]", "mean: .nan",
     "9:41 FB104 model.input.mean: Expected a finite number, got '.nan'. | write a finite number"),
    ("mean: [0.0]", "mean: [1_000]",
     "9:42 FB104 model.input.mean[0]: Expected a number, got the text '1_000'. | write 1000 here"),
    ("bits: 3", 'bits: "3"', "14:29 FB104 defenses[0].bits: Expected a whole number, got the text '3'. | bits: 3"),
    ("bits: 3", "bits: 3.5", "14:29 FB104 defenses[0].bits: Expected a whole number, got 3.5. | bits: 4"),
    ("bits: 3", "bits: true", "14:29 FB104 defenses[0].bits: Expected a whole number, got true. | bits: 3"),
    ("bits: 3", "bits: ", "14:28 FB104 defenses[0].bits: Expected a whole number, got nothing. | bits: 3"),
    ("bits: 3", "<<: {}",
     "14:5 FB105 defenses[0].bits: Expected the key `bits`, got none. | bits: 3"),
    ("kind: median", "kind: [median]",
     f"16:11 FB104 defenses[2].kind: Expected {KINDS}, got a list of 1. | kind: median"),
    # of an unknown kind nothing else is asked; of one that its keys give away, what they hold is checked
    ("kind: jpeg, quality: 75", "kind: foo",
     f"15:12 FB104 defenses[1].kind: Expected {KINDS}, got the text 'foo'. | write one of these after `kind: `"),
    ("kind: jpeg, quality: 75", "kind: foo, sigma: 0.1",
     f"15:12 FB104 defenses[1].kind: Expected {KINDS}, got the text 'foo'. | kind: gaussian_blur"),
    ("kind: jpeg, quality: 75", "kind: foo, quality: 75",
     f"15:12 FB104 defenses[1].kind: Expected {KINDS}, got the text 'foo'. | kind: jpeg"),
    ("kind: jpeg, quality: 75", "images: 9",
     f"15:5 FB105 defenses[1].kind: Expected the key `kind` ({KINDS}), got none. | kind: pca"),
    ("links: {paper: \"https://example.org/paper\", code: \"https://example.org/code\"}", "links:",
     "19:7 FB104 links: Expected a mapping (`key: value`), got nothing. | remove it"),
    ("role: preprocess", "role: preprocessor",
     "18:24 FB104 defenses[3].role: Expected preprocess or detector, got the text 'preprocessor'. | role: preprocess"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), ONE, ids=range(len(ONE)))
def test_one_mistake_one_problem(tmp_path, tmp_path_factory, old, new, expected):
    assert VALID.count(old) == 1
    outside = tmp_path_factory.mktemp("outside") / "secret.onnx"
    outside.write_bytes(b"secret")
    (tmp_path / "link.onnx").symlink_to(outside)
    path = folder_of(tmp_path, VALID.replace(old, new))
    if "name: no" in new:  # in YAML 1.2, as people mean it, `no` is text
        assert read_submission(path).spec.name == "no"
        return
    assert expected in [shown(problem) for problem in problems(path)]
    assert len(problems(path)) == 1 + ("<<" in new)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "got nothing. | remove it, or defenses: [{kind: bit_depth, bits: 3}]"),
        (" {}", "got a mapping. | defenses: [{kind: bit_depth, bits: 3}]"),
        (" 3", "got 3. | defenses: [{kind: bit_depth, bits: 3}]"),
        ("\n  kind: jpeg\n  quality: 30", "got a mapping. | defenses: [{kind: jpeg, quality: 30}]"),
        (
            " {kind: package, name: x, args: {text: '" + "a" * 100 + "'}}",
            "got a mapping. | begin each value of the list with `- `, on a line of its own",
        ),
    ],
)
def test_defenses_that_are_no_list(tmp_path, given, expected):
    start, _ = VALID.split("defenses:")
    (problem,) = problems(folder_of(tmp_path, f"{start}defenses:{given}\n"))
    assert (problem.code, problem.where.key) == ("FB104", "defenses")
    assert f"{problem.message} | {problem.fix}" == f"Expected a list, {expected}"


TIMM = "schema: 1\nname: n\nauthors: [a]\nbattery: digits-v1\nmodel: {kind: timm, name: resnet18, %s}\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("num_classes: 10", "5:8 FB104 model: Expected either `weights` or `pretrained: true`, got neither."),
        ("pretrained: yes", "5:49 FB104 model.pretrained: Expected true or false, got the text 'yes'."),
        ("pretrained: true", "5:27 FB104 model.name: Expected a name with its weights' tag, got 'resnet18'."),
        ("weights: lenet.onnx", "FB203 model.weights: Expected a .safetensors file, got 'lenet.onnx': pickles"),
        ("weights: w.safetensors, args: {checkpoint_path: evil.pth}", "FB104 model.args.checkpoint_path: Expected"),
        ("weights: w.safetensors, args: {a: [b]}", "FB104 model.args.a[0]: Expected a whole number, got the text"),
    ],
)  # fmt: skip
def test_timm_models(tmp_path, given, expected):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    found = [shown(problem) for problem in problems(folder_of(tmp_path, TIMM % given))]
    assert len(found) == 1
    assert expected in found[0]


def test_a_timm_name_cannot_fetch_code_or_pickles_from_elsewhere(tmp_path):
    text = (TIMM % "weights: w.safetensors").replace("resnet18", '"hf-hub:someone/something"')
    assert [p.where.key for p in problems(folder_of(tmp_path, text))] == ["model.name", "model.weights"]


BROKEN = "Expected YAML, got text that breaks its grammar "
WHOLE = [
    (b"", "FB102", 1, "Expected `key: value` lines, got an empty file."),
    (b"# only a comment\n", "FB102", 1, "Expected `key: value` lines, got an empty file."),
    (b"- 1\n- 2\n", "FB102", 1, "Expected `key: value` lines, got a list."),
    (b"\n\nhello\n", "FB102", 3, "Expected `key: value` lines, got one single value."),
    (b"schema: 1\nname: a: b\n", "FB101", 2, BROKEN + "(mapping values are not allowed here)."),
    (b"schema: 1\nmodel:\n\tkind: onnx\n", "FB101", 3, BROKEN + "(found character '\\t' that cannot start any token)."),
    (b"schema: 1\nauthors: [a, b\nname: x\n", "FB101", 3, BROKEN + "(expected ',' or ']', but got ':')."),
    (b"schema: 1\n---\nschema: 1\n", "FB101", 2, BROKEN + "(but found another document)."),
    (b"schema: 1\nname: *star\n", "FB101", 2, BROKEN + "(found undefined alias 'star')."),
    (b"schema: 1\nname: \x07\n", "FB101", 2, "Expected YAML, got the character U+0007, which is not allowed."),
    (b"schema: 1\nname: caf\xe9\n", "FB101", 2, "Expected UTF-8 text, got the byte 0xe9."),
    ("schema: 1\n".encode("utf-16"), "FB101", 1, "Expected UTF-8 text, got UTF-16."),
    (b"\x08\x07\x12\x00pytorch", "FB101", None, "Expected YAML text, got a binary file."),
    (b"\n<!DOCTYPE html><html></html>", "FB101", 1, "Expected YAML, got an HTML page."),
    (b"a: &a [*a]\n", "FB107", 1,
     "Expected aliases (*) that end, got one inside its own anchor (&), which never ends."),
    (b"a: " + b"[" * 5000, "FB107", 1, "Expected a few levels, got YAML too deep to be read."),
    (b"x: 1\n" * 2_000_000, "FB100", None, "Expected at most 256 KiB of YAML, got 9.5 MiB."),
]  # fmt: skip


@pytest.mark.parametrize(("content", "code", "line", "message"), WHOLE, ids=range(len(WHOLE)))
def test_a_file_that_is_no_submission_at_all(tmp_path, content, code, line, message):
    (problem,) = problems(folder_of(tmp_path, content))
    assert (problem.code, problem.where.line, problem.message) == (code, line, message)
    assert problem.fix
    assert problem.where.file == tmp_path / "submission.yaml"


def test_files_that_cannot_be_read(tmp_path):
    path = folder_of(tmp_path)
    (folder,) = problems(tmp_path)
    assert (folder.message, folder.fix) == ("Expected a YAML file, got a folder.", f"name the file: {path}")
    (missing,) = problems(tmp_path / "submision.yaml")
    assert (missing.code, missing.fix) == ("FB100", f"did you mean {path}?")
    os.mkfifo(tmp_path / "pipe")
    (pipe,) = problems(tmp_path / "pipe")
    assert pipe.message == "Expected a YAML file, got a device or a pipe."
    (name,) = problems(Path("nul\0"))
    assert name.code == "FB100"
    (long,) = problems(tmp_path / ("x" * 5000))
    assert "cannot be read" in long.message


def test_what_blows_up_is_refused_at_once(tmp_path):
    laughs = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 300))
    long = f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 5000}]\n"
    for text in (laughs, long):
        start = time.perf_counter()
        (problem,) = problems(folder_of(tmp_path, text))
        assert time.perf_counter() - start < 1
        assert problem.code == "FB107"
        assert problem.message.startswith("Expected aliases (*) to expand to at most 10,000 values, got ")
    path = folder_of(tmp_path, "".join(f"k{i}: 1\nk{i}: 2\n" for i in range(4000)))
    start = time.perf_counter()
    assert 100 <= len(problems(path)) <= 300
    assert time.perf_counter() - start < 10
    harmless = VALID.replace("mean: [0.0], std: [1.0]", "mean: &one [1.0], std: *one")
    assert read_submission(folder_of(tmp_path, harmless)).spec.model.kind == "onnx"


def _keys(node: yaml.Node) -> list[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        return [key for key, _ in node.value] + [inner for _, value in node.value for inner in _keys(value)]
    return [inner for item in node.value for inner in _keys(item)] if isinstance(node, yaml.SequenceNode) else []


_root = yaml.compose(VALID, yaml.SafeLoader)
assert _root is not None
KEYS = _keys(_root)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), how=st.sampled_from(["drop", "double", "swap", "replace"]), data=st.data())
def test_any_misspelt_key_is_reported_on_its_line_with_the_right_one(tmp_path, key, how, data):
    name = key.value
    at = data.draw(st.integers(0, len(name) - 1))
    following = name[at + 1 : at + 2]
    misspelt = name[:at] + {
        "drop": following, "double": name[at] * 2 + following, "swap": following + name[at], "replace": "x" + following,
    }[how] + name[at + 2 :]  # fmt: skip
    lines = VALID.split("\n")
    row, column = key.start_mark.line, key.start_mark.column
    if misspelt == name or re.search(rf"\b{misspelt}:", VALID):
        return
    lines[row] = lines[row][:column] + misspelt + lines[row][column + len(name) :]
    (problem, *others) = problems(folder_of(tmp_path, "\n".join(lines)))
    assert (problem.code, problem.where.line, problem.where.column) == ("FB103", row + 1, column + 1)
    assert problem.message == f"Expected the key `{name}`, got the unknown key `{misspelt}`."
    assert problem.fix.startswith(f"{name}: ")
    assert problem.where.source == lines[row]
    assert not others


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=200), st.binary(max_size=200)), at=st.integers(0, len(VALID)))
@example(text="!!int three", at=VALID.index("10\n"))
@example(text='"\\ud800"', at=VALID.index("LeNet"))
@example(text="? [a, b]\n: c\n", at=0)
@example(text="9" * 5000, at=VALID.index("10\n"))
def test_whatever_is_typed_into_it_only_problems_come_out(tmp_path, text, at):
    typed = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    path = folder_of(tmp_path, VALID[:at].encode() + typed + VALID[at:].encode())
    try:
        assert isinstance(read_submission(path), GivenSubmission)
    except InvalidInput as error:
        for problem in error.problems:
            assert problem.code in EXPLANATIONS
            assert problem.message.endswith((".", "?"))
            assert problem.fix
            str(problem).encode()
