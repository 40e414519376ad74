"""The panel's classifiers that are not networks, after Papernot et al. 2016 (section 3), as plain ONNX graphs.

All take images `(n, c, h, w)` float32 in [0, 1] and labels `(n,)` in 0..9, and give the bytes of an ONNX file. Written
node by node: a converter would write its own version into the file and be one more thing to install.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from ...bench.errors import Unexpected
from .graph import model_bytes

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def logistic_regression(images: Images, labels: Labels, *, inverse_penalty: float = 1.0) -> bytes:
    """Multinomial logistic regression with an L2 penalty of 1 / `inverse_penalty`; output `logits`. Not random."""
    model = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(_rows(images), labels)
    return _linear(model, _shape(images), "logistic regression")


def linear_svm(images: Images, labels: Labels, *, inverse_penalty: float = 0.1) -> bytes:
    """Linear support vector machine, one against the rest; output `logits`: the ten signed distances to the margins.

    Squared hinge loss and the primal problem, whose solution does not depend on a seed.
    """
    primal: Any = False  # its type is inferred from the default, "auto"
    model = LinearSVC(C=inverse_penalty, dual=primal, max_iter=5000).fit(_rows(images), labels)
    return _linear(model, _shape(images), "linear support vector machine")


def _linear(model: LogisticRegression | LinearSVC, shape: tuple[int, int, int], title: str) -> bytes:
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    weights = {"weight": np.asarray(model.coef_, np.float32), "bias": np.asarray(model.intercept_, np.float32)}
    return model_bytes(nodes, weights, shape=shape, output="logits", classes=len(weights["bias"]), title=title)


def nearest_neighbours(images: Images, labels: Labels, *, neighbours: int = 5, pool: int = 1) -> bytes:
    """k-nearest neighbours by Euclidean distance; output `probabilities`: each class's share of the neighbours.

    One matrix product: the order of the distances |x - t|² over t is that of 2 x·t - |t|² reversed. The training
    images must be 8-bit ones (ValueError otherwise); they are stored as uint8. With `pool` images are compared by the
    means of their `pool` x `pool` squares (those of the training images rounded to 8 bits): more of them fit in a file.
    """
    if not np.array_equal(_eight_bit(images) / np.float32(255), images):
        raise Unexpected("images of 8 bits (uint8 / 255)", "others", "round them")
    shape = _shape(images)
    if pool > 1:
        n, channels, height, width = images.shape
        squares = images.reshape(n, channels, height // pool, pool, width // pool, pool)
        images = (_eight_bit(squares.mean((3, 5))) / np.float32(255)).astype(np.float32)
    stored = _eight_bit(_rows(images))
    classes = int(labels.max()) + 1
    weights = {
        "training_images": stored.T,
        "scale": np.float32(2 / 255),
        "norms": (_rows(images).astype(np.float64) ** 2).sum(axis=1).astype(np.float32),
        "votes": np.eye(classes, dtype=np.float32)[labels],
        "k": np.array([neighbours], np.int64),
    }
    before = [helper.make_node("AveragePool", ["input"], ["means"], kernel_shape=[pool, pool], strides=[pool, pool])]
    nodes = [
        *(before if pool > 1 else []),
        helper.make_node("Flatten", ["means" if pool > 1 else "input"], ["flat"], axis=1),
        helper.make_node("Cast", ["training_images"], ["training_floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["training_floats", "scale"], ["twice"]),
        helper.make_node("MatMul", ["flat", "twice"], ["products"]),
        helper.make_node("Sub", ["products", "norms"], ["closeness"]),
        helper.make_node("TopK", ["closeness", "k"], ["closest", "rows"], axis=1, largest=1, sorted=1),
        helper.make_node("Gather", ["votes", "rows"], ["ballots"], axis=0),
        helper.make_node("ReduceMean", ["ballots"], ["probabilities"], axes=[1], keepdims=0),
    ]
    title = f"{neighbours}-nearest neighbours"
    return model_bytes(nodes, weights, shape=shape, output="probabilities", classes=classes, title=title)


@dataclass(frozen=True)
class Forest:
    """The size of a random forest (Breiman 2001)."""

    trees: int = 40
    leaves: int = 80
    """At most so many leaves a tree, grown best first."""


def random_forest(images: Images, labels: Labels, forest: Forest, *, seed: int) -> bytes:
    """Random forest; output `probabilities`: the mean over the trees of the class shares in the leaf."""
    model = RandomForestClassifier(forest.trees, max_leaf_nodes=forest.leaves, random_state=seed)
    model.fit(_rows(images), labels)
    columns: dict[str, Any] = {}
    for index, tree in enumerate(model.estimators_):
        _tree(tree, index, len(model.estimators_), columns)
    classes = [int(label) for label in model.classes_]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node(
            "TreeEnsembleClassifier",
            ["flat"],
            ["label", "probabilities"],
            domain="ai.onnx.ml",
            post_transform="NONE",
            classlabels_int64s=classes,
            **columns,
        ),
    ]
    title = f"random forest of {forest.trees} trees"
    return model_bytes(nodes, {}, shape=_shape(images), output="probabilities", classes=len(classes), title=title)


def _tree(fitted: DecisionTreeClassifier, index: int, trees: int, columns: dict[str, Any]) -> None:
    """Append one tree's nodes, and its leaves' class shares over the number of trees, to the operator's attributes."""
    tree = fitted.tree_
    leaf = tree.children_left < 0
    count = tree.node_count
    table = {
        "nodes_treeids": [index] * count,
        "nodes_nodeids": list(range(count)),
        "nodes_featureids": np.where(leaf, 0, tree.feature).tolist(),
        "nodes_values": np.where(leaf, 0, _below(tree.threshold)).tolist(),
        "nodes_modes": ["LEAF" if end else "BRANCH_LEQ" for end in leaf],
        "nodes_truenodeids": np.where(leaf, 0, tree.children_left).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, tree.children_right).tolist(),
        "nodes_missing_value_tracks_true": [0] * count,
    }
    shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
    nodes, classes = np.nonzero(shares * leaf[:, None])
    table |= {
        "class_treeids": [index] * len(nodes),
        "class_nodeids": nodes.tolist(),
        "class_ids": classes.tolist(),
        "class_weights": (shares[nodes, classes] / trees).tolist(),
    }
    for name, values in table.items():
        columns.setdefault(name, []).extend(values)


def _below(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 not above each: for a float32 x, x <= that is x <= the float64 threshold."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _eight_bit(images: Images) -> NDArray[np.uint8]:
    return np.rint(images * 255).astype(np.uint8)


def _rows(images: Images) -> Images:
    return images.reshape(len(images), -1)


def _shape(images: Images) -> tuple[int, int, int]:
    return images.shape[1], images.shape[2], images.shape[3]
