"""What the error codes mean that are about what a user hands in: YAML, the command line, model files."""

from __future__ import annotations

from .explanation import Explanation

GIVEN: dict[str, Explanation] = {
    # Submissions, batteries, the command line
    "FB100": Explanation(
        "a YAML file cannot be read",
        2,
        "The path leads to nothing, to a folder, to a device, to a file that may not be read, or to one far "
        "larger than a submission (256 KiB) or a battery (1 MiB) ever is. Name the YAML file itself; models and "
        "data stand in files of their own, which the YAML names.",
    ),
    "FB101": Explanation(
        "not YAML",
        2,
        "The file is not text, not UTF-8, or breaks YAML's grammar at the line shown, or a little above it: an "
        "open bracket or quote, a tab as indentation, a colon inside unquoted text. One file holds one document. "
        "Tags such as !!python/object are never acted on: a YAML file cannot run code.",
    ),
    "FB102": Explanation(
        "no `key: value` lines",
        2,
        "The file is empty, or it is a list or one single value. A submission and a battery are mappings that "
        "begin with `schema: 1`. `foolbench schema` prints what a submission may hold, for an editor to complete.",
    ),
    "FB103": Explanation(
        "an unknown key",
        2,
        "Keys that mean nothing are refused, since a misspelt one would silently leave its default in force. The "
        "message names the nearest key that is known at that place, or lists them all.",
    ),
    "FB104": Explanation(
        "a wrong value",
        2,
        'The value at that place is of another type or outside its range. Types are strict: 3 is a number, "3" is '
        "text, and a list is written in brackets even if it holds one value. Of a defense, a value may also be wrong "
        "for this battery or this model alone, such as a window larger than the images; that shows when it is built.",
    ),
    "FB105": Explanation(
        "a key is missing",
        2,
        "There is no default for what only you can know, such as whether the model returns logits or "
        "probabilities. The line shown is that of the mapping which lacks the key.",
    ),
    "FB106": Explanation(
        "a key is given twice",
        2,
        "Most YAML readers silently keep the last one; here both lines are shown, so that you can keep the one "
        "you mean.",
    ),
    "FB107": Explanation(
        "aliases or nesting out of hand",
        2,
        "Anchors (&) and aliases (*) are read, but not where they contain themselves or expand to more than "
        "10,000 values, and neither are hundreds of levels of nesting: a small file could fill the memory that "
        "way.",
    ),
    "FB108": Explanation(
        "a file that the YAML names is not there",
        2,
        "Paths start at the folder of the YAML file, not at the folder you work in. Upper and lower case count.",
    ),
    "FB109": Explanation(
        "a path that leaves the folder",
        2,
        "A submission is a folder that can be sent to someone else, so the files it names lie inside it: no "
        "absolute paths, no `..`, no links that lead out. Copy the file beside the YAML.",
    ),
    "FB110": Explanation(
        "an unknown battery",
        2,
        "`battery` is one of those that `foolbench list batteries` shows, or the path of a YAML file of your own, "
        "such as ./my-battery.yaml (with a slash or the ending .yaml).",
    ),
    "FB111": Explanation(
        "another version of the format",
        2,
        "`schema` is the version of the YAML's format. This foolbench reads version 1; a higher one was written "
        "for a newer foolbench.",
    ),
    "FB112": Explanation(
        "no leaderboard can be made of that",
        2,
        "One of the runs named cannot be put on a leaderboard: it is no run folder, or its record does not validate.",
    ),
    "FB113": Explanation(
        "an unknown option value",
        2,
        "An option or an argument is one of a few words; the message lists them, and the fix has the nearest.",
    ),
    "FB114": Explanation(
        "a command line that is not understood",
        2,
        "A command or an option has another name, lacks its value, or has one of another type. The command with "
        "--help lists what it takes.",
    ),
    "FB115": Explanation(
        "a run whose images cannot be used",
        2,
        "--run names the folder of a finished evaluation, with record.json and evidence/, on images of the same shape "
        "and with as many classes. The images may have been made on another model.",
    ),
    "FB116": Explanation(
        "an attack that cannot be used",
        2,
        "A package registers an attack (foolbench.attacks.spec.Attack) by an entry point of the group "
        "foolbench.attacks, under the attack's own name. It must import, be an Attack, and have a name that no other "
        "has. `foolbench list attacks` shows all of them; foolbench.attacks.checks holds the contract. Of an attack in "
        "foolbench itself, attacks/NAME.py declares ATTACK, and NAMES in attacks/__init__.py has its name; "
        "the attacks beside it are examples.",
    ),
    "FB117": Explanation(
        "an argument that means nothing",
        2,
        "An argument of `foolbench.bench.evaluate`, `read_battery` or `read_submission`, or the option of that name, "
        "has a value or a type that no run can have, or is for torch modules only and stands beside a submission, "
        "which says the same itself. Nothing was done yet; `help(foolbench.bench.evaluate)` has all arguments.",
    ),
    # Model files
    "FB200": Explanation(
        "the model file is missing",
        2,
        "The file was not there when the model was loaded. Paths start at the folder of the YAML file that names it: "
        "a submission's for its model, a battery's for its panel.",
    ),
    "FB201": Explanation(
        "another sha256",
        2,
        "The file differs from the one whose sha256 the YAML states: it was altered, cut short, or replaced. If "
        "the new file is the right one, write its sha256, which the message gives, into the YAML.",
    ),
    "FB202": Explanation(
        "an HTML page instead of a model",
        2,
        "The file begins like a web page (or like a Git LFS pointer): a download saved the page around the file, "
        "or an error. Fetch the raw file; from a Git LFS repository, `git lfs pull`.",
    ),
    "FB203": Explanation(
        "a pickle",
        2,
        "Loading a pickle (.pt, .pth, .bin, .pkl) can run any code, so foolbench never does. Export the model to "
        "ONNX with torch.onnx.export, or save a timm model's weights with safetensors.torch.save_file.",
    ),
    "FB204": Explanation(
        "a file that is damaged or cut short",
        2,
        "The file begins like a model and cannot be parsed to its end. Fetch or export it again and compare its size.",
    ),
    "FB205": Explanation(
        "custom operators",
        2,
        "The graph uses operators outside ONNX's own sets, which would need code of their own to run. Export it "
        "with standard operators only.",
    ),
    "FB206": Explanation(
        "tensors outside the folder",
        2,
        "The graph keeps tensors in other files (ONNX external data), and one of these is missing or lies outside "
        "the submission's folder. Put it beside the graph, or save the model as one file.",
    ),
    "FB207": Explanation(
        "another number of classes",
        2,
        "The model's output is not as long as the battery has classes (one more where `reject_index` names a "
        '"none of these"). Choose the battery that the model was trained for, or state `output_name` or '
        "`num_classes`. Of a defense: a graph that preprocesses returns an image of the same shape, one that detects "
        "one number an image, or two.",
    ),
    "FB208": Explanation(
        "which output?",
        2,
        "The graph has several outputs, or none of the name given. State `output_name`: the one of shape (n, classes).",
    ),
    "FB209": Explanation(
        "an input that does not fit",
        2,
        "The graph's input has another name, type or shape than the submission's `input` leads to. Check `size`, "
        "`layout` (nchw, nhwc or flat) and the channels.",
    ),
    "FB210": Explanation(
        "not supported",
        2,
        "The file is a model, of a kind that cannot be run here: the message says which part of it and why.",
    ),
    "FB211": Explanation(
        "a backend that cannot answer for the model",
        2,
        "--backend named an implementation that cannot run this model, or whose answers differ from the model's own by "
        "more than rounding. Without the option a fixed rule chooses one that agrees.",
    ),
}
