"""Defenses: plain functions from Classifier to Classifier. A list of defenses is their composition.

Each returns a new Classifier and leaves the given one as it was. What part of its gradient is true and what part is a
declared stand-in is said in its docstring and, at run time, in `Classifier.surrogates`.
"""

from .bit_depth import bit_depth
from .density import density
from .energy import energy
from .ensemble import ensemble
from .feature_squeezing import feature_squeezing
from .gaussian_blur import gaussian_blur
from .gaussian_noise import gaussian_noise
from .jpeg import jpeg
from .mahalanobis import mahalanobis
from .max_softmax import max_softmax
from .median import median
from .onnx_detector import onnx_detector
from .onnx_preprocess import onnx_preprocess
from .packaged import packaged
from .pca import pca
from .random_resize_pad import random_resize_pad
from .randomized_smoothing import randomized_smoothing
from .total_variation import total_variation

__all__ = [
    "bit_depth",
    "density",
    "energy",
    "ensemble",
    "feature_squeezing",
    "gaussian_blur",
    "gaussian_noise",
    "jpeg",
    "mahalanobis",
    "max_softmax",
    "median",
    "onnx_detector",
    "onnx_preprocess",
    "packaged",
    "pca",
    "random_resize_pad",
    "randomized_smoothing",
    "total_variation",
]
