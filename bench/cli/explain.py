"""What each error code means: `foolbench explain FB104`."""

from __future__ import annotations

from .explain_given import GIVEN
from .explanation import Explanation

EXPLANATIONS: dict[str, Explanation] = {
    **GIVEN,
    # The model while it runs
    "FB300": Explanation(
        "answers that are no probabilities",
        3,
        "The model answered NaN, negative numbers, or rows that sum to more than 1. The usual causes: `output: "
        "probabilities` for a graph that returns logits, a wrong `scale` that makes the network overflow, or "
        "damaged weights.",
    ),
    "FB301": Explanation(
        "the model or a defense failed",
        3,
        "It raised an error while it answered. What was finished is kept; run the model by itself on images of "
        "the battery's shape to find the cause.",
    ),
    "FB302": Explanation(
        "answers that change",
        3,
        "The same images, asked twice, got different answers, so no result could be replayed. Take random operators "
        "and training-time dropout out of the network (model.eval() before the export); randomness belongs in a "
        "defense, where it is measured.",
    ),
    # The surroundings
    "FB400": Explanation(
        "data is missing",
        4,
        "The battery's data is not where it should be. A shipped battery's data starts at the folder in the "
        "environment variable FOOLBENCH_DATA; the paths in a battery of your own start at its YAML. digits-v1 "
        "needs no download; with FOOLBENCH_DOWNLOAD=1 in the environment MNIST and CIFAR-10 are fetched; ImageNet may "
        "not be passed on. In that folder lie, for mnist-v1, the four IDX files, plain or .gz, in MNIST/raw/ (as "
        "torchvision keeps them) or mnist/; for cifar10-v1, cifar-10-batches-py/ (as torchvision keeps it); for "
        "imagenet-v1, imagenet/val/, either with a folder for each class, named by its WordNet id, or with all "
        "50,000 files and, beside them, val.txt (lines of name and class index) or LOC_val_solution.csv.",
    ),
    "FB401": Explanation(
        "data was altered",
        4,
        "The evaluation images differ from those that the battery was made with, so results could not be "
        "compared. Fetch the original data. In a battery of your own, state the new digest after changing data, "
        "shape or number of images.",
    ),
    "FB402": Explanation(
        "the disk is full",
        4,
        "There was no room to write a result. What was finished is kept: free some space and run the same command "
        "again.",
    ),
    "FB403": Explanation(
        "out of memory",
        4,
        "Lack of memory halves the number of images that are asked about at once, down to one, and the run goes on. "
        "What stops it is what is never halved: one image, the network itself, or the images that an attack holds, "
        "such as a population. Close other programs, use fewer workers (--workers 1, which a GPU has anyway) or "
        "another device (--device cpu). A small --max-batch leaves more room for the rest, and is a way out too where "
        "the system ends the process without a word, as Linux does when its memory is full. Finished shards are "
        "kept for the same --max-batch and device; with others a run begins anew.",
    ),
    "FB404": Explanation(
        "no such device",
        4,
        "The device that --device asks for cannot be used here. --device auto takes a GPU where there is one and the "
        "CPU otherwise; `nvidia-smi` shows whether the driver works.",
    ),
    "FB405": Explanation(
        "the folder is in use",
        4,
        "Another foolbench is at work in that folder. Wait for it, or choose another folder with --out.",
    ),
    "FB406": Explanation(
        "the folder belongs to another run",
        2,
        "A run is only ever resumed with the same submission, battery and foolbench; the message lists what "
        "differs. Choose another folder with --out, or remove the old run.",
    ),
    "FB407": Explanation(
        "the network failed",
        4,
        "Something had to be fetched (timm's weights for `pretrained: true`, a data set with FOOLBENCH_DOWNLOAD=1) and "
        "could not be. Try again; or put the weights beside the submission and name them with `weights`, the data "
        "where `foolbench explain FB400` says.",
    ),
    "FB408": Explanation(
        "data does not fit",
        4,
        "A data file cannot be read, or its images, labels or shape are not what the battery states. An .npz "
        "holds `x` uint8 and `y` whole numbers; a folder's CSV has the columns file and class_index; images have "
        "8 bits a channel.",
    ),
    "FB409": Explanation(
        "interrupted",
        130,
        "The run was stopped (143 after SIGTERM). Finished shards are kept: the same command goes on, and its "
        "record is the one that an uninterrupted run gives.",
    ),
    "FB410": Explanation(
        "a folder cannot be written to",
        4,
        "Results could not be written for another reason than lack of room. Choose another folder with --out, or "
        "mend its permissions.",
    ),
    # Single attacks and foolbench itself
    "FB500": Explanation(
        "an attack spent more than its budget",
        5,
        "Queries and gradients are counted outside the attack. One that asks for more than its battery entry "
        "grants is stopped, its entry is left unmeasured, and the run is not rankable.",
    ),
    "FB501": Explanation(
        "an attack failed",
        5,
        "The attack raised an error, or returned images of another shape than it was asked for. Its entry is left "
        "unmeasured, the others count, and the run is not rankable.",
    ),
    "FB502": Explanation(
        "an attack could not be measured",
        5,
        "A white-box attack needs gradients, and this victim has none. The best transfer attack from the "
        "battery's panel stands in for it, and for FGSM also the attack itself along finite differences, where "
        "the battery grants the queries (`fgsm.finite`); such a row is marked `surrogate`. Where the battery has "
        "neither, the cell stays empty, with this reason.",
    ),
    "FB503": Explanation(
        "an attack that this victim makes needless",
        0,
        "No failure. Searches by labels alone run against victims whose answers carry hardly more than a label, which "
        "blind a search by probabilities. This one gives its probabilities, so the attacks that see them say more; a "
        "row that lists both counts those alone, and nothing is left out of the ranking for it. A battery of your own "
        "may say `when: always`.",
    ),
    "FB700": Explanation(
        "a bug in foolbench",
        70,
        "An error that foolbench did not foresee. The log that the message names holds the traceback; --debug "
        "shows it at once. Please report it with the command and the log.",
    ),
}
